# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Ephemeral and swap disks in a definition: known by metadata or by the caller, added, re-created, removed, and nothing else has changed."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from typing import Any

import libvirt
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from ansible_collections.kvmfleet.compute.plugins.module_utils._domain import definition as _definition, edit as _edit, flavor_disks as _flavor_disks
from ansible_collections.kvmfleet.compute.plugins.module_utils._rules.errors import KvmfleetError
from ansible_collections.kvmfleet.compute.plugins.module_utils._storage.kinds import registry as _kinds

NAMES = ["virt_install", "virt_manager_uefi", "terraform", "cockpit", "vagrant", "nova", "foreign_metadata", "pinned_numa", "hotplug"]
QUIET = settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
KINDS = """<domain type='qemu'>
  <name>web</name>
  <devices>
    <disk type='file' device='disk'>
      <driver name='qemu' type='raw' cache='none' io='native' discard='unmap'/><source file='/i/web.img'/><target dev='vda' bus='virtio'/>
    </disk>
    <disk type='file' device='disk'><driver name='qemu' type='qcow2'/><source file='/i/scratch.qcow2'/><target dev='vdb' bus='virtio'/></disk>
    <disk type='volume' device='disk'><driver name='qemu' type='qcow2'/><source pool='p' volume='swap.v'/><target dev='vdc' bus='virtio'/></disk>
    <disk type='block' device='disk'><source dev='/dev/vg/x'/><target dev='vdd' bus='virtio'/></disk>
    <disk type='network' device='disk'><source protocol='rbd' name='p/i'/><target dev='vde' bus='virtio'/></disk>
    <disk type='file' device='disk'><source file='/i/r.img'/><target dev='vdf' bus='virtio'/><readonly/></disk>
    <disk type='file' device='disk'><source file='/i/s.img'/><target dev='vdg' bus='virtio'/><shareable/></disk>
    <disk type='file' device='cdrom'><source file='/i/s.iso'/><target dev='sda' bus='sata'/></disk>
  </devices>
</domain>"""

HARDWARE = "<memory>65536</memory><os><type arch='x86_64' machine='pc'>hvm</type></os>"


def canonical(text: str) -> str:
    return ET.canonicalize(text, strip_text=True)


def new_disk(role: str, target: str, path: str, beside: str = "vda", **more: Any) -> dict[str, Any]:
    return {"role": role, "target": target, "path": path, "format": "qcow2", "pool": None, "volume": None, "beside": beside, **more}


def known(**roles: tuple[str, str]) -> dict[str, dict[str, str]]:
    return {role: {"target": target, "name": name} for role, (target, name) in roles.items()}


def applied(text: str, **record: Any) -> ET.Element:
    root = _definition.parse(text)
    _flavor_disks.apply(root, record, _kinds.define)
    return root


def roles(root: ET.Element, root_disk: str | None = None, **told: str | None) -> dict[str, str]:
    return _flavor_disks.roles(root, _definition.disks(root, root_disk), told, _kinds.unfit)


def targets(text: str, count: int = 2) -> list[str]:
    root = _definition.parse(text)
    return _flavor_disks.free_targets(root, _definition.disks(root), count)


def with_disks(*disks: str) -> str:
    return f"<domain><name>d</name><devices>{''.join(disks)}</devices></domain>"


def disk(target: str, bus: str, address: str = "") -> str:
    return f"<disk type='file' device='disk'><source file='/i/{target}'/><target dev='{target}' bus='{bus}'/>{address}</disk>"


class TestRoles:
    def test_nothing_is_guessed(self, definitions: dict[str, str]) -> None:
        """Nova's names and its own metadata are no word of ours."""
        assert roles(_definition.parse(definitions["nova_uefi_secure_boot_ephemeral_swap"])) == {}
        assert roles(_definition.parse(KINDS), ephemeral=None, swap="") == {}

    def test_the_caller_names_them(self) -> None:
        assert roles(_definition.parse(KINDS), ephemeral="vdb", swap="vdc") == {"ephemeral": "vdb", "swap": "vdc"}

    @pytest.mark.parametrize(
        ("role", "target", "reason"),
        [
            ("swap", "vda", "swap_disk: vda is the root disk;"),
            ("swap", "vdz", "swap_disk: vdz is none of the disks of the guest (vda, vdb, vdc, vdd, vde, vdf, vdg, sda);"),
            ("ephemeral", "vdd", "ephemeral_disk: vdd is of the type block, not a file;"),
            ("ephemeral", "vde", "ephemeral_disk: vde is of the type network, not a file;"),
            ("swap", "vdf", "swap_disk: vdf is read-only;"),
            ("swap", "vdg", "swap_disk: vdg is shared with other guests"),
            ("swap", "sda", "swap_disk: sda is a cdrom;"),
        ],
    )
    def test_what_cannot_be_one_is_refused(self, role: str, target: str, reason: str) -> None:
        with pytest.raises(KvmfleetError) as caught:
            roles(_definition.parse(KINDS), **{role: target})
        assert caught.value.code == f"invalid_{role}_disk"
        assert caught.value.message.startswith(reason)
        assert caught.value.message.endswith("can be it (vdb, vdc).")

    def test_one_disk_is_not_both(self) -> None:
        with pytest.raises(KvmfleetError, match="vdb cannot be the ephemeral and the swap disk at once"):
            roles(_definition.parse(KINDS), ephemeral="vdb", swap="vdb")

    def test_the_root_disk_may_be_another_one(self) -> None:
        assert roles(_definition.parse(KINDS), "vdb", swap="vda") == {"swap": "vda"}

    def test_our_metadata_names_them(self) -> None:
        root = applied(KINDS, flavor_disks=known(ephemeral=("vdb", "scratch.qcow2"), swap=("vdc", "swap.v")))
        assert roles(root) == {"ephemeral": "vdb", "swap": "vdc"}
        assert roles(root, swap="vdb") == {"swap": "vdb"}
        assert roles(root, "vdb") == {"swap": "vdc"}

    @pytest.mark.parametrize(
        ("path", "found"),
        [
            ("/i/scratch.qcow2", True),
            ("/elsewhere/scratch.qcow2", True),
            ("/i/scratch.qcow2.resize-0f5d8f9c-2c1e-4f0a-9d35-3a2a5cf0affd", True),
            ("/i/scratch.qcow2.bak", False),
            ("/i/database.qcow2", False),
        ],
    )
    def test_another_disk_that_has_got_the_target_is_not_taken_for_one(self, path: str, found: bool) -> None:
        root = applied(KINDS, flavor_disks=known(ephemeral=("vdb", "scratch.qcow2")))
        _edit.set_disk_source(root, "vdb", path)
        assert roles(root) == ({"ephemeral": "vdb"} if found else {})

    def test_metadata_of_strangers_is_harmless(self) -> None:
        root = applied(KINDS, flavor_disks={"boot": {"target": "vdb", "name": "scratch.qcow2"}, "swap": {"target": "vda", "name": "web.img"}})
        assert roles(root) == {}


class TestFreeTargets:
    @pytest.mark.parametrize(
        ("disks", "expected"),
        [
            (["vda"], ["vdb", "vdc"]),
            (["vda", "vdb", "vdd"], ["vdc", "vde"]),
            (["vdb"], ["vdc", "vdd"]),
            (["vdy", "vdz"], ["vdaa", "vdab"]),
            (["xvda"], ["xvdb", "xvdc"]),
            (["disk0"], []),
            ([], []),
        ],
    )
    def test_after_the_root_disk(self, disks: list[str], expected: list[str]) -> None:
        assert targets(with_disks(*(disk(name, "virtio") for name in disks))) == expected

    def test_other_buses_have_names_of_their_own(self) -> None:
        assert targets(with_disks(disk("sdb", "scsi"), disk("vda", "virtio", "<boot order='1'/>"))) == ["vdb", "vdc"]

    def test_ide_has_four(self) -> None:
        assert targets(with_disks(disk("hda", "ide"), disk("hdc", "ide")), 3) == ["hdb", "hdd"]

    @pytest.mark.parametrize("bus", ["scsi", "sata", "ide"])
    def test_libvirt_has_an_address_for_them(self, qemu: libvirt.virConnect, bus: str) -> None:
        """Of disks whose addresses somebody has chosen, the targets that those belong to are passed over."""
        letters = "hd" if bus == "ide" else "sd"
        placed = "<address type='drive' controller='0' bus='{}' target='0' unit='{}'/>"
        there = [disk(f"{letters}a", bus, placed.format(0, 0)), disk(f"{letters}z" if bus != "ide" else "hdd", bus, placed.format(0, 1))]
        text = with_disks(*there).replace("<domain>", "<domain type='qemu'>").replace("<devices>", f"{HARDWARE}<devices>")
        (target,) = targets(text, 1)
        assert target == f"{letters}c"
        root = applied(text, new_disks=[new_disk("swap", target, "/i/new.qcow2", f"{letters}a")])
        defined = _definition.parse(qemu.defineXML(_edit.to_string(root)).XMLDesc())
        assert {found.target for found in _definition.disks(defined)} >= {f"{letters}a", target}

    @pytest.mark.parametrize(
        ("bus", "letters", "index"),
        [
            *(("scsi", "sd", index) for index in (0, 6, 7, 15, 30)),
            *(("sata", "sd", index) for index in (0, 5, 6)),
            *(("ide", "hd", index) for index in (0, 1, 2, 3)),
        ],
    )
    def test_the_address_of_a_target_is_libvirts(self, qemu: libvirt.virConnect, bus: str, letters: str, index: int) -> None:
        target = letters + _flavor_disks._letters(index)
        text = with_disks(disk(target, bus)).replace("<domain>", "<domain type='qemu'>").replace("<devices>", f"{HARDWARE}<devices>")
        address = _definition.parse(qemu.defineXML(text).XMLDesc()).find("devices/disk/address")
        assert address is not None
        assert _flavor_disks._drive_address(bus, index) == tuple(int(address.get(part, "")) for part in ("controller", "bus", "unit"))


class TestApply:
    def test_nothing_to_do_changes_nothing(self, definitions: dict[str, str]) -> None:
        for text in definitions.values():
            for record in ({}, {"new_disks": [], "dropped_disks": [], "flavor_disks": {}}, {"flavor_disks": None}):
                assert _edit.to_string(applied(text, **record)) == _edit.to_string(_definition.parse(text))

    def test_a_disk_is_opened_as_the_root_disk_is(self) -> None:
        root = applied(KINDS, new_disks=[new_disk("swap", "vdh", "/i/web-swap.qcow2")])
        added = next(element for element in root.findall("devices/disk") if element.find("target[@dev='vdh']") is not None)
        assert ET.tostring(added, encoding="unicode").strip() == (
            '<disk type="file" device="disk"><driver name="qemu" type="qcow2" cache="none" io="native" discard="unmap" />'
            '<source file="/i/web-swap.qcow2" /><target dev="vdh" bus="virtio" /></disk>'
        )

    def test_a_volume_beside_a_volume(self) -> None:
        root = applied(KINDS, new_disks=[new_disk("swap", "vdh", "/pool/web-swap.qcow2", pool="p", volume="web-swap.qcow2")])
        added = next(found for found in _definition.disks(root) if found.target == "vdh")
        assert (added.source_type, added.pool, added.volume, added.path) == ("volume", "p", "web-swap.qcow2", None)

    def test_a_disk_that_is_made_anew_keeps_its_place(self) -> None:
        text = KINDS.replace("<target dev='vdc' bus='virtio'/>", "<target dev='vdc' bus='virtio'/><serial>s</serial><alias name='ua-swap'/>")
        root = applied(text, new_disks=[new_disk("swap", "vdc", "/i/web-swap-2.qcow2")])
        before, after = (_definition.parse(_edit.to_string(tree)).findall("devices/disk") for tree in (_definition.parse(text), root))
        assert [canonical(ET.tostring(one, encoding="unicode")) for index, one in enumerate(before) if index != 2] == [
            canonical(ET.tostring(one, encoding="unicode")) for index, one in enumerate(after) if index != 2
        ]
        assert (after[2].find("source").attrib, after[2].findtext("serial"), after[2].get("type")) == ({"file": "/i/web-swap-2.qcow2"}, "s", "file")

    def test_a_disk_that_goes_takes_nothing_with_it(self) -> None:
        root = applied(KINDS, dropped_disks=["vdc"])
        assert [found.target for found in _definition.disks(root)] == ["vda", "vdb", "vdd", "vde", "vdf", "vdg", "sda"]

    @pytest.mark.parametrize("name", NAMES)
    def test_what_is_there_keeps_its_address(self, qemu: libvirt.virConnect, definitions: dict[str, str], name: str) -> None:
        before = qemu.defineXML(definitions[name].replace("host-passthrough", "maximum")).XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE)
        root = _definition.parse(before)
        like = next(found for found in _definition.disks(root) if found.is_root)
        new = [
            new_disk(role, target, f"/i/{role}.qcow2", like.target)
            for role, target in zip(_flavor_disks.ROLES, _flavor_disks.free_targets(root, _definition.disks(root), 2))
        ]
        assert len(new) == 2
        _flavor_disks.apply(
            root,
            {"new_disks": new, "flavor_disks": {disk["role"]: {"target": disk["target"], "name": f"{disk['role']}.qcow2"} for disk in new}},
            _kinds.define,
        )
        after = qemu.defineXML(_edit.to_string(root)).XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE)
        assert addresses(before).items() <= addresses(after).items()
        assert roles(_definition.parse(after)) == {disk["role"]: disk["target"] for disk in new}
        back = applied(after, dropped_disks=[disk["target"] for disk in new], flavor_disks={})
        assert without_ports(_edit.to_string(back)) == without_ports(before)

    @QUIET
    @given(sizes=st.lists(st.tuples(st.booleans(), st.booleans()), max_size=6))
    def test_there_and_back_is_the_identity(self, definitions: dict[str, str], sizes: list[tuple[bool, bool]]) -> None:
        """Any sequence of flavors with and without swap, on another host (made anew) or in place, and then one without."""
        text = definitions["virt_install"]
        now, number = text, 0
        for has_swap, moving in [*sizes, (False, True)]:
            swap = roles(_definition.parse(now)).get("swap")
            record: dict[str, Any] = {"dropped_disks": [swap] if swap and not has_swap else [], "flavor_disks": {}}
            if has_swap:
                target = swap or targets(now)[0]
                if moving or swap is None:
                    number += 1
                    record["new_disks"] = [new_disk("swap", target, f"/i/swap-{number}.qcow2")]
                record["flavor_disks"] = known(swap=(target, f"swap-{number}.qcow2"))
            now = _edit.to_string(applied(now, **record))
            assert (roles(_definition.parse(now)).get("swap") is not None) == has_swap
        assert now == _edit.to_string(_definition.parse(text))


def addresses(text: str) -> dict[str, str]:
    """Of every device that has one."""
    root = _definition.parse(text)
    found = {}
    for element in root.findall("devices/*"):
        address = element.find("address")
        if address is not None:
            named = {child.tag: child.attrib for child in element if child.tag in ("target", "mac", "source")}
            found[f"{element.tag} {sorted(element.attrib.items())} {named}"] = str(sorted(address.attrib.items()))
    return found


def without_ports(text: str) -> str:
    """The definition without the ports of its PCI buses: libvirt adds one for a device, and leaves it."""
    root = _definition.parse(text)
    devices = root.find("devices")
    assert devices is not None
    for port in devices.findall("controller[@type='pci']"):
        devices.remove(port)
    return canonical(_edit.to_string(root))
