# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The source's copy of an instance: hand it over sealed, restore it, or remove it for good.

*Sealed* means that nothing on this host can start the guest: its definition is archived in the journal and undefined, its disks bear
another name, except those on storage that it shares with the destination. Everything is kept, so that restoring is renaming and defining.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from .._channel.checksums import data_bytes
from .._domain import definition as _definition
from .._guest import (
    defining as _defining,
    keeping as _keeping,
    late_shutdown as _late_shutdown,
    live_differences as _live_differences,
    power as _power,
)
from .._guest.belongings import registry as _belongings
from .._host import bindings as _bindings
from .._journal import claims as _claims, maintenance as _maintenance
from .._journal.records import Journal
from .._libvirt import blocks as _blocks, definitions as _definitions, domains as _domains
from .._rules import exclusive as _exclusive
from .._rules.errors import KvmfleetError
from .._storage import directories as _directories, files as _files, qemu_img as _qemu_img, shared_storage as _shared_storage
from .._storage.disk_use import DiskUses
from .._storage.incoming import travelling
from .._storage.kinds import registry as _kinds
from . import precopy as _precopy

_FOLD_STALL = 120.0  # seconds without progress


def hand_over(conn: Any, journal: Journal, record: dict[str, Any], shutdown: dict[str, Any]) -> dict[str, Any]:
    """Stop the guest, prove that it is off, seal it.

    :param shutdown: keyword arguments of `_guest.power.stop`.
    :returns: the manifest that the destination needs, with `files` (export name -> path) beside it, which of them lie where others may write too (`held`),
        and how the guest was stopped.
    """
    early = _belongings.offered_early(conn, record)
    _shared_storage.remove(record)
    uses = DiskUses(conn, journal.state)
    if record["step"] in ("begun", "precopying", "stopping"):
        record = stop_unchanged(conn, journal, record, shutdown, uses)
    if record["step"] in ("stopped", "sealing"):
        record = _seal(conn, journal, record, uses)
    there = _precopy.unchanged_media(record)
    files = {disk["target"]: last_path(record, disk) for disk in travelling(record) if disk["target"] not in there}
    sealed, held = _belongings.sealed_names(record), _belongings.sent(record)
    files.update({name: sealed.get(path, path) for name, path in held.items()})
    manifest = {
        "migration_uuid": record["uuid"],
        "domain_xml": record["private"]["domain_xml"],
        **early,
        **_belongings.offered(conn, record),
        "autostart": record["autostart"],
        "was_running": record["was_running"],
        "round": record.get("layers", 0),
        "there": there,
        **measured(record, files),
    }
    return {"manifest": manifest, "files": files, "held": set(held), "stopped": record["stopped"]}


def measured(record: dict[str, Any], files: dict[str, str]) -> dict[str, dict[str, int]]:
    """Of each file its bytes of data (`files`) and its length (`sizes`)."""
    kinds = {disk["target"]: _kinds.of(disk) for disk in record["disks"]}
    return {
        "files": {name: data_bytes(path) for name, path in files.items()},
        "sizes": {name: kinds[name].length(path) if name in kinds else os.lstat(path).st_size for name, path in files.items()},
    }


def stop_unchanged(conn: Any, journal: Journal, record: dict[str, Any], shutdown: dict[str, Any], uses: DiskUses | None = None) -> dict[str, Any]:
    """Stop the guest of the plan, prove that it is off and that its disks are what the plan says.

    :param uses: what is to be asked again once it is off, when that must not take long.
    """
    domain = require_unchanged(conn, record)
    require_free(uses or DiskUses(conn, journal.state), record, domain, layered=bool(record.get("layers")) or record["role"] == "in_place")
    _require_as_defined(conn, record, domain)
    _power.require_hearing(domain, shutdown["on_timeout"])  # before the journal has that it was asked
    definition, archived = _definitions.inactive_xml(domain), _belongings.archive(domain, record, with_definition=True)
    was_running = record.get("was_running") or _domains.is_active(domain)
    record = journal.update(record, status="migrating", step="stopping", was_running=was_running)
    try:
        stopped = _power.stop(domain, journal.state, **shutdown)
    finally:
        # Somebody may undefine a guest that is going down.
        if _domains.find_domain(conn, record["instance_uuid"]) is None:
            _belongings.redefine(_definitions.define(conn, definition), archived)
    if _domains.is_active(domain):
        raise KvmfleetError("not_off", f"Guest {record['instance_name']} is active again right after it was stopped; something else on this host starts it.")
    _power.require_not_saved(domain)
    require_unchanged_chains(record, clean=True)
    return journal.update(record, step="stopped", stopped=stopped)


def _require_as_defined(conn: Any, record: dict[str, Any], domain: Any) -> None:
    """A guest that runs has nothing that the restart would take away, but for what the plan has named.

    :raises KvmfleetError: `live_differences`, `definition_differs`.
    """
    if not _domains.is_active(domain):
        return
    live, definition = (_definition.parse(text) for text in (_definitions.live_xml(domain), _definitions.inactive_xml(domain, secure=False)))
    for target, defined, used in _live_differences.moved_disks(conn, live, definition):
        raise KvmfleetError(
            "definition_differs",
            f"Disk {target} of {domain.name()} is {defined} in the definition, but the guest writes to {used} by now; it was not stopped.",
            have=used,
            need=defined,
        )
    planned = record.get("live_differences") or {}
    _live_differences.require_named(domain.name(), _live_differences.found(live, definition), planned.get("answer"), planned.get("found", ()))


def require_free(uses: DiskUses, record: dict[str, Any], domain: Any, *, layered: bool) -> None:
    """Nobody but the guest of the plan uses its disks and firmware variables, and nothing but the guest works on them.

    :param layered: layers of this operation lie over the disks, or are about to.
    :raises KvmfleetError: `disk_in_use_by`, `block_job_active`, and what something that belongs to the guest has against a layer.
    """
    jobs = _blocks.block_jobs(domain)
    if jobs:
        raise KvmfleetError(
            "block_job_active",
            f"Block jobs work on disks of {domain.name()} ({', '.join(jobs)}): let them end, or abort them (virsh blockjob --abort), and repeat.",
            instance=domain.name(),
        )
    if layered:
        for kind in _belongings.ALL:
            kind.require_layerable(domain)
    _require_unused_but_by_guest(uses, record)


def _require_unused_but_by_guest(uses: DiskUses, record: dict[str, Any]) -> None:
    files = [disk["path"] for disk in record["disks"] if disk["kind"] == "disk"] + _belongings.own_paths(record)
    uses.require_unused(files, operation=record["uuid"], guest=record["instance_uuid"])


def restore(conn: Any, journal: Journal, record: dict[str, Any], *, status: str, error: str | None = None) -> bool:
    """Put the instance back as it was before the operation, running if it ran, and close the record with `status`.

    :returns: whether anything had to be changed.
    :raises KvmfleetError: with the record open, or `instance_vanished` with the record closed.
    """
    if record["status"] == status:
        return False
    _shared_storage.remove(record)
    _late_shutdown.before_going_back(journal, record, _domains.find_domain(conn, record["instance_uuid"]))
    sealed = "domain_xml" in record.get("private", {})
    if sealed:
        _maintenance.came_back(journal.state, record)
        _unseal(conn, journal, record)
    record = _precopy.fold(conn, journal, record, timeout=_FOLD_STALL)
    if sealed:
        _kinds.sync(conn, record["disks"])
        for kind in _belongings.ALL:
            kind.put_there(record)
        domain = _domains.find_domain(conn, record["instance_uuid"]) or _definitions.define(conn, record["private"]["domain_xml"])
        _belongings.redefine(domain, record["private"])
        _domains.set_autostart(domain, record["autostart"])
    else:
        domain = _domains.find_domain(conn, record["instance_uuid"])
    # A guest that never began to stop is left alone: it may have been shut down from inside meanwhile, and that is not ours to undo.
    if domain is not None and record.get("was_running") and record["step"] != "begun":
        start_unchanged(domain, record)
    _keeping.take_back(conn, record)
    _claims.remove(journal.state, record["uuid"])
    journal.close(record, status, note="source copy restored", error=error)
    _defining.require_left(domain, record)
    return True


def discard(conn: Any, journal: Journal, record: dict[str, Any]) -> bool:
    """Remove the sealed copy for good (confirm). Media such as seed ISOs stay: other guests may use them.

    :returns: whether anything had to be changed.
    """
    if record["status"] == "confirmed":
        return False
    uses = DiskUses(conn, journal.state)
    own = [disk for disk in record["disks"] if _kinds.of(disk).sealed_path(record, disk)]
    removing = {sealed_path(record, disk): _kinds.of(disk).remove for disk in own}
    paths = [path for disk in own for path in (*_precopy.layers(record, disk), sealed_path(record, disk))]
    paths += _belongings.sealed_names(record).values()
    # Whoever names a disk that is called otherwise now needs what is called so.
    renamed = [disk["path"] for disk in own if os.path.lexists(sealed_path(record, disk)) and not os.path.lexists(disk["path"])]
    uses.require_unused(renamed, operation=record["uuid"])
    _files.require_removable(uses, paths, operation=record["uuid"])
    journal.update(record, status="confirming", step="confirming")
    _files.remove(uses, paths, operation=record["uuid"], how=removing)
    for kind in _belongings.ALL:
        kind.discard(conn, journal, uses, record)
    _directories.remove(uses, journal, record, record.get("own_directories") or {})
    _claims.remove(journal.state, record["uuid"])
    journal.close(record, "confirmed", note="source copy removed")
    return True


def sealed_path(record: dict[str, Any], disk: dict[str, Any]) -> str:
    """Where a disk of the record lies while the source copy is sealed: media, and what does not travel, keep their names."""
    return _kinds.of(disk).sealed_path(record, disk) or disk["path"]


def last_path(record: dict[str, Any], disk: dict[str, Any]) -> str:
    """The file of a sealed disk that the guest wrote to last: its newest layer, which keeps its name, or the disk itself."""
    return next(iter(_precopy.layers(record, disk)), sealed_path(record, disk))


def require_unchanged(conn: Any, record: dict[str, Any]) -> Any:
    """The domain of the record, provided its definition is the one that the plan was made from."""
    domain = _defining.require_defined(conn, record)
    if not domain.isPersistent():
        raise KvmfleetError(
            "not_persistent",
            f"Instance {record['instance_name']} was undefined while it runs: it would vanish when it stops. Define it again (virsh dumpxml, virsh define).",
            instance=record["instance_name"],
        )
    found = _definitions.fingerprint(domain)
    if found != record["xml_digest"] or domain.name() != record["instance_name"]:
        raise KvmfleetError(
            "definition_changed",
            f"The definition of {record['instance_name']} was changed since the operation was planned; plan it again.",
            have=found,
            need=record["xml_digest"],
        )
    return domain


def require_unchanged_chains(record: dict[str, Any], *, clean: bool = False) -> None:
    """Every disk is free, and its header says what it said when the plan was made: a guest or an admin may have rewritten it since.

    :param clean: and that QEMU has closed it cleanly.
    :raises KvmfleetError: `chain_changed`, `image_corrupt`, `image_dirty`, and those of `_storage.qemu_img.chain`.
    """
    for disk in record["disks"]:
        layers = () if record.get("folded") else _precopy.layers(record, disk)
        own = [[os.path.realpath(path), "qcow2", disk["virtual_size"]] for path in layers]
        expected = own + disk["chain"]
        path, image_format = expected[0][:2]
        _qemu_img.assert_not_in_use(path, image_format)
        chain = _qemu_img.chain(path, image_format, record["image_directories"])
        found = [[layer.path, layer.format, layer.virtual_size] for layer in chain]
        if found != expected:
            raise KvmfleetError(
                "chain_changed",
                f"The backing chain of {disk['path']} is {found} now; it was {expected} when the operation was planned.",
                have=found,
                need=expected,
            )
        for layer in chain if clean else ():
            if layer.corrupt:
                raise KvmfleetError("image_corrupt", f"{layer.path} is marked corrupt since the guest was stopped.", path=layer.path)
            if layer.dirty:
                raise KvmfleetError("image_dirty", f"{disk['target']}: {_qemu_img.DIRTY.format(path=layer.path)}", path=layer.path)


def start_unchanged(domain: Any, record: dict[str, Any]) -> None:
    """Start the restored guest unless it runs. Libvirt opens whatever a header names, so that a rewritten one leaves the guest off.

    :raises KvmfleetError: as `require_unchanged_chains`.
    """
    if _domains.is_active(domain):
        return
    try:
        require_unchanged_chains(record)
    except KvmfleetError as exc:
        message = f"{exc.message} {record['instance_name']} is as before on this host but stays off until that is put right: then run kvmfleet.compute.recover."
        raise KvmfleetError(exc.code, message, **exc.details) from exc
    _power.start(domain)


def _seal(conn: Any, journal: Journal, record: dict[str, Any], uses: DiskUses) -> dict[str, Any]:
    domain = _domains.find_domain(conn, record["instance_uuid"])
    if record["step"] == "stopped":
        domain = require_unchanged(conn, record)
        _require_unused_but_by_guest(uses, record)
        # A definition with layers of ours is the one from before them: nobody has changed it since.
        definition = record.get("private", {}).get("unlayered_xml") or _definitions.inactive_xml(domain)
        private = {"domain_xml": definition, **_belongings.archive(domain, record)}
        record = journal.update(record, step="sealing", private=private, autostart=bool(domain.autostart()), **_belongings.seal(record))
        root = _definition.parse(definition)
        own_cpus, own_things = _bindings.own_cpus(root), _exclusive.things(root, lasting=True)  # a revert brings them back
        _claims.write(journal.state, record, "source", record["old_flavor"], sum(disk["allocated_bytes"] for disk in record["disks"]), own_cpus, own_things)
    if domain is not None:
        _undefine_unchanged(conn, record)
    names = {path: sealed for path, sealed in _sealed_names(record).items() if not os.path.lexists(sealed)}
    _files.rename(uses, names, operation=record["uuid"], guest=record["instance_uuid"], how=_renaming(record))
    return journal.update(record, step="sealed")


def _undefine_unchanged(conn: Any, record: dict[str, Any]) -> None:
    """Nobody can start the guest here any more. Whoever did, or changed it, while it was being archived, keeps what he has made of it."""
    domain = require_unchanged(conn, record)
    definition = _definitions.inactive_xml(domain)
    active = _domains.is_active(domain)
    if not active:
        _definitions.undefine_keeping_everything(domain)
        active = _domains.find_domain(conn, record["instance_uuid"]) is not None
        if active:
            _belongings.redefine(_definitions.define(conn, definition), record["private"])
    if active:
        raise KvmfleetError("not_off", f"Guest {record['instance_name']} was started by something else while it was being sealed.")


def _sealed_names(record: dict[str, Any]) -> dict[str, str]:
    """Name -> name while the copy is sealed, of all files that change it.

    Of what does not travel the destination needs the name. What keeps this host from starting the guest is that it does not define it.
    """
    names = {disk["path"]: sealed for disk in record["disks"] if (sealed := _kinds.of(disk).sealed_path(record, disk))}
    return {**names, **_belongings.sealed_names(record)}


def _renaming(record: dict[str, Any]) -> dict[str, Callable[[str, str], None]]:
    """What renames each disk, by the name that it may have before."""
    return {path: _kinds.of(disk).rename for disk in record["disks"] for path in (disk["path"], sealed_path(record, disk))}


def require_restorable(conn: Any, journal: Journal, record: dict[str, Any]) -> dict[str, str]:
    """Nothing has taken the name of the guest, or of a file of it, while the copy is sealed.

    :returns: name while sealed -> name, of the files that have to get it back.
    :raises KvmfleetError: `name_taken`, `sealed_path_taken`; what bears a name meanwhile is somebody else's.
    """
    other = _domains.find_domain(conn, record["instance_name"])
    if other is not None and other.UUIDString() != record["instance_uuid"]:
        raise KvmfleetError(
            "name_taken",
            f"{record['instance_name']} cannot be defined again on this host: another guest has this name now ({other.UUIDString()}). It was not touched, and "
            "the sealed copy is kept. Give the other one another name (virsh domrename) and files of other names, then run recover.",
            instance=record["instance_name"],
            have=other.UUIDString(),
            need=record["instance_uuid"],
        )
    names = {sealed: path for path, sealed in _sealed_names(record).items() if os.path.lexists(sealed)}
    for sealed, path in names.items():
        if os.path.lexists(path):
            used = DiskUses(conn, journal.state).of([path], operation=record["uuid"]).get(path, [])
            by = f", used by {', '.join(dict.fromkeys(use.who for use in used))}" if used else ""
            raise KvmfleetError(
                "sealed_path_taken",
                f"{sealed} cannot get its name back: {path} exists again{by}. Move that file away{', with what uses it,' if used else ''} and run recover.",
                path=path,
            )
    return names


def _unseal(conn: Any, journal: Journal, record: dict[str, Any]) -> None:
    """Give all files their names back, or none."""
    names = require_restorable(conn, journal, record)
    _files.rename(DiskUses(conn, journal.state), names, operation=record["uuid"], guest=record["instance_uuid"], how=_renaming(record))
