# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Bytes, as opposed to promises."""

from __future__ import annotations

from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.bases import bytes_to_fetch
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.context import Context
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.filters.base import Filter, Rejection
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.host_state import HostState
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.validation import number

_MIB = 1024**2


class DiskSpaceFilter(Filter):
    """The file system has room for the overlay, the bases that the host lacks and the growth of the disk, besides what other claims will bring.

    Nothing travels to the guest's own host: there only the growth counts.
    """

    unit = "MB"

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.needed = context.request.requirements

    def applies(self) -> bool:
        return bool(self.needed.overlay_bytes or self.needed.bases or self.needed.growth_bytes)

    def rejection(self, host: HostState) -> Rejection | None:
        free = host.facts.get("disk_free_mb")
        if free is None:
            return None
        need = self.needed.growth_bytes
        if host.name != self.context.request.instance.host:
            need += self.needed.overlay_bytes + bytes_to_fetch(self.needed.bases, host)
        promised = self._promised(host)
        have = number(f"{host.path}.disk_free_mb", free, 0) * _MIB - promised
        if have >= need:
            return None
        need_mb, have_mb = -(-need // _MIB), int(have // _MIB)
        reason = f"{need_mb} MB have to fit into its file system, {have_mb} MB are free" + (
            f" ({promised // _MIB} MB are promised to claims)" if promised else ""
        )
        return self.reject("disk_space", reason, need_mb, have_mb)

    def _promised(self, host: HostState) -> int:
        """What the claims of other guests will bring here."""
        mine = self.context.request.instance.uuid
        coming = [claim for claim in host.mappings("claims") if claim.get("role") == "destination" and claim.get("instance_uuid") != mine]
        return sum(number(f"{host.path}.claims.bytes", claim.get("bytes"), 0) for claim in coming)
