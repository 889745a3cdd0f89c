# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Where the files of a guest come to lie on this host, and what is made for them there before the guest stops."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from .._guest.belongings import registry as _belongings
from .._journal.records import Journal
from .._libvirt import domains as _domains
from .._rules import file_names as _file_names, handed_plan as _handed_plan
from .._rules.errors import KvmfleetError
from .._storage import (
    directories as _directories,
    new_files as _new_files,
    shared_storage as _shared_storage,
    store as _store,
)
from .._storage.kinds import registry as _kinds
from .._storage.kinds.kind import Claim
from . import admission as _admission, withdrawing as _withdrawing


def new_record(conn: Any, params: dict[str, Any]) -> dict[str, Any]:
    """What this host notes of the operation; nothing of it was looked at here before its form is known to be right.

    :param params: of the module claim.
    :raises KvmfleetError: `handed_value`, `directory_missing`, `shared_growth`, `base_not_shared` and what pools and images raise.
    """
    _handed_plan.plan(params["plan"], params["requirements"], params["probes"])
    plan, disks = params["plan"], params["plan"]["disks"]
    new = plan.get("new_disks", [])
    if params["role"] == "destination":
        disks = [disk for disk in disks if not disk.get("left_behind")]
        answers = {answer["target"]: answer for answer in params["storage"]}
        disks = _apart([_here(conn, dict(disk, pool=answers[disk["target"]]["pool"]), answers[disk["target"]]["path"], params) for disk in disks], params)
        new = [_beside_here(disk, next(there for there in disks if there["target"] == disk["beside"])) for disk in new]
    files = [*((disk["path"], one["path"]) for disk in disks for one in plan["disks"] if one["target"] == disk["target"])]
    files += [(path, path) for path in _belongings.paths(plan)]
    return dict(
        plan,
        directories=_directories.called_here(plan.get("directories", {}), files),
        probes=_shared_storage.draw(os.path.dirname(disk["path"]) for disk in disks if not _kinds.of(disk).travels),
        uuid=params["migration_uuid"],
        owner=params["owner"],
        role=params["role"],
        destination_host=params["destination_host"],
        image_directories=_allowed(params),
        disks=disks,
        new_disks=new,
        mappings=params["mappings"],
        requirements=params["requirements"],
        requested_by=params["requested_by"],
        reason=params["reason"],
    )


def make(conn: Any, journal: Journal, params: dict[str, Any]) -> dict[str, Any]:
    """Make directories and the disks that the flavor adds, now that the capacity for them is claimed; without them the claim is given back."""
    with journal.working(params["migration_uuid"], params["owner"]) as record:
        try:
            record = _admission.make_directories(conn, journal, record)
            _new_files.make(journal, record)
            return record
        except (KvmfleetError, OSError) as exc:
            if params["role"] == "destination":
                _withdrawing.withdraw(conn, journal, record, status="error", error=str(exc))
            raise


def foreseen(conn: Any, journal: Journal, record: dict[str, Any], images_path: str) -> dict[str, Any]:
    """What the claim and what follows it would make here, and leave alone, where this host has the places for it. All else is for the claim to find out."""
    _admission.require_open(journal, record)
    _admission.require_places(record)
    store = _store.ImageStore(journal.state, images_path, record["image_directories"], _domains.writable_paths(conn))
    bases = {base["sha256"]: base for disk in record["disks"] if _kinds.of(disk).travels for base in disk["bases"]}
    return {
        "changed": True,
        "directories": _directories.described(_directories.to_make(conn, journal.state, record)),
        "namesakes": sorted(filter(None, map(store.namesake, bases.values()))),
    }


def _here(conn: Any, disk: dict[str, Any], path: str | None, params: dict[str, Any]) -> dict[str, Any]:
    """A disk of the source as it comes to lie on this host."""
    return _kinds.place(conn, disk, path, Claim(params["migration_uuid"], _allowed(params), params["probes"]))


def _apart(disks: Sequence[dict[str, Any]], params: dict[str, Any]) -> list[dict[str, Any]]:
    """The same disks, of which a medium that is in several drives comes for each, under a name of its own."""
    found: list[dict[str, Any]] = []
    for number, disk in enumerate(disks):
        kind = _kinds.of(disk)
        if disk["kind"] == "media" and kind.travels and disk["path"] in {other["path"] for other in found}:
            stem, extension = os.path.splitext(disk["path"])
            path = _file_names.beside(stem, _file_names.OTHER_DRIVE, {"uuid": params["migration_uuid"]}, number) + extension
            disk = kind.called(disk, path)
        found.append(disk)
    return found


def _beside_here(new: dict[str, Any], disk: dict[str, Any]) -> dict[str, Any]:
    """A disk that the operation adds, made on this host where the other one comes to lie, and in the same way."""
    path = os.path.join(os.path.dirname(disk["path"]), os.path.basename(new["path"]))
    return _kinds.of(disk).called(dict(new, pool=disk["pool"]), path)


def _allowed(params: dict[str, Any]) -> list[str]:
    """The directories of this host in which files of guests may lie."""
    return sorted({*params["image_directories"], params["images_path"]})
