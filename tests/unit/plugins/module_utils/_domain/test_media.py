# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A medium that is gone or lies elsewhere: the guest moves as it starts, or the message has the command."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import libvirt
import pytest

from ansible_collections.kvmfleet.compute.plugins.module_utils._domain import definition as _definition, edit as _edit, media as _media
from ansible_collections.kvmfleet.compute.plugins.module_utils._guest.facts import domain_facts
from ansible_collections.kvmfleet.compute.plugins.module_utils._journal.state_dir import StateDir
from ansible_collections.kvmfleet.compute.plugins.module_utils._libvirt import definitions as _definitions
from ansible_collections.kvmfleet.compute.plugins.module_utils._operation import placing as _placing
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.planning import storage
from ansible_collections.kvmfleet.compute.tests.unit.plugins.module_utils.handed import disk

UUID = "0f5d8f9c-2c1e-4f0a-9d35-3a2a5cf0a113"
NAME = "sf:web & more"
Facts = Callable[..., dict[str, Any]]


@pytest.fixture
def facts(qemu: libvirt.virConnect, state: StateDir, images: Path, qemu_img: Callable[[str], str]) -> Facts:
    """Of a guest with a disk and what is put beside it."""
    qemu_img("create -q -f qcow2 web.qcow2 1G")

    def asking(source: str, device: str = "cdrom", kind: str = "file") -> dict[str, Any]:
        bus, target = ("fdc", "fda") if device == "floppy" else ("virtio", "vdb") if device == "disk" else ("sata", "sda")
        text = (
            f"<domain type='qemu'><name>{NAME.replace('&', '&amp;')}</name><uuid>{UUID}</uuid><memory unit='MiB'>64</memory><vcpu>1</vcpu>"
            "<os><type arch='x86_64' machine='pc'>hvm</type></os><devices>"
            f"<disk type='file'><driver name='qemu' type='qcow2'/><source file='{images}/web.qcow2'/><target dev='vda' bus='virtio'/></disk>"
            f"<disk type='{kind}' device='{device}'><source {source}/><target dev='{target}' bus='{bus}'/></disk></devices></domain>"
        )
        return domain_facts(qemu.defineXML(text), state, image_directories=[str(images)])

    return asking


def reasons(found: dict[str, Any]) -> list[tuple[str, str]]:
    return [(refusal["code"], refusal["reason"]) for refusal in found["refusals"]]


@pytest.mark.parametrize("device", ["cdrom", "floppy"])
@pytest.mark.parametrize("place", ["images", "elsewhere"])
def test_a_guest_moves_as_it_starts_without_an_optional_medium_that_is_gone(facts: Facts, images: Path, tmp_path: Path, device: str, place: str) -> None:
    gone = f"{images if place == 'images' else tmp_path}/gone.iso"
    found = facts(f"file='{gone}' startupPolicy='optional'", device)
    assert reasons(found) == []
    drive = found["disks"][1]
    assert (drive["path"], drive["left_out"]) == (None, gone)
    here, there = ({"host": name, "images_path": str(images)} for name in ("kvm1", "kvm2"))
    told = {answer["target"]: answer["text"] for answer in storage.place(found, here, there)}
    assert told[drive["target"]] == f"{drive['target']}: emptied ({gone} is gone, and startupPolicy='optional' lets the guest start without)"
    assert storage.place(found, here, here)[-1]["what"] == "left"


def test_an_optional_medium_that_is_there_travels(facts: Facts, images: Path) -> None:
    (images / "here.iso").write_bytes(bytes(512))
    found = facts(f"file='{images}/here.iso' startupPolicy='optional'")
    assert (reasons(found), found["disks"][1]["path"], "left_out" in found["disks"][1]) == ([], f"{images}/here.iso", False)


@pytest.mark.parametrize("policy", ["", "startupPolicy='mandatory'", "startupPolicy='requisite'"])
def test_the_message_of_a_medium_that_is_gone_has_the_command(facts: Facts, images: Path, tmp_path: Path, policy: str) -> None:
    """Also where it lay in no directory for images: nobody can move it there any more."""
    for gone in (f"{images}/gone.iso", f"{tmp_path}/gone.iso"):
        ((code, reason),) = reasons(facts(f"file='{gone}' {policy}"))
        command = f"virsh change-media {shlex.quote(NAME)} sda --eject --config"
        assert (code, reason) == ("image_missing", f"Disk sda: {gone} does not exist. Take the medium out: {command}")


def test_the_message_of_a_medium_elsewhere_says_how_to_eject_it_and_where_to_move_it(facts: Facts, images: Path, tmp_path: Path) -> None:
    (tmp_path / "Debian 12.iso").write_bytes(bytes(512))
    ((code, reason),) = reasons(facts(f"file='{tmp_path}/Debian 12.iso'"))
    name = shlex.quote(NAME)
    assert code == "image_outside_directories"
    assert f"Take the medium out (virsh change-media {name} sda --eject --config)" in reason
    there = f"'{images}/Debian 12.iso'"
    assert f"(mv '{tmp_path}/Debian 12.iso' {there} && virsh change-media {name} sda {there} --update --config)" in reason


def test_a_drive_of_the_host_is_ejected_as_well(facts: Facts) -> None:
    ((code, reason),) = reasons(facts("dev='/dev/sr0'", kind="block"))
    assert code == "unsupported_block_disk"
    assert reason.endswith(f"Take the medium out: virsh change-media {shlex.quote(NAME)} sda --eject --config")


def test_a_disk_that_is_gone_can_be_detached_whatever_its_policy_says(facts: Facts, images: Path) -> None:
    """libvirt would start the guest without the disk; nobody knows whether the guest can do without."""
    for policy in ("", "startupPolicy='optional'"):
        ((code, reason),) = reasons(facts(f"file='{images}/gone' {policy}", "disk"))
        assert (code, reason.endswith(f"virsh detach-disk {shlex.quote(NAME)} vdb --config")) == ("image_missing", True)


def test_the_destination_empties_the_drive_and_nothing_else(qemu: libvirt.virConnect, facts: Facts, images: Path) -> None:
    facts(f"file='{images}/gone.iso' startupPolicy='optional'")
    root = _definition.parse(_definitions.inactive_xml(qemu.lookupByName(NAME)))
    for target in ("sda", "vda", "absent"):
        _edit.empty_drive(root, target)
    assert [(disk.target, disk.path) for disk in _definition.disks(root)] == [("vda", f"{images}/web.qcow2"), ("sda", None)]
    taken = _definition.parse(_definitions.inactive_xml(qemu.defineXML(_edit.to_string(root))))
    assert [(disk.target, disk.device, disk.path) for disk in _definition.disks(taken)] == [("vda", "disk", f"{images}/web.qcow2"), ("sda", "cdrom", None)]


def test_a_volume_that_is_gone_leaves_an_empty_drive_too() -> None:
    text = "<disk type='volume' device='cdrom'><source pool='vms' volume='x.iso' startupPolicy='optional'/><target dev='sda'/></disk>"
    root = _definition.parse(f"<domain><devices>{text}</devices></domain>")
    (drive,) = _definition.disks(root)
    assert _media.is_left_out(drive, "/pool/gone.iso")
    _edit.empty_drive(root, "sda")
    assert [(disk.source_type, disk.volume) for disk in _definition.disks(root)] == [("file", None)]


def test_a_medium_in_two_drives_comes_for_each_under_a_name_of_its_own() -> None:
    """What the guest writes to is not parted: two such disks at one place stay what the claim refuses."""
    media = [disk("/images/x.iso", target, kind="media", format="raw") for target in ("sda", "sdb", "sdc")]
    volume = disk("/images/x.iso", "sdd", kind="media", format="raw", pool="vms", volume="x.iso")
    disks = [disk("/images/web"), *media, volume, disk("/images/web", "vdb"), disk("/images/x.iso", "sde", kind="media", shared=True)]
    found = _placing._apart(disks, {"migration_uuid": "m-1"})
    assert [(one["path"], one["volume"]) for one in found] == [
        ("/images/web", None),
        ("/images/x.iso", None),
        ("/images/x.m-1.2.iso", None),
        ("/images/x.m-1.3.iso", None),
        ("/images/x.m-1.4.iso", "x.m-1.4.iso"),
        ("/images/web", None),
        ("/images/x.iso", None),
    ]
