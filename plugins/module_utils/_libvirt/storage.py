# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Storage pools and their volumes."""

from __future__ import annotations

import contextlib
from typing import Any

from .._system.watchdog import patience
from .binding import LibvirtError, libvirt, supported, unless


def find_pool(connection: Any, name: str) -> Any | None:
    """The storage pool of this name; None where there is none, or the driver does not know pools."""
    return unless(libvirt.VIR_ERR_NO_STORAGE_POOL, lambda: supported(lambda: connection.storagePoolLookupByName(name), None))


def all_pools(connection: Any) -> list[Any]:
    """Every storage pool, active or not; none where the driver does not know pools."""
    return supported(lambda: connection.listAllStoragePools(0), [])


def pool_xml(pool: Any) -> str:
    """The definition of a pool, active or not."""
    return pool.XMLDesc(0)


def has_volume(pool: Any, name: str) -> bool:
    """Whether libvirt knows this volume, as of its latest look into the pool."""
    try:
        return pool.storageVolLookupByName(name) is not None
    except LibvirtError:
        return False


def refresh_pool(pool: Any) -> None:
    """Look into the pool again; one that is inactive or busy stays as it is."""
    with contextlib.suppress(LibvirtError), patience():
        pool.refresh(0)
