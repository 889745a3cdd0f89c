# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The destination's copy of an instance: receive it, start it, prove it, or withdraw it again."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from typing import Any

from .._channel import documents as _documents
from .._channel.content_digest import tree
from .._channel.protocol import DEFINITION, MANIFEST
from .._channel.pull import Client, forget_peer
from .._domain import definition as _definition, edit as _edit
from .._guest import (
    console_logs as _console_logs,
    defining as _defining,
    handed_definition as _handed_definition,
    power as _power,
    proof as _proof,
    secrets as _secrets,
    snapshots as _snapshots,
    tpm as _tpm,
)
from .._journal import claims as _claims
from .._journal.records import Journal
from .._libvirt import definitions as _definitions, domains as _domains
from .._rules.errors import KvmfleetError, shown
from .._storage import (
    directories as _directories,
    disk_use as _disk_use,
    files as _files,
    identity as _identity,
    leftovers as _leftovers,
    new_files as _new_files,
    places as _places,
    pools as _pools,
    preallocation as _preallocation,
    qemu_access as _qemu_access,
    qemu_img as _qemu_img,
    run_evidence as _run_evidence,
    shared_storage as _shared_storage,
)
from .._storage.disk_use import DiskUses
from .._storage.incoming import NVRAM, UNCOPIED, all_files, exports, incoming_path, layer_part_path, part_path, publish, shortages, travelling, writable
from .._system import paths as _paths, whole_file as _whole_file
from . import shaping as _shaping, starting as _starting


def receive(
    conn: Any,
    journal: Journal,
    record: dict[str, Any],
    *,
    channel: dict[str, Any],
    bases: dict[str, str],
    verify: str,
    watch: dict[str, Any],
    bandwidth_limit: int = 0,
) -> dict[str, Any]:
    """Pull the sealed copy, verify, rebase and grow it, define the domain with the new flavor, start it if it ran, watch it.

    :param channel: keyword arguments of `_channel.protocol.Client`.
    :param bases: sha256 of a base image -> its path on this host.
    :param verify: `extents` compares digests of the data, `full` reads what was written back from the disk, `none` compares nothing.
    :param watch: keyword arguments of `_guest.power.watch`.
    :param bandwidth_limit: bytes a second that the channel sends, 0 where it has no limit; to judge later how fast the copy was.
    """
    timings = {"began_at": time.time()}
    _shared_storage.remove(record)
    resumed = record["step"] not in UNCOPIED
    if not resumed:
        _places.require_here(record)
        record = _directories.make(journal, journal.update(record, status="migrating", step="receiving"))
        with Client(journal.state, record["uuid"], **channel) as client:
            manifest = _documents.document(MANIFEST, client.document(MANIFEST), _documents.SEALED)
            _require_own(manifest, record, exports(record))
            _documents.require_sizes(record, manifest)
            _documents.require_state(record, manifest["tpm"])
            private = {
                "domain_xml": record.get("private", {}).get("portable_xml") or manifest["domain_xml"],
                "snapshots": _snapshots_here(record, manifest["snapshots"], bases),
                "tpm": manifest["tpm"],
            }
            # Before anything is copied, and again where it is defined.
            _shaping.arriving(dict(record, private=private))
            record = _secrets.receive(conn, journal, record, manifest["secrets"])
            record = _pull(journal, record, client, manifest, verify, timings)
        _merge_layers(record)
        _require_variables(record)
        for disk in record["disks"]:
            record = _adapt(journal, record, disk, bases, _key(conn, disk, manifest))
        record = publish(journal, record, exports(record).values(), step="publishing")
        record = _console_logs.receive(journal, record, manifest["console_logs"])
        record = journal.update(
            record,
            step="defining",
            published=_run_evidence.stamps(_written_to(record)),
            copy_rate=_rate(record, sum(manifest["files"].values()), timings),
            copy_limit=bandwidth_limit,
            bytes_transferred=record.get("precopied_bytes", 0) + sum(manifest["files"].values()) - client.spared,
            resumed_bytes=record.get("resumed_bytes", 0) + client.spared,
            copied_by=client.tool,
            was_running=manifest["was_running"],
            autostart=manifest["autostart"],
            private=private,
        )
    if record["step"] == "defining":
        if _run_evidence.has_run(_domains.find_domain(conn, record["instance_uuid"]), record) is None:
            _tpm.write(record["instance_uuid"], record["private"].get("tpm", {}), record["uuid"])
        domain = _defining.define(conn, _shaping.arriving(record))
        _snapshots.redefine(domain, record["private"].get("snapshots", []))
        _domains.set_autostart(domain, record["autostart"])
        record = journal.update(record, status="post-migrating", step="defined")
    return finish(conn, journal, record, watch=watch, timings=timings, resumed=resumed)


def try_definition(conn: Any, journal: Journal, record: dict[str, Any], *, channel: dict[str, Any], bases: dict[str, str]) -> None:
    """Find out, while the guest still runs, whether this libvirt takes the definition that the guest is to have here, and its QEMU may open the bases.

    Where an older one does not know what a newer one has added by itself, it is noted that the guest is to be defined without that.

    :param bases: sha256 of a base image -> its path on this host.
    :raises KvmfleetError: `definition_refused`, `definition_not_taken`, `qemu_cannot_open`.
    """
    _places.require_here(record)
    with Client(journal.state, record["uuid"], **channel) as client:
        document = _documents.document(DEFINITION, client.document(DEFINITION), _documents.DEFINITION)
    _snapshots_here(record, document.get("snapshots", []), {base["sha256"]: base["path"] for disk in record["disks"] for base in disk["bases"]})

    def taken(definition: str) -> None:
        _defining.try_out(conn, _shaping.arriving(dict(record, private={"domain_xml": definition})), record["uuid"])

    try:
        taken(document["domain_xml"])
    except KvmfleetError as exc:
        # What was judged to be none of the plan is refused, whatever else its source offers.
        if exc.code != "definition_not_taken" or not document["portable_xml"]:
            raise
        taken(document["portable_xml"])
        journal.update(record, private={"portable_xml": document["portable_xml"]}, note="defined without what the source's libvirt adds by itself")
    # After the judgement of the definition, by which files are opened here.
    _qemu_access.require_readable(conn, _definition.parse(document["domain_xml"]), bases.values())


def receive_round(
    journal: Journal, record: dict[str, Any], *, channel: dict[str, Any], bases: dict[str, str], verify: str, bandwidth_limit: int = 0
) -> dict[str, Any]:
    """Pull what the source has frozen under its running guest, verify it, and merge it into what came in earlier rounds.

    :param bandwidth_limit: as for `receive`.

    :returns: the `bytes` of data of this round, and the `rate`, in bytes a second, of the fastest round so far.
    """
    timings = {"began_at": time.time()}
    _places.require_here(record)
    record = _directories.make(journal, journal.update(record, step="precopying"))
    with Client(journal.state, record["uuid"], **channel) as client:
        manifest = _documents.document(MANIFEST, client.document(MANIFEST), _documents.MANIFEST)
        disks = {disk["target"]: disk["path"] for disk in (writable if record.get("rounds") else travelling)(record)}
        _require_own(manifest, record, disks)
        _documents.require_sizes(record, manifest)
        record = _pull(journal, record, client, manifest, verify, timings)
    for disk in () if record.get("rounds") else writable(record):
        _rebase(journal, record, disk, bases)
    _merge_layers(record)
    copied = sum(manifest["files"].values())
    changes = {
        "rounds": record.get("rounds", 0) + 1,
        "precopied_bytes": record.get("precopied_bytes", 0) + copied - client.spared,
        "resumed_bytes": record.get("resumed_bytes", 0) + client.spared,
    }
    record = journal.update(record, copy_rate=_rate(record, copied, timings), copy_limit=bandwidth_limit, note=f"{copied} bytes copied ahead", **changes)
    return {"bytes": copied, "rate": record["copy_rate"]}


def finish(conn: Any, journal: Journal, record: dict[str, Any], *, watch: dict[str, Any], timings: dict[str, float], resumed: bool) -> dict[str, Any]:
    """Start the defined domain if the guest ran before, unless an earlier run may have done so; watch it come up, and set `finished`."""
    domain = _defining.require_defined(conn, record)
    _pools.sync(conn, all_files(record))
    up = _starting.bring_up(journal, record, domain, resumed=resumed, **watch)
    timings["started_at"] = up.pop("started_at")
    journal.update(record, status="finished", step="finished", timings=timings, came_up=up)
    return {"timings": timings, **up}


def prove(conn: Any, record: dict[str, Any], *, agent_timeout: float, without_agent: bool = False) -> None:
    """Before anything is deleted: this host runs the guest (or, for a guest that was off, holds it).

    :param without_agent: somebody says that an agent which answered before need not answer any more.
    """
    domain = _domains.find_domain(conn, record["instance_uuid"])
    _proof.require(domain, record, agent_timeout=agent_timeout, without_agent=without_agent, kept="The source copy is")
    files = [*exports(record).values(), *(disk["path"] for disk in record.get("new_disks", ()))]
    missing = [path for path in files if not os.path.exists(path)]
    if missing:
        raise KvmfleetError(
            "destination_not_proven",
            f"Instance {record['instance_name']} is not confirmed: files are missing here: {', '.join(missing)}. The source copy is kept; repair the guest, "
            "or revert.",
            instance=record["instance_name"],
        )


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
        _files.remove(uses, own, operation=record["uuid"])
        stayed = _files.remove_unused(uses, media, operation=record["uuid"])
    else:
        # The guest is off until the source may go on, so that a file which somebody has begun to use since does not keep it.
        stayed = _files.remove_unused(uses, [*own, *media], operation=record["uuid"])
    _files.remove_unfinished(make(record, path) for path in exports(record).values() for make in (part_path, layer_part_path))
    _new_files.remove(uses, record)
    if record.get("tpm") and "private" in record:
        _tpm.remove(record["instance_uuid"], record["uuid"])
    _console_logs.remove(uses, record)
    _directories.remove_made(uses, journal, record)
    _secrets.release(conn, journal, record, record.get("defined_secrets", ()))
    forget_peer(journal.state, record["uuid"])
    _claims.remove(journal.state, record["uuid"])
    left = f", but for what others use here: {', '.join(stayed)}" if stayed else ""
    journal.close(record, status, note=f"destination copy removed{left}", error=error)
    return True


def _published(record: dict[str, Any]) -> tuple[list[str], list[str]]:
    """The files that this operation gave their names here and that still bear them: those of the guest alone, and media, which others may use."""
    media = {disk["path"] for disk in record["disks"] if disk["kind"] != "disk"}
    own, others = [], []
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
    for disk in writable(record) if domain is not None else ():
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


def confirm(journal: Journal, record: dict[str, Any]) -> bool:
    """Close the record once the source copy is gone."""
    if record["status"] == "confirmed":
        return False
    if record["status"] == "finished":
        record = journal.update(record, status="confirming", step="confirming")
    _claims.remove(journal.state, record["uuid"])
    journal.close(record, "confirmed", note="source copy is gone")
    return True


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


def _written_to(record: dict[str, Any]) -> list[str]:
    """The files of the copy that the guest may write to, but for those that going back would leave."""
    files = [disk["path"] for disk in writable(record)] + [disk["path"] for disk in record.get("new_disks", ())]
    return [*files, record["nvram"]] if record["nvram"] else files


def _require_own(manifest: dict[str, Any], record: dict[str, Any], expected: dict[str, str]) -> None:
    """The source offers the files and the round that are to come now; what came in an earlier round it may leave out."""
    offered = {**manifest["files"], **dict.fromkeys(manifest.get("there", ()))}
    early = {disk["target"] for disk in record["disks"] if disk["kind"] == "media"} if record.get("rounds") else set()
    wanted = (record["uuid"], record.get("rounds", 0), sorted(expected))
    found = (manifest["migration_uuid"], manifest["round"], sorted(offered))
    if found != wanted or not early.issuperset(manifest.get("there", ())) or manifest["sizes"].keys() != manifest["files"].keys():
        raise KvmfleetError(
            "manifest_invalid",
            f"The source offers files {found[2]} of migration {found[0]}, round {found[1]}; expected {wanted[2]} of {wanted[0]}, round {wanted[1]}.",
        )


def _pull(journal: Journal, record: dict[str, Any], client: Client, manifest: dict[str, Any], verify: str, timings: dict[str, float]) -> dict[str, Any]:
    """Copy and verify the files of the manifest, a disk of which there is an earlier round as a layer."""
    for shortage in shortages(journal, record, manifest["files"]):
        raise KvmfleetError("no_space", f"{shortage}.", **shortage.numbers())
    # Firmware variables come to a directory of QEMU's user, where nothing that a program opens by its name may grow.
    incoming = {name: client.private_path(name) if name == NVRAM else incoming_path(record, name) for name in manifest["files"]}
    client.progress.begin(sum(manifest["files"].values()))
    for name, path in incoming.items():
        client.copy_persistently(name, path, manifest["files"][name], manifest["sizes"][name])
    timings["copied_at"] = time.time()
    if client.progress.resumed:
        record = journal.update(record, note=f"the copy broke and went on, rounds: {client.progress.resumed}")
    if verify != "none":
        here = {name: tree(path, verify) for name, path in incoming.items()}
        for name, digest in here.items():
            _compare(name, digest, client.digest(name, manifest["sizes"][name]))
    client.settle()
    if NVRAM in incoming:
        part = part_path(record, record["nvram"])
        _whole_file.copy(incoming[NVRAM], part, through=part)
    timings["verified_at"] = time.time()
    return record


def _rate(record: dict[str, Any], copied: int, timings: dict[str, float]) -> int:
    """Bytes a second of the fastest copy of this operation: that of a small file says little about the link."""
    return max(record.get("copy_rate", 0), round(copied / max(timings["copied_at"] - timings["began_at"], 0.001)))


def _compare(name: str, here: dict[str, Any], there: dict[str, Any]) -> None:
    if "error" in there:
        raise KvmfleetError("verification_failed", f"The source could not read its own copy of {name}: {there['error']}.")
    if here["sha256"] != there.get("sha256"):
        raise KvmfleetError(
            "verification_failed",
            f"The copy of {name} differs from the source: {here['sha256']} ({here['size']} bytes) here, {there.get('sha256')} ({there.get('size')}) there.",
            have=here["sha256"],
            need=there.get("sha256"),
        )


def _merge_layers(record: dict[str, Any]) -> None:
    """Put what came of a layer over what came before; the base of the commit is always this operation's own file."""
    for disk in writable(record) if record.get("rounds") else ():
        below, layer = part_path(record, disk["path"]), layer_part_path(record, disk["path"])
        _qemu_img.rebase_unsafe(layer, "qcow2", below, disk["format"])
        _qemu_img.commit(layer, below)
        _files.remove_unfinished([layer])


def _rebase(journal: Journal, record: dict[str, Any], disk: dict[str, Any], bases: dict[str, str]) -> None:
    """Point the received file at this host's base, proven by content right now."""
    base = disk["base"]
    if base is not None:
        path = bases.get(base["sha256"])
        if path is None:
            raise KvmfleetError("base_missing", f"No base image with sha256 {base['sha256']} was named for {disk['target']}.", need=base["sha256"])
        _identity.require(journal.state, path, base, _of_bases(record, bases))
        _qemu_img.rebase_unsafe(part_path(record, disk["path"]), disk["format"], path, base["format"])


def _of_bases(record: dict[str, Any], bases: dict[str, str]) -> list[str]:
    return record["image_directories"] + [os.path.dirname(path) for path in bases.values()]


def _key(conn: Any, disk: dict[str, Any], manifest: dict[str, Any]) -> bytes | None:
    """What opens the received file, where it is encrypted and has to be opened."""
    encrypted = disk.get("encrypted") and disk["kind"] == "disk" and not disk.get("shared")
    return _secrets.key_of(conn, _definition.parse(manifest["domain_xml"]), disk["target"]) if encrypted else None


def _adapt(journal: Journal, record: dict[str, Any], disk: dict[str, Any], bases: dict[str, str], key: bytes | None) -> dict[str, Any]:
    """Rebase the received file, set its room aside, grow and check it."""
    part = part_path(record, disk["path"])
    if disk.get("shared"):
        _require_shared(record, disk)
        return record
    if disk["kind"] == "disk":
        _rebase(journal, record, disk, bases)
        record = _preallocation.set_aside(journal, record, disk, part)
    size = _qemu_img.luks_size(part) if key and disk["format"] == "raw" else _qemu_img.info(part, disk["format"]).virtual_size
    if size != disk["virtual_size"]:
        raise KvmfleetError("chain_changed", f"{part} has {size} bytes for the guest; by the plan {disk['target']} has {disk['virtual_size']}.")
    if disk["grow_to"] and size < disk["grow_to"]:
        _qemu_img.resize(part, disk["format"], disk["grow_to"], key)
    if disk["format"] != "raw":
        _qemu_img.check(part, disk["format"], key)
    layers = _qemu_img.chain(part, disk["format"], _of_bases(record, bases))
    if len(layers) != 1 + len(disk["bases"]):
        raise KvmfleetError("chain_changed", f"{part} has a chain of {len(layers)} layers here: {[layer.path for layer in layers]}.")
    return record


def _require_variables(record: dict[str, Any]) -> None:
    """Firmware variables stand on no other file, whatever format the definition says they have."""
    path = part_path(record, record["nvram"]) if record["nvram"] else None
    if path is not None and _qemu_img.is_qcow2(path) and (backing := _qemu_img.info(path, "qcow2").backing_path):
        raise KvmfleetError("chain_changed", f"The firmware variables {path} stand on another file, {shown(backing)}.")


def _require_shared(record: dict[str, Any], disk: dict[str, Any]) -> None:
    """A disk on shared storage is free, so the source's QEMU is off, and what the plan says of it holds here too."""
    _qemu_img.assert_not_in_use(disk["path"], disk["format"])
    directories = record["image_directories"]
    layers = [[layer.path, layer.format, layer.virtual_size] for layer in _qemu_img.chain(disk["path"], disk["format"], directories)]
    if layers[0][1:] != disk["chain"][0][1:] or layers[1:] != disk["chain"][1:]:
        raise KvmfleetError("chain_changed", f"The backing chain of {disk['path']} is {layers} here; it was {disk['chain']} when the operation was planned.")


def _snapshots_here(record: dict[str, Any], snapshots: list[dict[str, Any]], bases: dict[str, str]) -> list[dict[str, Any]]:
    """What the source knows of snapshots, with the paths and names that things have on this host, provided that they may be defined here."""
    paths = {disk["chain"][0][0]: disk["path"] for disk in record["disks"]}
    paths.update({base["path"]: bases.get(base["sha256"], base["path"]) for disk in record["disks"] for base in disk["bases"] if not disk.get("shared")})
    mappings = record.get("mappings", {})
    found = _snapshots.moved(snapshots, lambda path: paths.get(path, path), lambda root: _edit.map_names(root, mappings))
    formats = {paths.get(base["path"], base["path"]): base["format"] for disk in record["disks"] for base in disk["bases"]}
    _handed_definition.require_snapshots(found, record, {**formats, **{disk["path"]: disk["format"] for disk in record["disks"]}})
    return found
