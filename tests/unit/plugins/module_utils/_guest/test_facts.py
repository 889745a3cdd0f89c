# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import libvirt
import pytest

from ansible_collections.kvmfleet.compute.plugins.module_utils._domain import definition as _definition
from ansible_collections.kvmfleet.compute.plugins.module_utils._guest import facts as _facts
from ansible_collections.kvmfleet.compute.plugins.module_utils._guest.belongings import tpm as _tpm
from ansible_collections.kvmfleet.compute.plugins.module_utils._guest.facts import domain_facts
from ansible_collections.kvmfleet.compute.plugins.module_utils._journal.state_dir import StateDir
from ansible_collections.kvmfleet.compute.plugins.module_utils._libvirt import definitions as _definitions, domains as _domains

QemuImg = Callable[[str], str]
Luks = Callable[[str, bytes], None]


@pytest.fixture
def guest(qemu: libvirt.virConnect, definitions: dict[str, str], images: Path, qemu_img: QemuImg) -> libvirt.virDomain:
    """A stopped guest as virt-install defines it, on an overlay."""
    qemu_img("create -q -f qcow2 base.qcow2 1500M")
    qemu_img(f"create -q -f qcow2 -b {images}/base.qcow2 -F qcow2 web01.qcow2 3000M")
    text = definitions["virt_install"].replace("/var/lib/libvirt/images", str(images)).replace("host-passthrough", "maximum")
    return qemu.defineXML(text.replace("listen='127.0.0.1'>", "listen='127.0.0.1' passwd='hush'>"))


@pytest.fixture
def facts(guest: libvirt.virDomain, state: StateDir, images: Path) -> Callable[..., dict[str, Any]]:
    def asking(**more: Any) -> dict[str, Any]:
        return domain_facts(guest, state, image_directories=[str(images)], **more)

    return asking


def codes(found: dict[str, Any]) -> list[str]:
    return [refusal["code"] for refusal in found["refusals"]]


def test_an_ordinary_guest_is_described_in_full(facts: Callable[..., dict[str, Any]], images: Path) -> None:
    found = facts()
    assert (found["name"], found["state"], found["persistent"], found["autostart"], found["machine"]) == ("web01", "shutoff", True, False, "pc-q35-7.2")
    assert found["flavor"] == {"name": None, "vcpus": 2, "ram": 2048, "disk": 3, "ephemeral": 0, "swap": 0, "extra_specs": {}}
    (disk,) = found["disks"]
    assert (disk["target"], disk["root"], disk["virtual_size"], disk["format"]) == ("vda", True, 3000 * 1024**2, "qcow2")
    assert [layer["path"] for layer in disk["chain"]] == [f"{images}/web01.qcow2", f"{images}/base.qcow2"]
    assert [layer["mode"] for layer in disk["chain"]] == [f"{os.stat(layer['path']).st_mode & 0o7777:04o}" for layer in disk["chain"]]
    assert found["agent"] == {"configured": True, "connected": False}
    assert found["refusals"] == []


def test_no_secret_is_told(facts: Callable[..., dict[str, Any]], guest: libvirt.virDomain) -> None:
    assert "hush" in _definitions.inactive_xml(guest)
    assert "hush" not in json.dumps(facts())
    assert len(json.dumps(facts())) < 4096


def test_bases_are_identified_by_content_on_request(facts: Callable[..., dict[str, Any]]) -> None:
    overlay, base = facts(identify=True)["disks"][0]["chain"]
    assert "identity" not in overlay
    assert (len(base["identity"]["sha256"]), base["identity"]["virtual_size"]) == (64, 1500 * 1024**2)
    assert "identity" not in facts()["disks"][0]["chain"][1]


def test_the_digest_of_the_definition_changes_with_it(facts: Callable[..., dict[str, Any]], guest: libvirt.virDomain) -> None:
    before = facts()["xml_digest"]
    assert facts()["xml_digest"] == before
    guest.setMetadata(libvirt.VIR_DOMAIN_METADATA_TITLE, "other", None, None, libvirt.VIR_DOMAIN_AFFECT_CONFIG)
    assert facts()["xml_digest"] != before


def test_an_image_that_was_not_closed_cleanly_is_a_refusal_with_its_way_out(facts: Callable[..., dict[str, Any]], images: Path, qemu_img: QemuImg) -> None:
    """Its own, and one below; until it is repaired as the message says."""
    for name in ("web01", "base"):
        qemu_img(f"amend -q -f qcow2 -o lazy_refcounts=on {name}.qcow2")
        subprocess.run(["qemu-io", "-f", "qcow2", "-c", "write 0 64k", "-c", "sigraise 9", f"{images}/{name}.qcow2"], check=False, capture_output=True)
        found = facts()
        assert codes(found) == ["image_dirty"]
        assert f"2. repair it while the guest is off (qemu-img check -r all -f qcow2 {images}/{name}.qcow2)" in found["refusals"][0]["reason"]
        qemu_img(f"check -q -r all -f qcow2 {name}.qcow2")
        assert codes(facts()) == []


def test_hostile_and_missing_images_are_refusals_of_the_guest(facts: Callable[..., dict[str, Any]], images: Path, qemu_img: QemuImg) -> None:
    qemu_img("rebase -u -f qcow2 -b /etc/shadow -F raw web01.qcow2")
    found = facts()
    assert codes(found) == ["backing_outside_directories"]
    assert found["disks"][0]["error"]["code"] == "backing_outside_directories"
    assert found["flavor"]["disk"] == 0
    (images / "web01.qcow2").unlink()
    assert codes(facts()) == ["image_missing"]


def test_every_layer_below_the_writable_one_is_identified(facts: Callable[..., dict[str, Any]], images: Path, qemu_img: QemuImg) -> None:
    qemu_img("create -q -f qcow2 ground.qcow2 1500M")
    qemu_img(f"rebase -u -f qcow2 -b {images}/ground.qcow2 -F qcow2 base.qcow2")
    found = facts(identify=True)
    assert codes(found) == []
    assert [os.path.basename(layer["path"]) for layer in found["disks"][0]["chain"] if "identity" in layer] == ["base.qcow2", "ground.qcow2"]


def test_files_that_the_guest_boots_from_are_told_like_disks(
    qemu: libvirt.virConnect, guest: libvirt.virDomain, state: StateDir, images: Path, qemu_img: QemuImg
) -> None:
    (images / "vmlinuz").write_bytes(b"kernel" * 1000)
    boot = f"<kernel>{images}/vmlinuz</kernel><initrd>{images}/absent</initrd>"
    changed = qemu.defineXML(_definitions.inactive_xml(guest).replace("<boot dev='hd'/>", boot))
    found = domain_facts(changed, state, image_directories=[str(images)])
    kernel, initrd = found["boot_files"]
    assert (kernel["target"], kernel["format"], kernel["readonly"], kernel["file_bytes"]) == ("kernel", "raw", True, 6000)
    assert initrd["error"]["code"] == "image_missing"
    assert codes(found) == ["image_missing"]
    assert "File initrd: " in found["refusals"][0]["reason"]


def test_snapshots_are_told(facts: Callable[..., dict[str, Any]], guest: libvirt.virDomain) -> None:
    for name in ("one", "two"):
        guest.snapshotCreateXML(f"<domainsnapshot><name>{name}</name></domainsnapshot>")
    found = facts()
    assert found["snapshots"] == [{"name": "one", "current": False, "external": False}, {"name": "two", "current": True, "external": False}]
    assert codes(found) == []


def test_what_belongs_to_the_host_is_a_refusal_with_its_reason(
    qemu: libvirt.virConnect, definitions: dict[str, str], state: StateDir, images: Path, qemu_img: QemuImg
) -> None:
    qemu_img("create -q -f qcow2 coreos.qcow2 1G")
    text = definitions["ignition"].replace("/var/lib/libvirt/images", str(images))
    found = domain_facts(qemu.defineXML(text), state, image_directories=[str(images)])
    assert found["refusals"] == [
        {
            "code": "unsupported_qemu_argument",
            "reason": f"name=opt/com.coreos/config,file={images}/coreos.ign: an argument for QEMU names a file of this host (qemu:commandline).",
        }
    ]


def test_a_guest_of_the_test_driver_is_no_guest_to_move(state: StateDir) -> None:
    connection = libvirt.open("test:///default")
    found = domain_facts(_domains.find_domain(connection, "test"), state, image_directories=["/var/lib/libvirt/images"])
    assert codes(found) == ["unsupported_virt_type", "image_missing"]


def test_a_guest_that_is_paused_or_saved_is_told_from_one_that_is_off(state: StateDir) -> None:
    """Libvirt says of a saved one that it is shut off, too."""
    domain = _domains.find_domain(libvirt.open("test:///default"), "test")

    def found() -> tuple[str, bool, bool]:
        facts = domain_facts(domain, state, image_directories=["/var/lib/libvirt/images"])
        return facts["state"], facts["managed_save"], "managed_save" in codes(facts)

    domain.suspend()
    assert found() == ("paused", False, False)
    domain.managedSave()
    assert found() == ("shutoff", True, True)
    domain.managedSaveRemove()
    assert found() == ("shutoff", False, False)


@pytest.mark.parametrize("key", ["web01", "0f5d8f9c-2c1e-4f0a-9d35-3a2a5cf0a101", "0F5D8F9C2C1E4F0A9D353A2A5CF0A101"])
def test_a_domain_is_found_by_name_or_uuid(qemu: libvirt.virConnect, guest: libvirt.virDomain, key: str) -> None:
    assert _domains.find_domain(qemu, key).UUIDString() == guest.UUIDString()


@pytest.mark.parametrize("key", ["", "web0", "../web01", "web01\n", "web01; reboot", "00000000-0000-0000-0000-000000000000"])
def test_other_names_find_nothing(qemu: libvirt.virConnect, guest: libvirt.virDomain, key: str) -> None:
    assert _domains.find_domain(qemu, key) is None


def redefined(guest: libvirt.virDomain, old: str, new: str) -> None:
    text = _definitions.inactive_xml(guest)
    assert old in text
    guest.connect().defineXML(text.replace(old, new))


def test_what_placement_asks_a_host_for(facts: Callable[..., dict[str, Any]], guest: libvirt.virDomain) -> None:
    found = facts()
    assert (found["cpu"], found["cpu_shares"], found["tpm"], found["secure_boot"]) == ({"mode": "maximum", "model": None, "features": None}, None, None, False)
    redefined(guest, "</currentMemory>", "</currentMemory><cputune><shares>2048</shares></cputune>")
    assert (facts()["cpu_shares"], facts()["huge_pages"]) == (2048, None)


def test_a_flavor_is_tried_on_the_definition_while_the_guest_runs(facts: Callable[..., dict[str, Any]], guest: libvirt.virDomain) -> None:
    redefined(guest, "</currentMemory>", "</currentMemory><cputune><shares>2048</shares></cputune>")
    before = _definitions.inactive_xml(guest)
    found = facts(new_flavor={"vcpus": 4, "ram": 4096, "tuning": {"cputune": {"shares": 100}, "hugepages": 2048}})
    assert (found["refusals"], found["flavor"]["ram"], found["cpu_shares"]) == ([], 2048, 100)
    assert found["huge_pages"] == {"page_kib": 2048, "memory_mb": 4096, "nodes": None}
    found = facts(new_flavor={"vcpus": 4, "ram": 4095, "tuning": {"hugepages": 2048}})
    assert (codes(found), found["cpu_shares"], found["huge_pages"]) == (["unsupported_hugepages"], 2048, None)
    assert _definitions.inactive_xml(guest) == before


@pytest.mark.parametrize(
    ("xml", "tpm", "secure_boot"),
    [
        ("<domain/>", None, False),
        (
            "<domain><devices><tpm model='tpm-crb'><backend type='emulator' version='2.0'/></tpm></devices></domain>",
            {"model": "tpm-crb", "version": "2.0"},
            False,
        ),
        ("<domain><devices><tpm model='tpm-tis'><backend type='passthrough'/></tpm></devices></domain>", {"model": "tpm-tis", "version": None}, False),
        ("<domain><os><loader secure='yes'>/code.fd</loader></os></domain>", None, True),
        ("<domain><os firmware='efi'><firmware><feature enabled='yes' name='secure-boot'/></firmware></os></domain>", None, True),
        ("<domain><os firmware='efi'><firmware><feature enabled='no' name='secure-boot'/></firmware></os></domain>", None, False),
    ],
)
def test_tpm_and_secure_boot(xml: str, tpm: dict[str, Any] | None, secure_boot: bool) -> None:
    root = _definition.parse(xml)
    assert (_tpm.device(root), _facts._secure_boot(root, root)) == (tpm, secure_boot)


@pytest.mark.parametrize(("told", "secure_boot"), [("", True), ("<firmware><feature enabled='no' name='secure-boot'/></firmware>", False)])
def test_secure_boot_that_libvirt_has_chosen_by_itself_is_asked_of_a_destination(
    qemu: libvirt.virConnect, state: StateDir, images: Path, told: str, secure_boot: bool
) -> None:
    """For a q35 Debian's libvirt does; the definition says nothing of it, and a host without such firmware would start the guest with another one."""
    system = f"<os firmware='efi'><type arch='x86_64' machine='q35'>hvm</type>{told}</os><features><acpi/></features>"
    domain = qemu.defineXML(f"<domain type='qemu'><name>web1</name><memory unit='MiB'>128</memory>{system}</domain>")
    domain.createWithFlags(libvirt.VIR_DOMAIN_START_PAUSED)
    assert ("secure" in _definitions.inactive_xml(domain), "secure='yes'" in _definitions.live_xml(domain)) == (bool(told), secure_boot)
    assert domain_facts(domain, state, image_directories=[str(images)], identify=False)["secure_boot"] is secure_boot


def test_a_named_cpu_is_told_with_all_its_features(facts: Callable[..., dict[str, Any]], guest: libvirt.virDomain) -> None:
    redefined(guest, "<cpu mode='maximum' check='none' migratable='on'/>", "<cpu mode='custom'><model>Nehalem</model><feature name='aes'/></cpu>")
    found = facts()["cpu"]
    assert (found["mode"], found["model"]) == ("custom", "Nehalem")
    assert {"aes", "sse4.2"} <= set(found["features"])


LUKS = "<encryption format='luks'><secret type='passphrase' uuid='2f5d8f9c-2c1e-4f0a-9d35-3a2a5cf0afff'/></encryption>"


@pytest.mark.parametrize(
    ("created", "image_format", "refused"),
    [
        ("luks -o key-secret=s,iter-time=10", "raw", []),
        ("qcow2 -o encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=10", "qcow2", []),
        ("raw", "raw", ["qemu_img_failed"]),
        ("qcow2", "qcow2", ["image_not_encrypted"]),
        ("qcow2 -b {images}/base.qcow2 -F qcow2 -o encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=10", "qcow2", ["encrypted_layers"]),
    ],
)
def test_an_encrypted_disk(
    facts: Callable[..., dict[str, Any]], guest: libvirt.virDomain, images: Path, luks: Luks, created: str, image_format: str, refused: list[str]
) -> None:
    """Its size is what the guest sees, its header apart; the definition has to be right about it."""
    (images / "web01.qcow2").unlink()
    luks(f"-f {created.format(images=images)} web01.qcow2 2G", b"x")
    define = guest.connect().secretDefineXML("<secret><uuid>2f5d8f9c-2c1e-4f0a-9d35-3a2a5cf0afff</uuid></secret>")
    define.setValue(b"x")
    redefined(guest, "web01.qcow2'/>", f"web01.qcow2'>{LUKS}</source>")
    redefined(guest, "type='qcow2'", f"type='{image_format}'")
    found = facts()
    assert codes(found) == refused
    assert found["disks"][0]["encrypted"]
    if not refused:
        assert found["disks"][0]["virtual_size"] == 2 * 1024**3
        assert found["flavor"]["disk"] == 2


def test_an_encrypted_image_that_the_definition_takes_for_a_plain_one(facts: Callable[..., dict[str, Any]], images: Path, luks: Luks) -> None:
    (images / "web01.qcow2").unlink()
    luks("-f qcow2 -o encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=10 web01.qcow2 2G", b"x")
    assert codes(facts()) == ["image_encrypted"]
