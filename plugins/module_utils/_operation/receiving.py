# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The destination's copy of an instance: receive it, start it, prove it."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from functools import partial
from typing import Any

from .._channel import documents as _documents
from .._channel.checksums import tree
from .._channel.protocol import DEFINITION, MANIFEST
from .._channel.pull import Client
from .._domain import definition as _definition, edit as _edit
from .._guest import (
    defining as _defining,
    handed_definition as _handed_definition,
    proof as _proof,
)
from .._guest.belongings import registry as _belongings
from .._guest.belongings.belonging import Here
from .._journal import claims as _claims
from .._journal.records import Journal
from .._libvirt import domains as _domains
from .._rules.errors import KvmfleetError
from .._rules.values import Absent
from .._storage import (
    directories as _directories,
    files as _files,
    identity as _identity,
    places as _places,
    qemu_access as _qemu_access,
    qemu_img as _qemu_img,
    run_evidence as _run_evidence,
    shared_storage as _shared_storage,
)
from .._storage.incoming import UNCOPIED, all_files, exports, incoming_path, layer_part_path, part_path, publish, shortages, travelling, writable
from .._storage.kinds import registry as _kinds
from .._storage.kinds.kind import Arrived
from .._system import whole_file as _whole_file
from . import shaping as _shaping, starting as _starting

SEALED = {**_documents.SEALED, **_belongings.forms()}
"""What the manifest of a sealed guest may hold."""
OFFERED = {**_documents.DEFINITION, **{name: Absent(form) for name, form in _belongings.forms(with_definition=True).items()}}
"""What is tried while the guest runs."""


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
    :param verify: `extents` compares checksums of the data, `full` reads what was written back from the disk, `none` compares nothing.
    :param watch: keyword arguments of `_guest.power.watch`.
    :param bandwidth_limit: bytes a second that the channel sends, 0 where it has no limit; to judge later how fast the copy was.
    """
    timings = {"began_at": time.time()}
    _shared_storage.remove(record)
    resumed = record["step"] not in UNCOPIED
    if not resumed:
        record = _fetch(conn, journal, record, channel, bases, verify, bandwidth_limit, timings)
    if record["step"] == "defining":
        if _run_evidence.has_run(_domains.find_domain(conn, record["instance_uuid"]), record) is None:
            for kind in _belongings.ALL:
                kind.put_there(record)
        domain = _defining.define(conn, arriving(record))
        _belongings.redefine(domain, record["private"])
        _domains.set_autostart(domain, record["autostart"])
        record = journal.update(record, status="post-migrating", step="defined")
    return finish(conn, journal, record, watch=watch, timings=timings, resumed=resumed)


def _fetch(
    conn: Any,
    journal: Journal,
    record: dict[str, Any],
    channel: dict[str, Any],
    bases: dict[str, str],
    verify: str,
    bandwidth_limit: int,
    timings: dict[str, float],
) -> dict[str, Any]:
    """Let all files of the guest be here under their own names, judged, compared and complete; the record says what is to be defined."""
    _places.require_here(record)
    record = _directories.make(journal, journal.update(record, status="migrating", step="receiving"))
    with Client(journal.state, record["uuid"], **channel) as client:
        manifest = _documents.document(MANIFEST, client.document(MANIFEST), SEALED)
        _require_own(manifest, record, exports(record))
        _documents.require_sizes(record, manifest)
        private = {
            "domain_xml": record.get("private", {}).get("portable_xml") or manifest["domain_xml"],
            **_belongings.arrived(record, manifest, _here(record, bases)),
        }
        # Before anything is copied, and again where it is defined.
        arriving(dict(record, private=private))
        for kind in _belongings.ALL:
            record = kind.receive(conn, journal, record, manifest[kind.name]) if kind.form is not None else record
        record = _pull(journal, record, client, manifest, verify, timings)
    _merge_layers(record)
    for disk in record["disks"]:
        record = _adapt(journal, record, disk, bases, _key(conn, disk, manifest))
    _belongings.received(record, private)
    record = publish(journal, record, exports(record).values(), step="publishing")
    copied = sum(manifest["files"].values())
    return journal.update(
        record,
        step="defining",
        published=_run_evidence.stamps(_written_to(record)),
        copy_rate=_rate(record, copied, timings),
        copy_limit=bandwidth_limit,
        bytes_transferred=record.get("precopied_bytes", 0) + copied - client.spared,
        resumed_bytes=record.get("resumed_bytes", 0) + client.spared,
        copied_by=client.tool,
        was_running=manifest["was_running"],
        autostart=manifest["autostart"],
        private=private,
    )


def try_definition(conn: Any, journal: Journal, record: dict[str, Any], *, channel: dict[str, Any], bases: dict[str, str]) -> None:
    """Find out, while the guest still runs, whether this libvirt takes the definition that the guest is to have here, and its QEMU may open the bases.

    Where an older one does not know what a newer one has added by itself, it is noted that the guest is to be defined without that.

    :param bases: sha256 of a base image -> its path on this host.
    :raises KvmfleetError: `definition_refused`, `definition_not_taken`, `qemu_cannot_open`.
    """
    _places.require_here(record)
    with Client(journal.state, record["uuid"], **channel) as client:
        document = _documents.document(DEFINITION, client.document(DEFINITION), OFFERED)
    at_source = {base["sha256"]: base["path"] for disk in record["disks"] for base in disk["bases"]}
    kept = _belongings.arrived(record, document, _here(record, at_source), with_definition=True)

    def taken(definition: str) -> None:
        _defining.try_out(conn, arriving(dict(record, private={"domain_xml": definition})), record["uuid"], lambda trial: _belongings.tried(trial, kept))

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
        _kinds.of(disk).rebase(journal, record, disk, _arrived(journal, record, disk, bases))
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
    _kinds.sync(conn, all_files(record))
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


def confirm(journal: Journal, record: dict[str, Any]) -> bool:
    """Close the record once the source copy is gone."""
    if record["status"] == "confirmed":
        return False
    if record["status"] == "finished":
        record = journal.update(record, status="confirming", step="confirming")
    _claims.remove(journal.state, record["uuid"])
    journal.close(record, "confirmed", note="source copy is gone")
    return True


def _written_to(record: dict[str, Any]) -> list[str]:
    """The files of the copy that the guest may write to, but for those that going back would leave."""
    files = [disk["path"] for disk in writable(record)] + [disk["path"] for disk in record.get("new_disks", ())]
    return [*files, *_belongings.own_paths(record)]


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
    # What is no disk comes to a directory of QEMU's user, where nothing that a program opens by its name may grow.
    held = _belongings.sent(record)
    incoming = {name: client.private_path(name) if name in held else incoming_path(record, name) for name in manifest["files"]}
    client.progress.begin(sum(manifest["files"].values()))
    for name, path in incoming.items():
        client.copy_persistently(name, path, manifest["files"][name], manifest["sizes"][name])
    timings["copied_at"] = time.time()
    if client.progress.resumed:
        record = journal.update(record, note=f"the copy broke and went on, rounds: {client.progress.resumed}")
    if verify != "none":
        here = {name: tree(path, verify) for name, path in incoming.items()}
        for name, checksum in here.items():
            _compare(name, checksum, client.checksum(name, manifest["sizes"][name]))
    client.settle()
    for name in held.keys() & incoming.keys():
        part = part_path(record, held[name])
        _whole_file.copy(incoming[name], part, through=part)
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


def _arrived(journal: Journal, record: dict[str, Any], disk: Mapping[str, Any], bases: dict[str, str], key: bytes | None = None) -> Arrived:
    """What has come of a disk."""
    return Arrived(part_path(record, disk["path"]), bases, key, partial(_identity.require, journal.state), lambda: shortages(journal, record))


def _adapt(journal: Journal, record: dict[str, Any], disk: Mapping[str, Any], bases: dict[str, str], key: bytes | None) -> dict[str, Any]:
    """Make a disk of this host of what has come of it."""
    return _kinds.of(disk).adopt(journal, record, disk, _arrived(journal, record, disk, bases, key))


def _key(conn: Any, disk: dict[str, Any], manifest: dict[str, Any]) -> bytes | None:
    """What opens the received file, where it is encrypted and has to be opened."""
    encrypted = disk.get("encrypted") and disk["kind"] == "disk" and _kinds.of(disk).travels
    return _belongings.key_of(conn, _definition.parse(manifest["domain_xml"]), disk["target"]) if encrypted else None


def _here(record: dict[str, Any], bases: dict[str, str]) -> Here:
    return Here(bases, partial(_handed_definition.require_part, record))


def arriving(record: dict[str, Any]) -> str:
    """The definition that the guest is to have here; nothing is defined here but what has come through this judgement.

    :raises KvmfleetError: `definition_refused`.
    """
    root = _shaping.adapted(record)
    _handed_definition.require(root, record)
    return _edit.to_string(root)
