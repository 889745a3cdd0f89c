# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Claims: capacity of one host reserved for one operation, until the operation is confirmed, reverted or undone.

A claim and the domain it is for are counted once, the larger of both per resource, so that a claim may stay while the domain comes
and goes: at the destination before the domain is defined, at the source while the sealed copy waits for confirm.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from typing import Any

from .._rules import exclusive as _exclusive
from .._rules.capacity import disk_need_mb
from .state_dir import StateDir

LOCK = "admission"
"""Held by whoever judges what this host can take, and by whoever takes away what such a judgement may rest on."""


def write(
    state: StateDir,
    record: dict[str, Any],
    role: str,
    flavor: dict[str, Any],
    size: int,
    cpus: Iterable[int] = (),
    exclusive: Sequence[_exclusive.Thing] = (),
) -> dict[str, Any]:
    """Claim the flavor for the migration of `record`.

    :param size: real bytes expected on this host's disk; :param cpus: CPUs of this host that are set aside for it alone.
    :param exclusive: things of which the host can have one, and this guest has or will have it.
    """
    claim = {
        "migration_uuid": record["uuid"],
        "instance_uuid": record["instance_uuid"],
        "instance_name": record["instance_name"],
        "role": role,
        "vcpus": flavor["vcpus"],
        "ram": flavor["ram"],
        "disk_mb": disk_need_mb(flavor["disk"], flavor["ephemeral"], flavor["swap"]),
        "bytes": size,
        "cpus": sorted(cpus),
        "exclusive": _exclusive.by_kind(exclusive),
        "created_at": time.time(),
    }
    state.write("claims", record["uuid"], claim)
    return claim


def cpus(claims: Iterable[dict[str, Any]], without: str | None = None) -> set[int]:
    """CPUs of this host that claims set aside, but for those of the instance `without` (a UUID)."""
    return {cpu for claim in claims if claim["instance_uuid"] != without for cpu in claim.get("cpus", ())}


def remove(state: StateDir, migration_uuid: str) -> bool:
    return state.remove("claims", migration_uuid)
