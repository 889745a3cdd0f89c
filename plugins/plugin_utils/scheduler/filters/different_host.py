# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Away from certain guests."""

from __future__ import annotations

from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.context import Context
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.filters.base import Filter, Rejection, hinted
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.host_state import HostState


class DifferentHostFilter(Filter):
    """None of the guests in the hint `different_host` (UUIDs) is on the host."""

    reads = frozenset({"scheduler_hints.different_host"})

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.others = frozenset(hinted(context, "different_host"))

    def applies(self) -> bool:
        return bool(self.others)

    def rejection(self, host: HostState) -> Rejection | None:
        here = self.others.intersection(host.instances)
        if not here:
            return None
        have = ", ".join(sorted(here))
        return self.reject("different_host", f"has {have}, which the hint different_host asks to stay away from", None, have)
