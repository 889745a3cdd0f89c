# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The program that runs the guest."""

from __future__ import annotations

from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.filters.base import Filter, Rejection
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.filters.files import missing
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.filters.names import local
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.host_state import HostState
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.validation import sequence, strings


class EmulatorFilter(Filter):
    """The host runs guests of this architecture and virtualization type, and has the emulator that the definition names.

    An emulator in a directory that host_facts does not look into is left to the claim.
    """

    def applies(self) -> bool:
        needed = self.context.request.requirements
        return bool(needed.emulator or needed.arch or needed.virt_type)

    def rejection(self, host: HostState) -> Rejection | None:
        needed, path = self.context.request.requirements, f"{host.path}.supported_instances"
        if host.facts.get("supported_instances") is not None:
            pairs = [strings(path, triple)[:2] for triple in sequence(path, host.facts["supported_instances"])]
            if not any(needed.arch in (None, *pair[:1]) and needed.virt_type in (None, *pair[1:]) for pair in pairs):
                have = ", ".join(sorted({" ".join(pair) for pair in pairs})) or "nothing"
                need = " ".join(filter(None, (needed.arch, needed.virt_type)))
                return self.reject("virt_type", f"the guest needs {need}, the host runs {have}", need, have)
        if needed.emulator:
            own, called = local(self.context, host, "emulators", needed.emulator)
            if own is None or (own not in (host.mapping("emulators") or {}).values() and missing(host, own)):
                return self.reject("emulator", f"has no emulator {called}", needed.emulator)
        return None
