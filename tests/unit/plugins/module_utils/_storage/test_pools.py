# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Volumes of storage pools, with a stand-in for libvirt's storage driver, which the embedded one lacks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import libvirt
import pytest

from ansible_collections.kvmfleet.compute.plugins.module_utils._rules.errors import KvmfleetError
from ansible_collections.kvmfleet.compute.plugins.module_utils._storage import pools as _pools
from ansible_collections.kvmfleet.compute.plugins.module_utils._storage.kinds import registry as _kinds


class Pool:
    def __init__(self, name: str, kind: str = "dir", active: bool = True, path: str = "/vms") -> None:
        self._name, self.kind, self.active, self.path = name, kind, active, path
        self.refreshed = 0
        self.volumes: set[str] = set()

    def name(self) -> str:
        return self._name

    def isActive(self) -> int:
        return int(self.active)

    def XMLDesc(self, flags: int) -> str:
        return f"<pool type='{self.kind}'><name>{self._name}</name><target><path>{self.path}</path></target></pool>"

    def storageVolLookupByName(self, name: str) -> str:
        if name in self.volumes:
            return name
        raise libvirt.libvirtError("no such volume")

    def refresh(self, flags: int) -> None:
        self.refreshed += 1
        self.volumes = {entry.name for entry in Path(self.path).iterdir()}


class Connection:
    def __init__(self, *pools: Pool) -> None:
        self.pools = pools

    def listAllStoragePools(self, flags: int) -> list[Pool]:
        return list(self.pools)

    def storagePoolLookupByName(self, name: str) -> Pool:
        found = [pool for pool in self.pools if pool.name() == name]
        if found:
            return found[0]
        error = libvirt.libvirtError("no pool")
        error.err = (libvirt.VIR_ERR_NO_STORAGE_POOL, *[None] * 8)
        raise error


def test_a_volume_is_a_file_of_the_directory() -> None:
    assert _pools.volume_path(Connection(Pool("vms")), "vms", "root.qcow2") == "/vms/root.qcow2"


@pytest.mark.parametrize(
    ("pool", "volume", "code", "said"),
    [
        (Pool("default"), "x", "pool_missing", "pools: default"),
        (Pool("vms", active=False), "x", "pool_inactive", "pool-start vms"),
        (Pool("vms", kind="logical"), "x", "pool_unsupported", "logical"),
        (Pool("vms", kind="rbd"), "x", "pool_unsupported", "rbd"),
        (Pool("vms"), "../etc/shadow", "invalid_volume_name", "shadow"),
        (Pool("vms"), "..", "invalid_volume_name", ".."),
    ],
)
def test_other_volumes_are_refused(pool: Pool, volume: str, code: str, said: str) -> None:
    with pytest.raises(KvmfleetError, match=said) as caught:
        _pools.volume_path(Connection(pool), "vms", volume)
    assert caught.value.code == code


def test_libvirt_looks_again_only_where_it_is_wrong(tmp_path: Path) -> None:
    pool = Pool("vms", path=str(tmp_path))
    volume = {"pool": "vms", "volume": "x", "path": str(tmp_path / "x")}
    disks: list[dict[str, Any]] = [volume, {"path": "/elsewhere"}, {**volume, "pool": "gone"}]
    _kinds.sync(Connection(pool), disks)
    assert pool.refreshed == 0
    (tmp_path / "x").touch()
    _kinds.sync(Connection(pool), disks)
    _kinds.sync(Connection(pool), disks)
    assert (pool.refreshed, pool.volumes) == (1, {"x"})
    (tmp_path / "x").unlink()
    _kinds.sync(Connection(pool), disks)
    assert (pool.refreshed, pool.volumes) == (2, set())
