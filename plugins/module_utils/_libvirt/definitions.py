# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Definitions of domains and of their snapshots, as libvirt reads and writes them."""

from __future__ import annotations

import hashlib
from typing import Any

from . import domains as _domains
from .binding import libvirt, supported, unless, unless_gone


def inactive_xml(domain: Any, *, secure: bool = True) -> str:
    """The definition of the next boot; `secure` includes passwords, which must not reach facts or logs."""
    return domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE | (libvirt.VIR_DOMAIN_XML_SECURE if secure else 0))


def portable_xml(domain: Any) -> str | None:
    """The definition of the next boot, passwords included, without what libvirt adds by itself and an older one may not know.

    None where the domain has snapshots, whose definitions libvirt does not write like that.
    """
    if snapshots(domain):
        return None
    return domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE | libvirt.VIR_DOMAIN_XML_SECURE | libvirt.VIR_DOMAIN_XML_MIGRATABLE)


def live_xml(domain: Any) -> str:
    """What runs now, without secrets; the same as the definition for a stopped domain."""
    return domain.XMLDesc(0)


def define(connection: Any, xml: str) -> Any:
    """Define (or redefine) a domain as libvirt itself wrote it. That need not be what its schema allows: libvirt takes, keeps and writes more."""
    return connection.defineXML(xml)


def define_checked(connection: Any, xml: str) -> Any | None:
    """Define (or redefine) a domain, checked against libvirt's schema; None, and nothing defined, where that does not allow it."""
    return unless(libvirt.VIR_ERR_XML_INVALID_SCHEMA, lambda: connection.defineXMLFlags(xml, libvirt.VIR_DOMAIN_DEFINE_VALIDATE))


def undefine_keeping_everything(domain: Any) -> None:
    """Undefine, and keep NVRAM, TPM state and every file. What libvirt knows of snapshots and checkpoints goes with the definition."""
    kept = libvirt.VIR_DOMAIN_UNDEFINE_KEEP_NVRAM | getattr(libvirt, "VIR_DOMAIN_UNDEFINE_KEEP_TPM", 0)
    known = libvirt.VIR_DOMAIN_UNDEFINE_SNAPSHOTS_METADATA | libvirt.VIR_DOMAIN_UNDEFINE_CHECKPOINTS_METADATA
    domain.undefineFlags(kept | known)


def snapshots(domain: Any, *, secure: bool = True) -> list[dict[str, Any]]:
    """`name`, `xml` and `current` (the one that the guest goes on from) of each snapshot, parents first; `secure` includes passwords."""
    flags = libvirt.VIR_DOMAIN_SNAPSHOT_XML_SECURE if secure else 0
    found = supported(lambda: domain.listAllSnapshots(libvirt.VIR_DOMAIN_SNAPSHOT_LIST_TOPOLOGICAL), [])
    return [{"name": snapshot.getName(), "xml": snapshot.getXMLDesc(flags), "current": bool(snapshot.isCurrent())} for snapshot in found]


def redefine_snapshot(domain: Any, xml: str, current: bool) -> None:
    """Let libvirt know of a snapshot again, whose data is in the images."""
    flags = libvirt.VIR_DOMAIN_SNAPSHOT_CREATE_REDEFINE | (libvirt.VIR_DOMAIN_SNAPSHOT_CREATE_CURRENT if current else 0)
    domain.snapshotCreateXML(xml, flags)


def fingerprint(domain: Any) -> str:
    """SHA-256 of the definition of the next boot, passwords left out: tells whether somebody changed it."""
    return hashlib.sha256(inactive_xml(domain, secure=False).encode()).hexdigest()


def live_xml_if_there(domain: Any) -> str | None:
    """What runs now, or None where the domain has gone since it was listed."""
    return unless_gone(lambda: live_xml(domain))


def definitions_if_there(domain: Any) -> list[str]:
    """What runs now, if it runs, and the definition of the next boot; nothing where the domain has gone since it was listed."""
    return unless_gone(lambda: [live_xml(domain), *([inactive_xml(domain, secure=False)] if _domains.is_active(domain) else [])]) or []
