# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Resize on the host where the guest already is: nothing is copied.

The switch freezes each writable disk under a new, empty qcow2 layer, lets the guest write there, and keeps a copy of its firmware
variables. So revert means the same as after a move to another host, whichever host placement chose: everything, the disks' content
included, is as it was at the switch. Confirm merges the layers back, while the guest runs.
"""

from __future__ import annotations

import os
from typing import Any

from . import (
    _claims,
    _defining,
    _domain_edit,
    _domain_xml,
    _firmware_variables,
    _flavor_disks,
    _libvirt,
    _names,
    _new_files,
    _pools,
    _power,
    _proof,
    _qemu_img,
    _run_evidence,
    _sealing,
    _starting,
    _tpm_state,
    _whole_file,
)
from ._errors import KvmfleetError
from ._journal import Journal


def resize(conn: Any, journal: Journal, record: dict[str, Any], *, shutdown: dict[str, Any], watch: dict[str, Any]) -> dict[str, Any]:
    """Stop the guest, layer its disks, grow those that the flavor has larger, redefine it with the new flavor, start it if it ran."""
    resumed = record["step"] not in ("begun", "stopping", "stopped", "layering")
    if record["step"] in ("begun", "stopping"):
        record = _sealing.stop_unchanged(conn, journal, record, shutdown)
    domain = _libvirt.find_domain(conn, record["instance_uuid"])
    if record["step"] == "stopped":
        private = {"domain_xml": _libvirt.inactive_xml(domain), "tpm": _tpm_state.read(record["instance_uuid"]) if record.get("tpm") else {}}
        record = journal.update(record, step="layering", private=private, autostart=bool(domain.autostart()))
    if record["step"] == "layering":
        for disk in _writable(record):
            layer = layer_path(record, disk)
            for path in (layer, layer + _names.NEW):
                with _names.if_there():
                    os.unlink(path)
            _qemu_img.create_overlay(layer + _names.NEW, disk["path"], disk["format"], disk["grow_to"])
            _whole_file.complete(layer + _names.NEW)
            _whole_file.publish(layer + _names.NEW, layer)
        record = _firmware_variables.keep(journal, record)
        record = journal.update(record, step="defining", published=_run_evidence.stamps(_written_to(record)))
    if record["step"] == "defining":
        domain = _defining.define(conn, _definition(record))
        _pools.sync(conn, record.get("new_disks", ()))
        record = journal.update(record, status="post-migrating", step="defined")
    up = _starting.bring_up(journal, record, domain, resumed=resumed, **watch)
    timings = {"started_at": up.pop("started_at")}
    journal.update(record, status="finished", step="finished", timings=timings, came_up=up)
    return {"timings": timings, "stopped": record["stopped"], **up}


def restore(conn: Any, journal: Journal, record: dict[str, Any], *, status: str, shutdown: dict[str, Any], error: str | None = None) -> bool:
    """Back to the old flavor and to the disks as they were at the switch; the record is closed with `status`.

    :returns: whether anything had to be changed.
    """
    if record["status"] == status:
        return False
    domain = _libvirt.find_domain(conn, record["instance_uuid"])
    if _run_evidence.is_complete(record) and not record.get("withdrawing"):
        why = _run_evidence.has_run(domain, record)
        if why is not None:
            raise KvmfleetError(
                "guest_has_run",
                f"The old flavor of {record['instance_name']} is not restored, since the guest may have written with the new one: {why}. Run "
                "kvmfleet.compute.recover, which completes the operation, and then revert if its old state is to be used.",
                instance=record["instance_name"],
            )
        record = journal.update(record, withdrawing=True)
    if record["status"] == "finished":
        if domain is not None:
            _power.require_not_saved(domain)
        record = journal.update(record, status="reverting", step="reverting")
    if "private" in record:
        if record["nvram"]:
            _firmware_variables.require_kept(record)
        if domain is not None and record["status"] == "reverting":
            _power.stop(domain, **shutdown)
        domain = _libvirt.define(conn, record["private"]["domain_xml"])
        _libvirt.set_autostart(domain, record["autostart"])
        for disk in _writable(record):
            for path in (layer_path(record, disk), layer_path(record, disk) + _names.NEW):
                with _names.if_there():
                    os.unlink(path)
        record = _firmware_variables.bring_back(journal, record)
        if record["private"].get("tpm"):
            _tpm_state.remove(record["instance_uuid"], record["uuid"])
            _tpm_state.write(record["instance_uuid"], record["private"]["tpm"], record["uuid"])
    _new_files.remove(record)
    _pools.sync(conn, record.get("new_disks", ()))
    if domain is not None and record.get("was_running") and record["step"] != "begun":
        _sealing.start_unchanged(domain, record)
    _claims.remove(journal.state, record["uuid"])
    journal.close(record, status, note="old flavor restored", error=error)
    return True


def confirm(conn: Any, journal: Journal, record: dict[str, Any], *, timeout: float, agent_timeout: float = 0.0, without_agent: bool = False) -> bool:
    """Merge the layers into the disks they lie on; a running guest goes on running.

    :param timeout: seconds without progress after which the merge is given up (it can be repeated).
    :param agent_timeout, without_agent: as for `_receiving.prove`.
    :returns: whether anything had to be changed.
    """
    if record["status"] == "confirmed":
        return False
    domain = _libvirt.find_domain(conn, record["instance_uuid"])
    if domain is None or record["status"] == "finished":
        _proof.require(domain, record, agent_timeout=agent_timeout, without_agent=without_agent, kept="What its disks were before the resize is")
    _power.require_not_saved(domain)
    record = journal.update(record, status="confirming", step="confirming")
    for disk in _writable(record):
        layer = layer_path(record, disk)
        if _disk_path(domain, disk["target"]) == layer:
            _qemu_img.assert_no_snapshots(layer)
            if _libvirt.is_active(domain):
                _libvirt.commit_and_pivot(domain, disk["target"], base=disk["path"], top=layer, timeout=timeout)
            else:
                _qemu_img.commit(layer, disk["path"])
                root = _domain_xml.parse(_libvirt.inactive_xml(domain))
                _domain_edit.set_disk_source(root, disk["target"], disk["path"], disk["format"])
                domain = _libvirt.define(conn, _domain_edit.to_string(root))
        if disk.get("pool"):
            domain = _as_volume(conn, domain, disk)
        with _names.if_there():
            os.unlink(layer)
    _firmware_variables.forget(record)
    for disk in _left_behind(record):
        if os.path.lexists(disk["path"]):
            _qemu_img.assert_not_in_use(disk["path"], disk["format"])
            os.unlink(disk["path"])
    _pools.sync(conn, _left_behind(record))
    _claims.remove(journal.state, record["uuid"])
    journal.close(record, "confirmed", note="layers merged")
    return True


def _as_volume(conn: Any, domain: Any, disk: dict[str, Any]) -> Any:
    """Let the definition name the volume again: what was merged lies in the file that it is, and a layer was none."""
    root = _domain_xml.parse(_libvirt.inactive_xml(domain))
    _domain_edit.set_disk_volume(root, disk["target"], disk["pool"], disk["volume"], disk["format"])
    return _libvirt.define(conn, _domain_edit.to_string(root))


def layer_path(record: dict[str, Any], disk: dict[str, Any]) -> str:
    return _names.beside(disk["path"], _names.RESIZE, record)


def _writable(record: dict[str, Any]) -> list[dict[str, Any]]:
    return [disk for disk in record["disks"] if disk["kind"] == "disk" and not disk.get("left_behind")]


def _written_to(record: dict[str, Any]) -> list[str]:
    """The files that the guest may write to from the switch on, and that going back would remove or replace."""
    files = [layer_path(record, disk) for disk in _writable(record)] + [disk["path"] for disk in record.get("new_disks", ())]
    return [*files, record["nvram"]] if record["nvram"] else files


def _left_behind(record: dict[str, Any]) -> list[dict[str, Any]]:
    """The disks that the guest has no more, and that only a revert would need."""
    return [disk for disk in record["disks"] if disk.get("left_behind")]


def _disk_path(domain: Any, target: str) -> str | None:
    root = _domain_xml.parse(_libvirt.inactive_xml(domain, secure=False))
    return next((disk.path for disk in _domain_xml.disks(root) if disk.target == target), None)


def _definition(record: dict[str, Any]) -> str:
    root = _domain_xml.parse(record["private"]["domain_xml"])
    for disk in _writable(record):
        _domain_edit.set_disk_source(root, disk["target"], layer_path(record, disk), "qcow2")
    _flavor_disks.apply(root, record)
    flavor = record["new_flavor"]
    _domain_edit.apply_flavor(root, flavor["vcpus"], flavor["ram"], record.get("tuning"), record.get("pins"))
    _domain_edit.set_kvmfleet_metadata(
        root, flavor["name"], record["availability_zone"], record["source_host"], record["uuid"], extra_specs=flavor["extra_specs"]
    )
    return _domain_edit.to_string(root)
