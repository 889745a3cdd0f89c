# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Together with certain guests."""

from __future__ import annotations

from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.context import Context
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.filters.base import Filter, Rejection, hinted
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.host_state import HostState


class SameHostFilter(Filter):
    """One of the guests in the hint `same_host` (UUIDs) is on the host."""

    reads = frozenset({"scheduler_hints.same_host"})

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.others = frozenset(hinted(context, "same_host"))

    def applies(self) -> bool:
        return bool(self.others)

    def rejection(self, host: HostState) -> Rejection | None:
        if not self.others.isdisjoint(host.instances):
            return None
        return self.reject("same_host_hint", "has none of the guests that the hint same_host asks to be with", ", ".join(sorted(self.others)))
