# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Resize on the host where the guest already is: nothing is copied.

The switch freezes each writable disk under a new, empty qcow2 layer, lets the guest write there, and keeps a copy of its firmware
variables. So revert means the same as after a move to another host, whichever host placement chose: everything, the disks' content
included, is as it was at the switch. Confirm merges the layers back, while the guest runs.
"""

from __future__ import annotations

from typing import Any

from .._domain import definition as _definition, edit as _edit
from .._guest import (
    defining as _defining,
    keeping as _keeping,
    late_shutdown as _late_shutdown,
    power as _power,
    proof as _proof,
)
from .._guest.belongings import registry as _belongings
from .._journal import claims as _claims
from .._journal.records import Journal
from .._libvirt import definitions as _definitions, domains as _domains
from .._rules import file_names as _file_names
from .._rules.errors import KvmfleetError
from .._storage import (
    files as _files,
    merging as _merging,
    new_files as _new_files,
    qemu_access as _qemu_access,
    qemu_img as _qemu_img,
    run_evidence as _run_evidence,
)
from .._storage.disk_use import DiskUses
from .._storage.kinds import registry as _kinds
from .._system import whole_file as _whole_file
from . import sealing as _sealing, shaping as _shaping, starting as _starting
from .shaping import layer_path, written_in_place


def resize(conn: Any, journal: Journal, record: dict[str, Any], *, shutdown: dict[str, Any], watch: dict[str, Any]) -> dict[str, Any]:
    """Stop the guest, layer its disks, grow those that the flavor has larger, redefine it with the new flavor, start it if it ran."""
    resumed = record["step"] not in ("begun", "stopping", "stopped", "layering")
    if record["step"] in ("begun", "stopping"):
        record = _sealing.stop_unchanged(conn, journal, record, shutdown)
    domain: Any = None if record["step"] == "defining" else _defining.require_defined(conn, record)
    if record["step"] == "stopped":
        private = {"domain_xml": _definitions.inactive_xml(domain), **_belongings.archive(domain, record)}
        record = journal.update(record, step="layering", private=private, autostart=bool(domain.autostart()))
    uses = DiskUses(conn, journal.state)
    if record["step"] == "layering":
        _require_off(domain)
        _files.remove(uses, _layers(record), operation=record["uuid"], code="layer_covered")
        for disk in written_in_place(record):
            layer = layer_path(record, disk)
            _files.remove_unfinished([layer + _file_names.NEW])
            _qemu_img.create_overlay(layer + _file_names.NEW, disk["path"], disk["format"], disk["grow_to"])
            look = _qemu_access.look_for(record, disk["path"]) or _qemu_access.look_of(disk["path"])
            _whole_file.complete(layer + _file_names.NEW, look)
            _whole_file.publish(layer + _file_names.NEW, layer)
        for kind in _belongings.ALL:
            record = kind.keep(journal, record)
        record = journal.update(record, step="defining", published=_run_evidence.stamps(_written_to(record)))
    if record["step"] == "defining":
        domain = _defining.define(conn, _shaping.layered(record))
        if not _runs_as_defined(uses, record, domain):
            _require_off(domain)  # whoever started it meanwhile has started it on the disks below
        _kinds.sync(conn, record.get("new_disks", ()))
        record = journal.update(record, status="post-migrating", step="defined")
    up = _starting.bring_up(journal, record, domain, resumed=resumed, **watch)
    timings = {"started_at": up.pop("started_at")}
    journal.update(record, status="finished", step="finished", timings=timings, came_up=up)
    return {"timings": timings, "stopped": record["stopped"], **up}


def restore(conn: Any, journal: Journal, record: dict[str, Any], *, status: str, shutdown: dict[str, Any], error: str | None = None) -> bool:
    """Back to the old flavor and to the disks as they were at the switch; the record is closed with `status`.

    :returns: whether anything had to be changed.
    :raises KvmfleetError: with the record open, or `instance_vanished` with the record closed.
    """
    if record["status"] == status:
        return False
    domain = _domains.find_domain(conn, record["instance_uuid"])
    _late_shutdown.before_going_back(journal, record, domain)
    has_copy = _run_evidence.is_complete(record)
    why = _run_evidence.has_run(domain, record) if has_copy else None
    if why is not None:
        raise KvmfleetError(
            "guest_has_run",
            f"The old flavor of {record['instance_name']} is not restored, since the guest may have written with the new one: {why}. Run "
            "kvmfleet.compute.recover, which completes the operation, and then revert if its old state is to be used.",
            instance=record["instance_name"],
        )
    uses = DiskUses(conn, journal.state)
    _require_own(conn, uses, record, domain)
    as_before = "private" in record and domain is not None and _domains.is_active(domain) and not _runs_as_defined(uses, record, domain)
    for kind in _belongings.ALL if "private" in record and not as_before else ():
        kind.require_kept(record)  # before anything is noted or stopped: the guest goes on, and a confirm is possible
    if has_copy:
        record = journal.update(record, withdrawing=True)
    if record["status"] == "finished":
        if domain is not None:
            _power.require_not_saved(domain)
        record = journal.update(record, status="reverting", step="reverting")
    if "private" in record:
        if domain is not None and not as_before:
            if record["status"] != "reverting" and _domains.is_active(domain):
                raise KvmfleetError(
                    "guest_has_run",
                    f"{record['instance_name']} was started with the new flavor while that was being taken back, so nothing of it is removed. Shut it down to "
                    "give up what it has written since, and run kvmfleet.compute.recover.",
                    instance=record["instance_name"],
                )
            _power.stop(domain, journal.state, **shutdown)
        domain = _definitions.define(conn, record["private"]["domain_xml"])
        _domains.set_autostart(domain, record["autostart"])
        _files.remove(uses, _layers(record), operation=record["uuid"], code="layer_covered")
        _files.remove_unfinished(layer + _file_names.NEW for layer in _layers(record))
        for kind in _belongings.ALL:
            if as_before:
                kind.forget(record)
            else:
                record = kind.go_back(journal, record)
    _new_files.remove(uses, record)
    _kinds.sync(conn, record.get("new_disks", ()))
    if domain is not None and record.get("was_running") and record["step"] != "begun":
        _sealing.start_unchanged(domain, record)
    _keeping.take_back(conn, record)
    _claims.remove(journal.state, record["uuid"])
    journal.close(record, status, note="old flavor restored", error=error)
    _defining.require_left(domain, record)
    return True


def confirm(conn: Any, journal: Journal, record: dict[str, Any], *, timeout: float, agent_timeout: float = 0.0, without_agent: bool = False) -> bool:
    """Merge the layers into the disks they lie on; a running guest goes on running.

    :param timeout: seconds without progress after which the merge is given up (it can be repeated).
    :param agent_timeout, without_agent: as for `_operation.receiving.prove`.
    :returns: whether anything had to be changed.
    """
    if record["status"] == "confirmed":
        return False
    domain = _domains.find_domain(conn, record["instance_uuid"])
    if domain is None or record["status"] == "finished":
        _proof.require(domain, record, agent_timeout=agent_timeout, without_agent=without_agent, kept="What its disks were before the resize is")
    _power.require_not_saved(domain)
    uses = DiskUses(conn, journal.state)
    stacks = [_merging.Stack(disk, [layer_path(record, disk)]) for disk in written_in_place(record)]
    tops = _merging.tops(conn, uses, record, stacks)
    _files.require_removable(uses, _left_behind_files(record), operation=record["uuid"])
    record = journal.update(record, status="confirming", step="confirming")
    for disk in written_in_place(record):
        if disk["target"] in tops:
            _merging.merge(conn, record, disk, tops[disk["target"]], timeout=timeout)
        if _kinds.of(disk).is_misnamed(disk):
            _name_anew(conn, _domains.find_domain(conn, record["instance_uuid"]), disk)
    _merging.remove(uses, record, stacks)
    for kind in _belongings.ALL:
        kind.forget(record)
    _files.remove(uses, _left_behind_files(record), operation=record["uuid"], how={disk["path"]: _kinds.of(disk).remove for disk in _left_behind(record)})
    _kinds.sync(conn, _left_behind(record))
    _claims.remove(journal.state, record["uuid"])
    journal.close(record, "confirmed", note="layers merged")
    return True


def _require_off(domain: Any) -> None:
    """Nobody started the guest on the disks that its layers freeze."""
    if _domains.is_active(domain):
        raise KvmfleetError("not_off", f"Guest {domain.name()} was started by something else while its disks were being layered.", instance=domain.name())


def _require_own(conn: Any, uses: DiskUses, record: dict[str, Any], domain: Any) -> None:
    """What going back removes is used by nobody but the guest, and by the guest as the disks that this operation has made of it.

    :raises KvmfleetError: `disk_in_use_by`, `layer_covered`.
    """
    layers = _layers(record) if "private" in record else []
    own = _belongings.own_paths(record) if "private" in record else []
    uses.require_unused([*layers, *own, *_new_files.made(record)], operation=record["uuid"], guest=record["instance_uuid"])
    if domain is not None:
        stacks = [_merging.Stack(disk, [layer_path(record, disk)]) for disk in written_in_place(record)] if layers else []
        _merging.require_on_top(conn, uses, record, domain, stacks)


def _runs_as_defined(uses: DiskUses, record: dict[str, Any], domain: Any) -> bool:
    """Whether what runs is what this operation has defined. That the record has not come so far says nothing: somebody may have started it."""
    if _definition.migration_uuid(_definition.parse(_definitions.live_xml(domain))) == record["uuid"]:
        return True
    found = uses.of(_layers(record), operation=record["uuid"], processes=False)
    return any(use.kind == "runs" and use.guest == record["instance_uuid"] for used in found.values() for use in used)


def _name_anew(conn: Any, domain: Any, disk: dict[str, Any]) -> None:
    """Let the definition call a disk again what it is called: what was merged into it lies in the file that it is, and a layer was nothing else."""
    root = _definition.parse(_definitions.inactive_xml(domain))
    _kinds.define(root, disk, disk["format"])
    _definitions.define(conn, _edit.to_string(root))


def _layers(record: dict[str, Any]) -> list[str]:
    return [layer_path(record, disk) for disk in written_in_place(record)]


def _written_to(record: dict[str, Any]) -> list[str]:
    """The files that the guest may write to from the switch on, and that going back would remove or replace."""
    files = [layer_path(record, disk) for disk in written_in_place(record)] + [disk["path"] for disk in record.get("new_disks", ())]
    return [*files, *_belongings.own_paths(record)]


def _left_behind(record: dict[str, Any]) -> list[dict[str, Any]]:
    """The disks that the guest has no more, and that only a revert would need."""
    return [disk for disk in record["disks"] if disk.get("left_behind")]


def _left_behind_files(record: dict[str, Any]) -> list[str]:
    return [disk["path"] for disk in _left_behind(record)]
