# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Layers and block jobs of the disks of a running guest."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Sequence
from typing import Any, NamedTuple

from .._system.watchdog import patience
from . import definitions as _definitions, domain_documents as _domain_documents, domains as _domains, guest_agent as _guest_agent
from .binding import LibvirtError, libvirt, supported

_JOBS = ("unknown", "pull", "copy", "commit", "active-commit", "backup")


def block_size(domain: Any, target: str) -> int | None:
    """The size in bytes that the guest sees of a disk wherever it is; None where libvirt cannot tell."""
    try:
        return domain.blockInfo(target)[0]
    except LibvirtError:
        return None


def layer_disks(domain: Any, layers: dict[str, str], others: Sequence[str], *, quiesce: bool) -> bool:
    """Let the running guest go on in new qcow2 layers, on all disks at the same instant; libvirt keeps no record of it.

    :param layers: target of a disk -> path of its new layer; :param others: targets of all other disks, which are left alone.
    :param quiesce: let the guest agent freeze the filesystems for that instant; where it does not, they are not frozen.
    :returns: whether they were frozen.
    """
    root = ET.Element("domainsnapshot")
    disks = ET.SubElement(root, "disks")
    for target, path in layers.items():
        disk = ET.SubElement(disks, "disk", {"name": target, "snapshot": "external"})
        ET.SubElement(disk, "driver", {"type": "qcow2"})
        ET.SubElement(disk, "source", {"file": path})
    for target in others:
        ET.SubElement(disks, "disk", {"name": target, "snapshot": "no"})
    xml = ET.tostring(root, encoding="unicode")
    flags = libvirt.VIR_DOMAIN_SNAPSHOT_CREATE_DISK_ONLY | libvirt.VIR_DOMAIN_SNAPSHOT_CREATE_NO_METADATA | libvirt.VIR_DOMAIN_SNAPSHOT_CREATE_ATOMIC
    if quiesce and _guest_agent.agent_answers(domain):
        # The guest writes out all that it holds in memory before it says that it is frozen.
        try:
            with patience():
                domain.snapshotCreateXML(xml, flags | libvirt.VIR_DOMAIN_SNAPSHOT_CREATE_QUIESCE)
            return True
        except LibvirtError:
            # Also where the layers are made and only the thaw has failed.
            made = _lies_on(domain, layers)
            if not _guest_agent.thaw(domain) and made:
                raise _guest_agent.frozen(domain) from None
            if made:
                return True
    with patience():  # QEMU writes out what lies in the memory of the host
        domain.snapshotCreateXML(xml, flags)
    return False


def _lies_on(domain: Any, layers: dict[str, str]) -> bool:
    """Whether the guest that runs writes to these."""
    root = ET.fromstring(_definitions.live_xml(domain))  # noqa: S314 - libvirt wrote it
    sources = {(disk.find("target").get("dev"), source.get("file")) for disk in root.findall("devices/disk") for source in disk.findall("source")}
    return sources.issuperset(layers.items())


class BlockJob(NamedTuple):
    """What works on a disk of a running guest.

    :param kind: libvirt's word; :param active_commit: it merges the image that the guest writes to.
    :param disk: that image; :param into: what the job writes to, as far as the definition of what runs tells.
    :param done: bytes; :param ready: the guest can go on in what it writes to.
    """

    kind: str
    active_commit: bool
    disk: str | None
    into: str | None
    done: int
    ready: bool

    def __str__(self) -> str:
        return f"{self.kind} to {self.into}" if self.into else self.kind


def block_job(domain: Any, target: str) -> BlockJob | None:
    """The job on a disk of a running guest, whoever has begun it; None where there is none."""
    job = domain.blockJobInfo(target, 0)
    if not job:
        return None
    root = ET.fromstring(_definitions.live_xml(domain))  # noqa: S314 - libvirt wrote it
    disk = next((disk for disk in root.findall("devices/disk") if (name := disk.find("target")) is not None and name.get("dev") == target), ET.Element("disk"))
    source, into = disk.find("source"), disk.find("mirror/source")
    mirror = disk.find("mirror")
    kind = _JOBS[job["type"]] if 0 <= job["type"] < len(_JOBS) else f"type {job['type']}"
    return BlockJob(
        kind=kind,
        active_commit=job["type"] == libvirt.VIR_DOMAIN_BLOCK_JOB_TYPE_ACTIVE_COMMIT and mirror is not None and mirror.get("job") == "active-commit",
        disk=None if source is None else source.get("file"),
        into=None if into is None else into.get("file"),
        done=job["cur"],
        ready=bool(job["end"]) and job["cur"] == job["end"],
    )


def block_jobs(domain: Any) -> list[str]:
    """What works on disks of a guest, whoever has begun it; nothing does for one that is off."""
    if not _domains.is_active(domain):
        return []
    root = ET.fromstring(_definitions.live_xml(domain))  # noqa: S314 - libvirt wrote it
    targets = [
        target.get("dev", "") for disk in root.findall("devices/disk") if disk.find("source") is not None and (target := disk.find("target")) is not None
    ]
    found = [f"{job} on disk {target}" for target in targets if (job := supported(lambda target=target: block_job(domain, target), None)) is not None]
    return found + (["backup"] if not found and _domain_documents.backup_xml(domain) is not None else [])


def begin_commit(domain: Any, target: str, *, base: str, top: str) -> None:
    """Begin to merge the image that a running guest writes to into one below it."""
    domain.blockCommit(target, base, top, 0, libvirt.VIR_DOMAIN_BLOCK_COMMIT_ACTIVE)


def pivot(domain: Any, target: str) -> bool:
    """Let the guest go on in what the job on its disk writes to; False where the job is not that far after all."""
    try:
        with patience():
            domain.blockJobAbort(target, libvirt.VIR_DOMAIN_BLOCK_JOB_ABORT_PIVOT)
    except LibvirtError:
        return False
    return True
