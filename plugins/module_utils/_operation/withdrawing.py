# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The destination's copy of an instance is taken back: undefined, and its files removed."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

from .._channel.pull import forget_peer
from .._domain import definition as _definition
from .._guest import (
    defining as _defining,
    power as _power,
)
from .._guest.belongings import registry as _belongings
from .._journal import claims as _claims
from .._journal.records import Journal
from .._libvirt import definitions as _definitions, domains as _domains
from .._rules.errors import KvmfleetError
from .._storage import (
    directories as _directories,
    disk_use as _disk_use,
    files as _files,
    leftovers as _leftovers,
    new_files as _new_files,
    run_evidence as _run_evidence,
    shared_storage as _shared_storage,
)
from .._storage.disk_use import DiskUses
from .._storage.incoming import exports, layer_part_path, part_path, writable
from .._storage.kinds import registry as _kinds
from .._system import paths as _paths


def undefine(conn: Any, journal: Journal, record: dict[str, Any], shutdown: dict[str, Any], *, discard_started: bool = False) -> bool:
    """Make sure that this host cannot start the guest (any more). Its files stay until `withdraw`.

    :param discard_started: a person has decided that the copy here is not needed, though the guest may have run on it.
    :returns: whether a domain had to be undefined.
    :raises KvmfleetError: `guest_has_run`; `foreign_definition`; `disk_in_use_by`; `disk_covered`; those of `_guest.power.stop`.
    """
    _require_not_run(conn, record, discard_started)
    if record["status"] in ("finished", "confirming", "reverting"):
        if record["status"] != "reverting":
            # A revert removes them in the end; now the guest still runs here, and later nothing may keep it from going on at its source.
            own = _published(record)[0]
            DiskUses(conn, journal.state).require_unused(own, operation=record["uuid"], guest=record["instance_uuid"])
            if not discard_started:
                _require_uncovered(conn, record, own)
        record = journal.update(record, status="reverting", step="reverting")
    elif not record.get("withdrawing"):
        record = journal.update(record, withdrawing=True)
    _defining.end_trial(conn, record["uuid"])
    domain = _defining.find_late(conn, record["instance_uuid"]) if record["step"] == "defining" else _domains.find_domain(conn, record["instance_uuid"])
    if domain is None:
        return False
    if _definition.migration_uuid(_definition.parse(_definitions.inactive_xml(domain, secure=False))) != record["uuid"]:
        raise KvmfleetError(
            "foreign_definition",
            f"The domain {domain.name()} on this host was not defined by migration {record['uuid']}; it is left alone. Decide by hand which copy is right.",
            instance=record["instance_name"],
        )
    if record["status"] == "reverting" or discard_started:
        _power.stop(domain, journal.state, **shutdown)
    _power.require_not_saved(domain)
    definition = _definitions.inactive_xml(domain)
    _definitions.undefine_keeping_everything(domain)
    if not discard_started and record.get("withdrawing"):
        # Nobody can start it any more; somebody may have between the question above and this.
        active = _domains.find_domain(conn, record["instance_uuid"]) is not None
        why = "somebody has started it just now" if active else _run_evidence.written(record)
        if why is not None:
            _definitions.define(conn, definition)
            raise _has_run_here(journal.update(record, withdrawing=False), why)
    return True


def withdraw(conn: Any, journal: Journal, record: dict[str, Any], *, status: str, error: str | None = None, keep_partial: float = 0.0) -> bool:
    """Remove what this operation created on this host, release the claim, close the record.

    :param keep_partial: seconds for which a copy that is not complete is kept for the next operation of the instance.
    :returns: whether anything had to be changed.
    """
    if record["status"] == status:
        return False
    _shared_storage.remove(record)
    _leftovers.keep(journal.state, record, keep_partial)
    uses = DiskUses(conn, journal.state)
    own, media = _published(record)
    if record["status"] == "reverting":
        _files.remove(uses, own, operation=record["uuid"], how={disk["path"]: _kinds.of(disk).remove for disk in record["disks"]})
        stayed = _files.remove_unused(uses, media, operation=record["uuid"])
    else:
        # The guest is off until the source may go on, so that a file which somebody has begun to use since does not keep it.
        stayed = _files.remove_unused(uses, [*own, *media], operation=record["uuid"])
    _files.remove_unfinished(make(record, path) for path in exports(record).values() for make in (part_path, layer_part_path))
    _new_files.remove(uses, record)
    for kind in _belongings.ALL:
        kind.withdraw(conn, journal, uses, record)
    _directories.remove_made(uses, journal, record)
    forget_peer(journal.state, record["uuid"])
    _claims.remove(journal.state, record["uuid"])
    left = f", but for what others use here: {', '.join(stayed)}" if stayed else ""
    journal.close(record, status, note=f"destination copy removed{left}", error=error)
    return True


def _published(record: dict[str, Any]) -> tuple[list[str], list[str]]:
    """The files that this operation gave their names here and that still bear them: those of the guest alone, and media, which others may use."""
    media = {disk["path"] for disk in record["disks"] if disk["kind"] != "disk"}
    own: list[str] = []
    others: list[str] = []
    for path, inode in record.get("inodes", {}).items():
        with _paths.if_there():
            if os.lstat(path).st_ino == inode:
                (others if path in media else own).append(path)
    return own, others


def _require_uncovered(conn: Any, record: dict[str, Any], own: Iterable[str]) -> None:
    """The guest writes to the files of this operation, not to what somebody has laid over them: a snapshot would lose what it lies on.

    :raises KvmfleetError: `disk_covered`.
    """
    domain = _domains.find_domain(conn, record["instance_uuid"])
    if domain is None:
        return
    for disk in writable(record):
        for xml in (_definitions.inactive_xml(domain, secure=False), _definitions.live_xml(domain)):
            place = _disk_use.place(conn, xml, disk["target"])
            if disk["path"] in own and place is not None and os.path.realpath(place) != os.path.realpath(disk["path"]):
                raise KvmfleetError(
                    "disk_covered",
                    f"Disk {disk['target']} of {domain.name()} is {place}, which somebody has laid over {disk['path']} or put in its place. A revert would "
                    f"remove that file from under it, so nothing was done. If it lies over it, merge it (virsh blockcommit {domain.name()} {disk['target']} "
                    f"--active --pivot --wait --top {place} --base {disk['path']}), and delete what libvirt knows of such a snapshot (virsh snapshot-delete "
                    "--metadata); then repeat.",
                    path=disk["path"],
                    have=place,
                    need=disk["path"],
                )


def _require_not_run(conn: Any, record: dict[str, Any], discard_started: bool) -> None:
    """Nobody but a person discards a copy that the guest has run on: it may hold what it wrote."""
    why = None if discard_started else _run_evidence.has_run(_domains.find_domain(conn, record["instance_uuid"]), record)
    if why is not None:
        raise _has_run_here(record, why)


def _has_run_here(record: dict[str, Any], why: str) -> KvmfleetError:
    return KvmfleetError(
        "guest_has_run",
        f"The copy of {record['instance_name']} on this host is not withdrawn, since the guest may have written to it: {why}. Run "
        "kvmfleet.compute.recover, which completes the operation, and then revert if the copy at the source is to be used.",
        instance=record["instance_name"],
    )
