# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The firmware that the guest starts with."""

from __future__ import annotations

from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.context import Context
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.filters.base import Filter, Rejection
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.filters.files import missing
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.filters.names import local
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.host_state import HostState
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.validation import strings


class FirmwareFilter(Filter):
    """The loader and the template of the variables are there; where libvirt chooses the firmware, there is one of the kind and one with secure boot.

    What the host does not report is left to the claim.
    """

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        needed = context.request.requirements
        self.files = [(what, path) for what, path in (("loader", needed.loader), ("template of firmware variables", needed.nvram_template)) if path]

    def applies(self) -> bool:
        needed = self.context.request.requirements
        return bool(needed.loader or needed.nvram_template or needed.firmware or needed.secure_boot)

    def rejection(self, host: HostState) -> Rejection | None:
        needed, offered = self.context.request.requirements, host.mapping("firmware") or {}
        loaders = strings(f"{host.path}.firmware.loaders", offered.get("loaders"))
        files = [(what, *local(self.context, host, "firmware", path)) for what, path in self.files]
        lacks = [f"no {what} {called}" for what, own, called in files if own is None or (own not in loaders and missing(host, own))]
        if needed.firmware and offered.get("kinds") is not None and needed.firmware not in strings(f"{host.path}.firmware.kinds", offered["kinds"]):
            lacks.append(f"no {needed.firmware} firmware that libvirt could choose")
        if needed.secure_boot and offered.get("secure_boot") is False:
            lacks.append("no firmware with secure boot")
        return self.reject("firmware", f"has {'; '.join(lacks)}", ", ".join(lacks)) if lacks else None
