# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The program that runs the guest."""

from __future__ import annotations

from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.filters.base import Filter, Rejection
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.filters.files import missing
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.host_state import HostState
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.validation import sequence


class EmulatorFilter(Filter):
    """The host runs guests of this architecture and virtualization type, and has the emulator that the definition names.

    An emulator in a directory that host_facts does not look into is left to the claim.
    """

    def applies(self) -> bool:
        needed = self.context.request.requirements
        return bool(needed.emulator or needed.arch or needed.virt_type)

    def rejection(self, host: HostState) -> Rejection | None:
        needed, offered = self.context.request.requirements, host.facts.get("supported_instances")
        if offered is not None:
            pairs = {(triple[0], triple[1]) for triple in (sequence(f"{host.path}.supported_instances", item) for item in offered)}
            if not any(needed.arch in (None, arch) and needed.virt_type in (None, virt_type) for arch, virt_type in pairs):
                have = ", ".join(" ".join(pair) for pair in sorted(pairs)) or "nothing"
                need = " ".join(filter(None, (needed.arch, needed.virt_type)))
                return self.reject("virt_type", f"the guest needs {need}, the host runs {have}", need, have)
        if needed.emulator and needed.emulator not in (host.facts.get("emulators") or {}).values() and missing(host, needed.emulator):
            return self.reject("emulator", f"has no emulator {needed.emulator}", needed.emulator)
        return None
