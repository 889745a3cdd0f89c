# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Storage pools that are directories of a host: where a volume lies."""

from __future__ import annotations

import os
from typing import Any

from .._domain import definition as _definition
from .._libvirt import storage as _storage
from .._rules.errors import KvmfleetError

DIRECTORIES = ("dir", "fs", "netfs")


def facts(pool: Any) -> dict[str, Any]:
    """One pool as plain JSON; `path` is its directory or device, if it has one."""
    root = _definition.parse_document(_storage.pool_xml(pool))
    return {"name": pool.name(), "active": bool(pool.isActive()), "type": root.get("type"), "path": root.findtext("target/path")}


def volume_path(conn: Any, name: str, volume: str) -> str:
    """The file of a volume, which need not exist: in a directory it bears the volume's name.

    :raises KvmfleetError: `pool_missing`, `pool_inactive`, `pool_unsupported`, `invalid_volume_name`.
    """
    pool = _storage.find_pool(conn, name)
    if pool is None:
        known = ", ".join(sorted(pool.name() for pool in _storage.all_pools(conn)))
        raise KvmfleetError("pool_missing", f"there is no storage pool {name} here (pools: {known or 'none'})", pool=name)
    found = facts(pool)
    if found["type"] not in DIRECTORIES or not found["path"]:
        raise KvmfleetError(
            "pool_unsupported",
            f"the storage pool {name} is of the type {found['type']}; volumes of directories ({', '.join(DIRECTORIES)}) can be moved, "
            "so copy the volume into such a pool (virsh vol-create-from) and let the disk use that",
            pool=name,
            type=found["type"],
        )
    if not found["active"]:
        raise KvmfleetError("pool_inactive", f"the storage pool {name} is not active here: start it (virsh pool-start {name})", pool=name)
    if os.path.basename(volume) != volume or volume in ("", ".", ".."):
        raise KvmfleetError("invalid_volume_name", f"{volume!r} is no name of a file in the storage pool {name}", pool=name)
    return os.path.join(found["path"], volume)
