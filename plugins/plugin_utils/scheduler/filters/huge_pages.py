# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Free huge pages for the memory of the guest."""

from __future__ import annotations

from ansible_collections.kvmfleet.compute.plugins.module_utils._rules import huge_pages as _huge_pages
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.filters.base import Filter, Rejection
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.host_numa import host_cells
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.host_state import HostState


class HugePagesFilter(Filter):
    """All of the guest's memory fits into free huge pages of the size that its definition names.

    They are counted on the NUMA nodes that the definition binds its memory to, else on all. Pages that the guest holds itself are not free:
    where it is now, it needs as many again.
    """

    unit = "MB"

    def applies(self) -> bool:
        return self.context.request.requirements.huge_pages is not None

    def rejection(self, host: HostState) -> Rejection | None:
        need = self.context.request.requirements.huge_pages
        have = _huge_pages.free_mb([cell._asdict() for cell in host_cells(host)], need)
        if have >= need["memory_mb"]:
            return None
        return self.reject("huge_pages", f"{_huge_pages.described(need)}, {have:g} MB are free", need["memory_mb"], have)
