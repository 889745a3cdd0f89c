# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The kinds of things that belong to a guest beside its disks: a line for each. An operation asks all of them, in this order."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Mapping, Sequence
from typing import Any

from ..._domain.reference import Reference
from ..._rules.values import Table
from .belonging import Belonging, Guest, Here, OwnFile
from .checkpoints import Checkpoints
from .console_logs import ConsoleLogs
from .firmware_variables import FirmwareVariables
from .secrets import Secrets
from .snapshots import Snapshots
from .tpm import TpmState

ALL: tuple[Belonging, ...] = (
    FirmwareVariables(),
    Secrets(),
    TpmState(),
    Snapshots(),
    Checkpoints(),
    ConsoleLogs(),
)


def facts(guest: Guest) -> dict[str, Any]:
    """What a plan has to know of them; why no layer may come over the disks while the guest runs (`not_layered`), or to stay (`not_in_place`)."""
    found = {key: value for kind in ALL for key, value in kind.facts(guest).items()}
    told = {**found, "name": guest.domain.name()}
    return {
        **found,
        "not_layered": [reason for kind in ALL for reason in kind.unlayered(found)],
        "not_in_place": [{"code": code, "reason": reason} for kind in ALL for code, reason in kind.not_in_place(told)],
    }


def answered(reference: Reference, found: Mapping[str, Any]) -> Reference:
    """A reference of the definition to something outside, with the answer that the facts of the guest give."""
    for kind in ALL:
        reference = kind.answered(reference, found)
    return reference


def proofs(conn: Any, record: Mapping[str, Any], key: str) -> dict[str, str]:
    """At the source, by which the destination tells whether it has the same as this host."""
    return {name: proof for kind in ALL for name, proof in kind.prove(conn, record, key).items()}


def lacking(conn: Any, record: Mapping[str, Any]) -> list[str]:
    """UUIDs of what this host has to be given."""
    return [uuid for kind in ALL for uuid in kind.lacking(conn, record)]


def key_of(conn: Any, root: ET.Element, target: str) -> bytes | None:
    """What opens an encrypted disk of a definition."""
    return next((key for kind in ALL if (key := kind.key_of(conn, root, target)) is not None), None)


def files(told: Mapping[str, Any], directories: Sequence[str] = ()) -> list[OwnFile]:
    """All files that they are in, by the facts of a guest or a record.

    :param directories: those of the host's images.
    """
    return [file for kind in ALL for file in kind.files(told, directories)]


def paths(told: Mapping[str, Any]) -> list[str]:
    """The paths of those files."""
    return [file.path for file in files(told)]


def own_paths(told: Mapping[str, Any]) -> list[str]:
    """The paths of those that nobody but the guest may use."""
    return [file.path for file in files(told) if file.own]


def sent(record: Mapping[str, Any]) -> dict[str, str]:
    """Name in the channel -> path of those that are sent as files."""
    return {file.name: file.path for file in files(record) if file.name is not None}


def sealed_names(record: Mapping[str, Any]) -> dict[str, str]:
    """Path -> path while the copy is sealed."""
    return {path: sealed for kind in ALL for path, sealed in kind.sealed_names(record).items()}


def seal(record: Mapping[str, Any]) -> dict[str, Any]:
    """What the record gets to know before anything is sealed."""
    return {key: value for kind in ALL for key, value in kind.seal(record).items()}


def forms(*, with_definition: bool = False) -> dict[str, Table]:
    """What each part of the manifest of a sealed guest may be, or of what is offered with the definition while it runs."""
    return {kind.name: kind.form for kind in _offered(with_definition) if kind.form is not None}


def archive(domain: Any, record: Mapping[str, Any], *, with_definition: bool = False) -> dict[str, Any]:
    """What has to be kept of them with the archived definition, or what of that libvirt forgets with it.

    :raises KvmfleetError: the code of a refusal.
    """
    kept = {kind.name: kind.archive(domain, record) for kind in ALL if kind.with_definition or not with_definition}
    return {name: value for name, value in kept.items() if value is not None}


def tried(trial: Any, kept: Mapping[str, Any]) -> None:
    """Find out on a trial of the definition what libvirt would not take of what has arrived."""
    for kind in ALL:
        if kept.get(kind.name):
            kind.tried(trial, kept[kind.name])


def received(record: Mapping[str, Any], kept: Mapping[str, Any]) -> None:
    """The copies hold what is needed of them.

    :raises KvmfleetError: for one that does not.
    """
    for kind in ALL:
        kind.received(record, kept.get(kind.name))


def redefine(domain: Any, private: Mapping[str, Any]) -> None:
    """Let libvirt know of what it forgets with a definition, as it was archived or has arrived."""
    for kind in ALL:
        if private.get(kind.name):
            kind.redefine(domain, private[kind.name])


def offered(conn: Any, record: Mapping[str, Any], *, with_definition: bool = False) -> dict[str, Any]:
    """Their parts of the manifest for a guest that is off and sealed, or of what is offered with the definition while it runs."""
    return {kind.name: kind.offer(conn, record) for kind in _offered(with_definition) if not kind.read_early}


def offered_early(conn: Any, record: Mapping[str, Any]) -> dict[str, Any]:
    """The other parts of the manifest, before the guest stops.

    :raises KvmfleetError: where one cannot be given any more.
    """
    return {kind.name: kind.offer(conn, record) for kind in _offered(False) if kind.read_early}


def arrived(record: Mapping[str, Any], document: Mapping[str, Any], here: Here, *, with_definition: bool = False) -> dict[str, Any]:
    """What is to be kept of those parts of a document of another host, as it is to be here.

    :raises KvmfleetError: `definition_refused`, `manifest_invalid`.
    """
    kept = {kind.name: kind.arrived(record, document[kind.name], here) for kind in _offered(with_definition) if kind.name in document}
    return {name: value for name, value in kept.items() if value is not None}


def _offered(with_definition: bool) -> list[Belonging]:
    return [kind for kind in ALL if kind.form is not None and (kind.with_definition or not with_definition)]
