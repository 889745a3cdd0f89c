# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The one host that the caller named."""

from __future__ import annotations

from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.filters.base import Filter, Rejection
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.host_state import HostState


class TargetHostFilter(Filter):
    """With `target_host` every other host is out; the named one still has to pass all filters."""

    needs_facts = False

    def applies(self) -> bool:
        return self.context.request.target_host is not None

    def rejection(self, host: HostState) -> Rejection | None:
        target = self.context.request.target_host
        if host.name == target:
            return None
        return self.reject("not_target_host", f"is not {target}, the target host asked for", target, host.name)
