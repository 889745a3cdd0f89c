# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""All that libvirt knows of a domain: what runs, what is defined, what was saved."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from . import definitions as _definitions, domains as _domains
from .binding import libvirt, supported, unless, unless_gone


def backup_xml(domain: Any) -> str | None:
    return unless(libvirt.VIR_ERR_NO_DOMAIN_BACKUP, lambda: supported(lambda: domain.backupGetXMLDesc(0), None))


class Document(NamedTuple):
    """What libvirt knows of a domain, without secrets, and what it is of it: `runs`, `defined`, `saved` (managed save), `snapshot`, `checkpoint`, `backup`."""

    kind: str
    name: str | None
    xml: str


def documents(connection: Any) -> Iterator[tuple[Any, list[Document]]]:
    """Every domain of the host with all that says what it needs, now or later; nothing of one that has gone since it was listed."""
    active = _domains.domain_uuids(connection, flags=libvirt.VIR_CONNECT_LIST_DOMAINS_ACTIVE)
    saved = _domains.domain_uuids(connection, flags=libvirt.VIR_CONNECT_LIST_DOMAINS_MANAGEDSAVE)
    with_snapshots = _domains.domain_uuids(connection, flags=libvirt.VIR_CONNECT_LIST_DOMAINS_HAS_SNAPSHOT)
    with_checkpoints = _domains.domain_uuids(connection, flags=libvirt.VIR_CONNECT_LIST_DOMAINS_HAS_CHECKPOINT)

    def read(domain: Any) -> Iterator[Document]:
        uuid = domain.UUIDString()
        if uuid in active:
            yield Document("runs", None, _definitions.live_xml(domain))
            if (backup := backup_xml(domain)) is not None:
                yield Document("backup", None, backup)
        yield Document("defined", None, _definitions.inactive_xml(domain, secure=False))
        if uuid in saved and (text := supported(lambda: domain.managedSaveGetXMLDesc(0), None)) is not None:
            yield Document("saved", None, text)
        for snapshot in _definitions.snapshots(domain, secure=False) if uuid in with_snapshots else ():
            yield Document("snapshot", snapshot["name"], snapshot["xml"])
        for checkpoint in supported(domain.listAllCheckpoints, []) if uuid in with_checkpoints else ():
            yield Document("checkpoint", checkpoint.getName(), checkpoint.getXMLDesc(0))

    for domain in _domains.all_domains(connection):
        yield domain, unless_gone(lambda domain=domain: list(read(domain))) or []
