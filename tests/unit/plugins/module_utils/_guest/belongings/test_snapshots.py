# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Snapshots as libvirt keeps them: archived with the definition, defined again with it, here or elsewhere."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import libvirt
import pytest

from ansible_collections.kvmfleet.compute.plugins.module_utils._guest.belongings import snapshots as _snapshots
from ansible_collections.kvmfleet.compute.plugins.module_utils._libvirt import definitions as _definitions
from ansible_collections.kvmfleet.compute.plugins.module_utils._rules.errors import KvmfleetError
from ansible_collections.kvmfleet.compute.plugins.module_utils._storage import qemu_img as _qemu_img

DISK_ONLY = libvirt.VIR_DOMAIN_SNAPSHOT_CREATE_DISK_ONLY


@pytest.fixture
def guest(qemu: libvirt.virConnect, definitions: dict[str, str], images: Path, qemu_img: Callable[[str], str]) -> libvirt.virDomain:
    qemu_img("create -q -f qcow2 base.qcow2 8M")
    qemu_img(f"create -q -f qcow2 -b {images}/base.qcow2 -F qcow2 web01.qcow2")
    text = definitions["virt_install"].replace("/var/lib/libvirt/images", str(images)).replace("host-passthrough", "maximum")
    return qemu.defineXML(text.replace("listen='127.0.0.1'>", "listen='127.0.0.1' passwd='hush'>"))


def take(guest: libvirt.virDomain, name: str, disks: str = "", flags: int = 0) -> None:
    guest.snapshotCreateXML(f"<domainsnapshot><name>{name}</name><description>{name} &amp; more</description>{disks}</domainsnapshot>", flags)


def external(path: Path) -> str:
    return f"<disks><disk name='vda' snapshot='external'><source file='{path}'/></disk></disks>"


def record(guest: libvirt.virDomain, images: Path) -> dict[str, Any]:
    """Of an operation that is planned now."""
    path = re.search(r"<source file='([^']+)'", guest.XMLDesc(0))
    assert path is not None
    chain = [[layer.path, layer.format, layer.virtual_size] for layer in _qemu_img.chain(path[1], "qcow2", [str(images)])]
    return {"disks": [{"target": "vda", "path": path[1], "chain": chain}]}


def tree(guest: libvirt.virDomain) -> list[tuple[str, str | None, str]]:
    """Name, parent and definition of each snapshot."""
    found = []
    for snapshot in guest.listAllSnapshots(libvirt.VIR_DOMAIN_SNAPSHOT_LIST_TOPOLOGICAL):
        try:
            parent = snapshot.getParent().getName()
        except libvirt.libvirtError:
            parent = None
        found.append((snapshot.getName(), parent, snapshot.getXMLDesc(libvirt.VIR_DOMAIN_SNAPSHOT_XML_SECURE)))
    return sorted(found)


def test_a_domain_that_was_undefined_and_defined_again_has_its_snapshots(guest: libvirt.virDomain, images: Path) -> None:
    """Branches, passwords and the current one too; repeating it changes nothing."""
    take(guest, "one")
    take(guest, "two")
    guest.revertToSnapshot(guest.snapshotLookupByName("one"))
    take(guest, "other")
    before, definition = tree(guest), _definitions.inactive_xml(guest)
    assert [(name, parent) for name, parent, _xml in before] == [("one", None), ("other", "one"), ("two", "one")]
    assert "hush" in before[0][2]

    archived = _snapshots.archive(guest, record(guest, images))
    connection = guest.connect()
    _definitions.undefine_keeping_everything(guest)
    restored = _definitions.define(connection, definition)
    assert tree(restored) == []
    for _time in range(2):
        _snapshots.redefine(restored, archived)
        assert tree(restored) == before
        assert restored.snapshotCurrent().getName() == "other"
    restored.revertToSnapshot(restored.snapshotLookupByName("two"))


def test_a_crash_between_two_of_them_is_made_up_for(guest: libvirt.virDomain, images: Path) -> None:
    take(guest, "one")
    take(guest, "two")
    before, definition, archived = tree(guest), _definitions.inactive_xml(guest), _snapshots.archive(guest, record(guest, images))
    connection = guest.connect()
    _definitions.undefine_keeping_everything(guest)
    restored = _definitions.define(connection, definition)
    _snapshots.redefine(restored, archived[:1])
    _snapshots.redefine(restored, archived)
    assert tree(restored) == before


def test_an_external_one_follows_its_image_and_the_layer_below(guest: libvirt.virDomain, images: Path, tmp_path: Path) -> None:
    take(guest, "inside")
    take(guest, "outside", external(images / "web01.outside"), DISK_ONLY)
    definition = _definitions.inactive_xml(guest)
    assert f"file='{images}/web01.outside'" in definition
    archived = _snapshots.archive(guest, record(guest, images))
    there = {f"{images}/web01.outside": "/new/web01.outside", f"{images}/web01.qcow2": "/bases/aa.qcow2"}
    inside, outside = _snapshots.moved(archived, lambda path: there.get(path, path))
    assert '<source file="/bases/aa.qcow2"' in inside["xml"]
    assert re.search(r"snapshot=\"external\".*?/new/web01.outside", outside["xml"], re.DOTALL)
    assert str(images) not in outside["xml"].split("<domain ")[0]

    connection = guest.connect()
    _definitions.undefine_keeping_everything(guest)
    elsewhere = _definitions.define(connection, definition.replace(f"{images}/web01.outside", "/new/web01.outside"))
    _snapshots.redefine(elsewhere, [inside, outside])
    assert [(name, parent) for name, parent, _xml in tree(elsewhere)] == [("inside", None), ("outside", "inside")]
    assert _snapshots.facts(elsewhere) == [
        {"name": "inside", "current": False, "external": False},
        {"name": "outside", "current": True, "external": True},
    ]


def test_what_needs_another_file_is_refused(guest: libvirt.virDomain, images: Path, qemu_img: Callable[[str], str]) -> None:
    """A disk that the guest has no longer, and one that somebody gave it since."""
    planned = record(guest, images)
    take(guest, "before")
    qemu_img("create -q -f qcow2 other.qcow2 8M")
    changed = guest.connect().defineXML(_definitions.inactive_xml(guest).replace("web01.qcow2", "other.qcow2"))
    now = record(changed, images)
    assert [code for code, _reason in _snapshots.refusals(changed, {layer[0] for layer in now["disks"][0]["chain"]})] == ["snapshot_elsewhere"]
    with pytest.raises(KvmfleetError, match="Snapshot before needs .*/web01.qcow2, which is no image of the guest"):
        _snapshots.archive(changed, now)
    assert len(_snapshots.archive(changed, planned)) == 1


def test_memory_in_a_file_is_refused(guest: libvirt.virDomain, images: Path) -> None:
    definition = _definitions.inactive_xml(guest)
    memory = f"<memory snapshot='external' file='{images}/memory'/>"
    flags = libvirt.VIR_DOMAIN_SNAPSHOT_CREATE_REDEFINE
    disks = external(images / "web01.later")
    text = f"<domainsnapshot><name>live</name><state>running</state><creationTime>1</creationTime>{memory}{disks}{definition}</domainsnapshot>"
    guest.snapshotCreateXML(text, flags)
    codes = [code for code, _reason in _snapshots.refusals(guest, {f"{images}/web01.qcow2", f"{images}/web01.later"})]
    assert codes == ["snapshot_memory"]


def test_a_layer_with_snapshots_is_not_merged(qemu_img: Callable[[str], str], images: Path) -> None:
    qemu_img("create -q -f qcow2 layer.qcow2 8M")
    _qemu_img.assert_no_snapshots(f"{images}/layer.qcow2")
    qemu_img("snapshot -c tuesday layer.qcow2")
    with pytest.raises(KvmfleetError, match=r"holds snapshots of the guest \(tuesday\)"):
        _qemu_img.assert_no_snapshots(f"{images}/layer.qcow2")
