# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The pools and directories that the disks lie in."""

from __future__ import annotations

from collections.abc import Iterator

from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.context import Context
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.filters.base import Filter, Rejection
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.filters.names import local
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.host_state import HostState

_DIRECTORIES = ("dir", "fs", "netfs")


class StorageFilter(Filter):
    """The host has every storage pool of the guest's disks, active and a directory, and every named directory; what it does not list is left to the claim."""

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.pools, self.directories = context.request.requirements.pools, context.request.requirements.directories

    def applies(self) -> bool:
        return bool(self.pools or self.directories)

    def rejection(self, host: HostState) -> Rejection | None:
        lacks = [*self._lacking_pools(host), *self._lacking_directories(host)]
        return self.reject("storage", "; ".join(lacks), ", ".join((*self.pools, *self.directories))) if lacks else None

    def _lacking_pools(self, host: HostState) -> Iterator[str]:
        if host.facts.get("pools") is None:
            return
        pools = {str(pool.get("name")): pool for pool in host.mappings("pools")}
        for name in self.pools:
            own, called = local(self.context, host, "pools", name)
            pool = None if own is None else pools.get(own)
            if pool is None:
                yield f"has no storage pool {called} (it has {', '.join(sorted(pools)) or 'none'})"
            elif not pool.get("active"):
                yield f"its storage pool {called} is not active"
            elif pool.get("type", "dir") not in _DIRECTORIES or not pool.get("path"):
                yield f"its storage pool {called} is of the type {pool.get('type')}, which is no directory"

    def _lacking_directories(self, host: HostState) -> Iterator[str]:
        known = {str(directory.get("name")): directory for directory in host.mappings("disk_directories")}
        for name in self.directories:
            if name not in known:
                yield f"has no directory {name} in kvmfleet_disk_directories (it has {', '.join(sorted(known)) or 'none'})"
            elif not known[name].get("exists", True):
                yield f"its directory {name}, {known[name].get('path')}, does not exist"
