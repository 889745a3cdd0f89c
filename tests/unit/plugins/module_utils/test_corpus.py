# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Definitions as real tools write them, each through facts, plan, seal, edit and libvirt: only what the flavor says has changed.

The places of two definitions that libvirt gave are compared line by line, so that what is different says where it is.
"""

from __future__ import annotations

import contextlib
import difflib
import re
import shutil
import subprocess
import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import libvirt
import pytest

from ansible_collections.kvmfleet.compute.plugins.filter.plan_migration import plan_migration
from ansible_collections.kvmfleet.compute.plugins.module_utils._domain import definition as _definition, references as _references, referring as _referring
from ansible_collections.kvmfleet.compute.plugins.module_utils._guest import defining as _defining
from ansible_collections.kvmfleet.compute.plugins.module_utils._guest.facts import domain_facts
from ansible_collections.kvmfleet.compute.plugins.module_utils._host import bindings as _bindings, state as _state
from ansible_collections.kvmfleet.compute.plugins.module_utils._journal.records import Journal
from ansible_collections.kvmfleet.compute.plugins.module_utils._journal.state_dir import StateDir
from ansible_collections.kvmfleet.compute.plugins.module_utils._libvirt import definitions as _definitions, domains as _domains
from ansible_collections.kvmfleet.compute.plugins.module_utils._operation import (
    receiving as _receiving,
    sealing as _sealing,
    shaping as _shaping,
)
from ansible_collections.kvmfleet.compute.plugins.module_utils._rules import file_names as _file_names
from ansible_collections.kvmfleet.compute.plugins.module_utils._rules.errors import KvmfleetError

CORPUS = sorted(path.stem for path in (Path(__file__).parents[2] / "fixtures" / "domains").glob("*.xml"))
GIB = 1024**3
DISK_GIB = 10
MIGRATION = "0f5d8f9c-2c1e-4f0a-9d35-3a2a5cf0affd"
INNER = ("dies", "cores", "threads")
NAMESPACE = f"{{{_definition.METADATA_NAMESPACE}}}"
OWN = f"metadata/{NAMESPACE}instance"

# Why a guest may not move; one that is not listed may.
REFUSED = {
    "bound_to_host": {
        "block_device", "block_disk", "shared_disk", "filesystem", "host_interface", "hostdev", "host_address",
        "socket", "listen_address", "host_gpu", "entropy", "shared_memory",
    },
    "cockpit_shared_directory": {"filesystem"},
    "ganeti_drbd": {"block_disk", "socket"},
    "harvester_pvc": {"block_disk", "host_interface", "socket"},
    "ignition": {"qemu_argument"},
    "incus_like_vm": {"filesystem"},
    "kubevirt_containerdisk": {"host_interface", "socket"},
    "nova": {"log_file"},
    "nova_dedicated_cpus_hugepages": {"hugepages", "listen_address", "log_file", "vhostuser"},
    "nova_uefi_secure_boot_ephemeral_swap": {"log_file"},
    "ovirt_block_lease_windows": {"block_disk", "lease"},
    "terraform_ignition_go_style": {"firmware_config"},
    "terraform_macvtap": {"host_interface"},
    "truenas_zvol": {"block_disk", "host_interface"},
    "unraid_gpu_passthrough": {"hostdev"},
    "vagrant_libvirt_9p_qemuargs": {"filesystem"},
    "virsh_edit_luks_shared_cluster": {"shared_disk"},
    "virsh_edit_serial_log_egd": {"entropy", "host_address", "log_file", "socket"},
    "virsh_edit_vfio_mdev_nvme": {"hostdev"},
    "virt_manager_usb_passthrough": {"hostdev"},
    "virt_xml_exotic_devices": {
        "block_disk", "directory_disk", "host_audio", "host_gpu", "host_interface", "hostdev", "memory_file", "persistent_reservations", "shared_memory",
        "socket",
    },
}  # fmt: skip

# What is refused for what the host has, beside the definition: QEMU's embedded driver knows no storage pools, nor any secrets but those here.
REFUSED_HERE = {
    "bound_to_host": {"image_not_encrypted", "pool_missing", "secret_missing"},
    "cockpit_pool_volumes": {"pool_missing"},
    "terraform_volumes": {"pool_missing"},
    "nova_uefi_secure_boot_ephemeral_swap": {"image_outside_directories"},  # the embedded driver keeps firmware variables in a place of its own
    "virsh_edit_luks_shared_cluster": {"image_not_encrypted", "secret_missing"},
}

# The destination asks for these by the paths of the record, not by the definition.
PATHS_ASKED_FOR = {"log_file", "image_outside_directories"}

# The disk that a flavor's disk is about.
ROOT = {
    "foreign_metadata": "hda",
    "incus_like_vm": "sda",
    "minikube_kvm2": "hda",
    "nova_ceph_config_drive": "sda",
    "ovirt_nfs": "sda",
    "pinned_numa": "sda",
    "proxmox_domxml_from_native": "sda",
    "terraform_uefi_scsi_xslt": "sda",
    "unraid_gpu_passthrough": "hdc",
    "virsh_edit_serial_log_egd": "hda",
    "virt_manager_legacy_i440fx_floppy": "hda",
    "virt_manager_uefi": "sdc",
    "virt_manager_usb_passthrough": "sda",
}

# Why a guest may move, but not to a larger flavor: by the plan ...
NO_RESIZE = {"nova_ceph_config_drive": "disk_size_unknown", "virsh_edit_network_disks": "disk_size_unknown"}
# ... and by the edit: by name and whether the flavor is the odd one.
NO_EDIT = {
    ("nova_dedicated_cpus_hugepages", True): "unsupported_numa",
    ("virsh_edit_vfio_mdev_nvme", True): "unsupported_hugepages",
    ("virt_install_numa_dimm_maxmemory", True): "unsupported_numa",
}


CEPH = ("457eb676-33da-42ec-9a8c-9293d545c337",)
"""Secrets of storage that hosts of the corpus have."""


class Guest(NamedTuple):
    """A stopped guest that has files for its disks and firmware variables; `xml` is its definition as libvirt gives it, secrets included."""

    domain: libvirt.virDomain
    xml: str
    facts: dict[str, Any]


@pytest.fixture(scope="session")
def empty_image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the qcow2 files here are copies of, as a copy is made faster than an image."""
    path = tmp_path_factory.mktemp("corpus") / "empty.qcow2"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", path, f"{DISK_GIB}G"], check=True)
    return path


@pytest.fixture
def guest(qemu: libvirt.virConnect, definitions: dict[str, str], state: StateDir, images: Path, empty_image: Path) -> Callable[[str], Guest]:
    """Define a guest of the corpus as its tool does: without asking libvirt to check it against its schema."""

    def define(name: str) -> Guest:
        text = below(definable(definitions[name]), images)
        for path, image_format, backing in files(text):
            path.parent.mkdir(parents=True, exist_ok=True)
            if image_format == "qcow2" and backing:
                backing.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(empty_image, backing)
                subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", "-b", backing, "-F", "qcow2", path], check=True)
            elif image_format == "qcow2":
                shutil.copyfile(empty_image, path)
            else:
                with path.open("wb") as stream:
                    stream.truncate(DISK_GIB * GIB)
        for uuid in CEPH:
            qemu.secretDefineXML(f"<secret><uuid>{uuid}</uuid><usage type='ceph'><name>{uuid}</name></usage></secret>").setValue(b"key")
        # Libvirt sorts the devices that it was given when it reads what it wrote, as it does whenever it starts.
        domain = qemu.defineXML(_definitions.inactive_xml(qemu.defineXML(text)))
        xml = _definitions.inactive_xml(domain)
        if nvram := _definition.firmware(_definition.parse(xml)).nvram:
            Path(nvram).parent.mkdir(parents=True, exist_ok=True)
            Path(nvram).write_bytes(b"variables")
        return Guest(domain, xml, domain_facts(domain, state, image_directories=[str(images)], identify=True))

    return define


def definable(text: str) -> str:
    """The definition for any host: without what needs more than QEMU, and with a CPU that no hardware has to provide."""
    return re.sub(r"""mode=(['"])host-(passthrough|model)\1""", r"mode=\1maximum\1", text)


def below(text: str, directory: Path) -> str:
    """The definition with all files of disks and firmware variables, and those that the guest boots from, below a directory."""
    root = ET.fromstring(text.encode())  # noqa: S314 - a fixture
    sources = [*root.findall("devices/disk[@type='file']//source"), *root.findall("os/nvram/source")]
    texts = [element for tag in ("nvram", *_definition.BOOT_FILES) for element in root.findall(f"os/{tag}")]
    paths = {source.get("file") for source in sources} | {(element.text or "").strip() for element in texts}
    for path in filter(None, paths):
        text = re.sub(rf"""(?<=['">]){re.escape(path)}(?=['"<])""", f"{directory}{path}", text)
    return text


def files(text: str) -> Iterator[tuple[Path, str, Path | None]]:
    """Path, format and backing file of the disks that are files, and of the files that the guest boots from."""
    root = ET.fromstring(text.encode())  # noqa: S314 - a fixture
    for path in _definition.boot_files(root).values():
        yield Path(path), "raw", None
    for disk in root.findall("devices/disk[@type='file']"):
        source, driver, backing = disk.find("source"), disk.find("driver"), disk.find("backingStore/source")
        if source is not None and source.get("file"):
            yield (
                Path(source.attrib["file"]),
                "raw" if driver is None else driver.get("type", "raw"),
                None if backing is None else Path(backing.attrib["file"]),
            )


def planned(guest: Guest, images: Path, new: dict[str, Any] | None) -> dict[str, Any]:
    """The answer of the plan to a move to another host, whose directory of images is another one."""
    entry = {key: guest.facts[key] for key in ("name", "uuid", "state")}
    hosts = [
        {
            "host": name,
            "up": True,
            "enabled": True,
            "availability_zone": "north",
            "aggregates": [],
            "vcpus": 64,
            "vcpus_used": 0,
            "memory_mb": 2**20,
            "memory_mb_used": 0,
            "local_gb": 10000,
            "local_gb_used": 0,
            "supported_instances": [["x86_64", "qemu", "hvm"]],
            "images_path": str(directory),
            "domains": domains,
            "migrations": [],
        }
        for name, directory, domains in (("kvm1", images, [entry]), ("kvm2", images.parent / "elsewhere", []))
    ]
    asked = {
        "instance": guest.facts["uuid"],
        "flavor": new,
        "zone": None,
        "target_host": None,
        "ignore_hosts": [],
        "allow_resize_to_same_host": False,
        "allow_downsize": False,
    }
    return plan_migration(hosts, guest.facts, asked, None)


def doubled(guest: Guest, more: int = 0) -> dict[str, Any]:
    """A flavor with twice of all that the guest has; with more than that, a number of vCPUs which few topologies divide."""
    have = guest.facts["flavor"]
    sizes = {"vcpus": 2 * have["vcpus"] + more, "ram": 2 * have["ram"] + more, "disk": 2 * DISK_GIB}
    return {"name": "doubled", **sizes, "ephemeral": 0, "swap": 0, "extra_specs": {}}


def at_destination(guest: Guest, images: Path, plan: dict[str, Any] | None, xml: str, new: dict[str, Any]) -> dict[str, Any]:
    """The record of the destination when it defines the guest; of a guest that is refused as if it were not, as far as its disks are files."""
    if plan is None:
        disks = filter(of_file, _definition.disks(_definition.parse(xml)))
        placed = [{"target": disk.target, "path": elsewhere(images, disk.path), "format": disk.format} for disk in disks]
        nvram = guest.facts["firmware"]["nvram"]
    else:
        paths = {answer["target"]: answer["path"] for answer in plan["for"]["kvm2"]["storage"]}
        placed = [{**disk, "path": paths[disk["target"]]} for disk in plan["record"]["disks"]]
        nvram = plan["record"]["nvram"]
    names = {"instance_name": guest.facts["name"], "instance_uuid": guest.facts["uuid"], "secrets": guest.facts["secrets"]}
    return {
        **(names if plan is None else plan["record"]),
        "uuid": MIGRATION,
        "source_host": "kvm1",
        "availability_zone": None,
        "console_logs": guest.facts["console_logs"],
        "disks": placed,
        "nvram": nvram and elsewhere(images, nvram),
        "new_flavor": new,
        "private": {"domain_xml": xml},
    }


def of_file(disk: _definition.Disk) -> bool:
    return disk.source_type == "file" and disk.path is not None


def elsewhere(images: Path, path: str) -> str:
    return path.replace(str(images), str(images.parent / "elsewhere"), 1)


def lines(xml: str) -> list[str]:
    """Each element, text and attribute of a definition as `place = value`, in document order."""
    builder = ET.TreeBuilder(insert_comments=True, insert_pis=True)
    root = ET.fromstring(xml, ET.XMLParser(target=builder))  # noqa: S314 - written by libvirt
    return [*(f"@{key} = {value}" for key, value in sorted(root.attrib.items())), *_lines(root, "")]


def _lines(element: ET.Element, place: str) -> Iterator[str]:
    names = [child.tag if isinstance(child.tag, str) else child.tag.__name__ for child in element]
    several, seen = Counter(names), Counter[str]()
    for child, name in zip(element, names):
        seen[name] += 1
        here = f"{place}/{name}".lstrip("/") + (f"[{seen[name]}]" if several[name] > 1 else "")
        yield f"{here} = {child.text}" if (child.text or "").strip() else here
        yield from (f"{here}/@{key} = {value}" for key, value in sorted(child.attrib.items()))
        yield from _lines(child, here)
        if (child.tail or "").strip():
            yield f"{here}/following text = {child.tail}"


def difference(expected: list[str], found: list[str]) -> str:
    """Empty, or the places that differ, as `-` (expected) and `+` (found)."""
    return "\n".join(line for line in difflib.unified_diff(expected, found, n=0, lineterm="") if not re.match(r"--- |\+\+\+ |@@ ", line))


def below_place(line: str, place: str) -> bool:
    return re.match(re.escape(place) + r"(?:$|/| = )", line) is not None


class Expected:
    """What a definition has to look like after an edit, told by rules of its own."""

    def __init__(self, before: str) -> None:
        self.root = ET.fromstring(before)  # noqa: S314 - written by libvirt
        self.before = lines(before)
        self.changed: dict[str, str] = {}
        self.gone: list[str] = []
        self.own: list[str] = []

    def moved(self, record: dict[str, Any], in_place: str | None = None) -> None:
        every = [disk.find("target").get("dev") for disk in self.root.findall("devices/disk")]
        for disk in record["disks"]:
            if disk["target"] in _definition.BOOT_FILES:
                self.changed[f"os/{disk['target']}"] = disk["path"]
                continue
            place = "devices/disk" + (f"[{every.index(disk['target']) + 1}]" if len(every) > 1 else "")
            backing = self.root.findall("devices/disk")[every.index(disk["target"])].find("backingStore")
            if in_place:
                self.changed.update({f"{place}/source/@file": disk["path"] + in_place, f"{place}/driver/@type": "qcow2"})
            else:
                self.changed[f"{place}/source/@file"] = disk["path"]
            if backing is not None and (in_place or backing.find("source") is not None):
                self.gone.append(f"{place}/backingStore")
        if record["nvram"] and not in_place:
            self.changed["os/nvram/source/@file" if self.root.find("os/nvram/source") is not None else "os/nvram"] = record["nvram"]

    def resized(self, vcpus: int, ram: int) -> None:
        kib = str(ram * 1024)
        self.changed.update({"memory": kib, "currentMemory": kib, "vcpu": str(vcpus)})
        self._spread(vcpus, ram * 1024)
        self.gone.append("vcpu/@current")
        for number, listed in enumerate(self.root.findall("vcpus/vcpu"), 1):
            self.changed[f"vcpus/vcpu[{number}]/@enabled"] = "yes"
            self.gone.append(f"vcpus/vcpu[{number}]" + ("/@order" if int(listed.attrib["id"]) < vcpus else ""))
        topology = self.root.find("cpu/topology")
        if topology is not None:
            shape = {name: int(topology.get(name, "1")) for name in INNER}
            inner = shape["dies"] * shape["cores"] * shape["threads"]
            if vcpus % inner:
                self.own.append(f"{OWN}/{NAMESPACE}topology")
                self.own.extend(f"{OWN}/{NAMESPACE}topology/@{name} = {value}" for name, value in shape.items())
                shape, inner = dict.fromkeys(shape, 1), 1
            self.changed.update({f"cpu/topology/@{name}": str(value) for name, value in {**shape, "sockets": vcpus // inner}.items()})

    def _spread(self, vcpus: int, kib: int) -> None:
        cells = self.root.findall("cpu/numa/cell")
        kib -= sum(int(size.text) for size in self.root.findall("devices/memory/target/size"))
        for number in range(len(cells)):
            place = "cpu/numa/cell" + (f"[{number + 1}]" if len(cells) > 1 else "")
            each = vcpus // len(cells)
            self.changed.update({f"{place}/@cpus": f"{number * each}-{(number + 1) * each - 1}", f"{place}/@memory": str(kib // len(cells))})

    def recorded(self, flavor: dict[str, Any]) -> None:
        self.own.append(OWN)
        if flavor["name"]:
            self.own.append(f"{OWN}/{NAMESPACE}flavor")
            self.own.extend(f"{OWN}/{NAMESPACE}flavor/@{key} = {flavor[key]}" for key in ("name", "vcpus", "ram"))
        self.own.append(f"{OWN}/{NAMESPACE}origin")
        self.own.extend((f"{OWN}/{NAMESPACE}origin/@host = kvm1", f"{OWN}/{NAMESPACE}origin/@migration = {MIGRATION}"))

    def lines(self) -> list[str]:
        found = []
        for line in self.before:
            place = line.partition(" = ")[0]
            if not any(below_place(line, gone) for gone in self.gone):
                found.append(f"{place} = {self.changed[place]}" if place in self.changed else line)
        return found

    def compare(self, after: str) -> str:
        """The difference, our own metadata apart, whose place among the others is nobody's business."""
        found = lines(after)
        own = [line for line in found if below_place(line, OWN)]
        rest = [line for line in found if line not in own]
        if "metadata" not in self.before:
            rest.remove("metadata")
        return difference(self.lines(), rest) + difference(sorted(self.own), sorted(own))


def test_the_corpus_is_what_the_tables_speak_of() -> None:
    assert len(CORPUS) >= 42
    assert {*REFUSED, *REFUSED_HERE, *ROOT, *NO_RESIZE, *(name for name, _odd in NO_EDIT)} <= set(CORPUS)


def test_a_host_of_all_of_them_is_charged_for_their_flavors(qemu: libvirt.virConnect, definitions: dict[str, str], state: StateDir, images: Path) -> None:
    roots = [_definition.parse(_definitions.inactive_xml(qemu.defineXML(definable(text)))) for text in definitions.values()]
    flavors = [_definition.flavor_in_force(root) for root in roots]
    found = _state.usage(qemu, state, reserved=_state.Reserved(memory_mb=0), images_path=str(images))
    assert found.num_instances == len(CORPUS)
    assert {domain.name: (domain.vcpus, domain.memory_mb) for domain in found.domains} == {
        root.findtext("name"): (flavor.vcpus, flavor.ram) for root, flavor in zip(roots, flavors)
    }
    assert (found.vcpus_used, found.memory_mb_used) == (sum(flavor.vcpus for flavor in flavors), sum(flavor.ram for flavor in flavors))
    assert _bindings.of_guests(qemu, directories=()).macs == {nic.mac for root in roots for nic in _definition.interfaces(root) if nic.mac}


def refused(text: str) -> set[str]:
    return {reference.kind for reference in _referring.references(_definition.parse(text)) if reference.answer == _references.REFUSE}


@pytest.mark.parametrize("name", CORPUS)
def test_facts_and_plan(guest: Callable[[str], Guest], images: Path, name: str) -> None:
    found = guest(name)
    old, new = found.facts["flavor"], doubled(found)
    reasons = {f"unsupported_{kind}" for kind in REFUSED.get(name, set())} | REFUSED_HERE.get(name, set())
    assert {refusal["code"] for refusal in found.facts["refusals"]} == reasons
    assert [disk["target"] for disk in found.facts["disks"] if disk["root"]] == [ROOT.get(name, "vda")]
    answer = planned(found, images, new)
    if reasons:
        assert answer["error"]["code"] == "not_movable"
        assert {refusal["code"] for refusal in answer["error"]["details"]["refusals"]} == reasons
    elif name in NO_RESIZE:
        assert answer["error"]["code"] == NO_RESIZE[name]
        assert planned(found, images, None)["plan"]["diff"]["after"] == side("kvm2", old)
    else:
        assert answer["error"] is None, answer["error"]
        assert answer["plan"]["diff"] == {"before": side("kvm1", old), "after": side("kvm2", new)}
        assert (answer["plan"]["record"]["old_flavor"], answer["plan"]["record"]["new_flavor"]) == ({**new, **old, "name": old["name"]}, new)
        assert {disk["target"]: disk["grow_to"] for disk in answer["plan"]["record"]["disks"] if disk["grow_to"]} == {ROOT.get(name, "vda"): 2 * DISK_GIB * GIB}


def side(host: str, flavor: dict[str, Any]) -> dict[str, Any]:
    return {"host": host, "flavor": flavor["name"], "vcpus": flavor["vcpus"], "ram_mib": flavor["ram"], "disk_gib": flavor["disk"]}


@pytest.mark.invariant(10)
@pytest.mark.parametrize("name", CORPUS)
def test_only_what_the_flavor_says_has_changed(qemu: libvirt.virConnect, guest: Callable[[str], Guest], images: Path, name: str) -> None:
    found = guest(name)
    for new in (found.facts["flavor"], doubled(found), doubled(found, more=1)):
        resizing = new is not found.facts["flavor"]
        plan = planned(found, images, new if resizing and name not in NO_RESIZE else None)["plan"]
        record = at_destination(found, images, plan, found.xml, new)
        odd = new["ram"] % 2 == 1
        if resizing and (name, odd) in NO_EDIT:
            with pytest.raises(KvmfleetError) as caught:
                _shaping.adapted(record)
            assert caught.value.code == NO_EDIT[name, odd]
            continue
        expected = Expected(found.xml)
        expected.moved(record)
        expected.recorded(new)
        if resizing:
            expected.resized(new["vcpus"], new["ram"])
        adapted = ET.tostring(_shaping.adapted(record), encoding="unicode")
        after = _definitions.inactive_xml(_defining.define(qemu, adapted))
        assert expected.compare(after) == ""
        refused_there = (REFUSED.get(name, set()) | REFUSED_HERE.get(name, set())) - PATHS_ASKED_FOR
        with pytest.raises(KvmfleetError, match="does not take its definition") if refused_there else contextlib.nullcontext():
            assert _receiving.arriving(record) == adapted


@pytest.mark.parametrize("name", [name for name in CORPUS if name not in {*REFUSED, *REFUSED_HERE, *NO_RESIZE} and (name, False) not in NO_EDIT])
def test_in_place_only_the_layers_are_new_besides(qemu: libvirt.virConnect, guest: Callable[[str], Guest], images: Path, name: str) -> None:
    found = guest(name)
    new = doubled(found)
    record = {**planned(found, images, new)["plan"]["record"], "uuid": MIGRATION, "availability_zone": None, "private": {"domain_xml": found.xml}}
    expected = Expected(found.xml)
    expected.moved(
        {**record, "disks": [disk for disk in record["disks"] if disk["kind"] == "disk"]},
        in_place=_file_names.beside("", _file_names.RESIZE, {"uuid": MIGRATION}),
    )
    expected.recorded(new)
    expected.resized(new["vcpus"], new["ram"])
    after = _definitions.inactive_xml(_defining.define(qemu, _shaping.layered(record)))
    assert expected.compare(after) == ""


@pytest.mark.invariant(10)
@pytest.mark.parametrize("name", CORPUS)
def test_a_revert_is_the_identity(qemu: libvirt.virConnect, guest: Callable[[str], Guest], state: StateDir, images: Path, name: str) -> None:
    found = guest(name)
    plan = planned(found, images, None)["plan"]
    journal = Journal(state)
    record = {"uuid": MIGRATION, "role": "source", "destination_host": "kvm2", "owner": "test", "image_directories": [str(images)], "probes": {}}
    record = journal.begin({**record, **(plan["record"] if plan else unplanned(found))})
    digest = _definitions.fingerprint(found.domain)
    handed = _sealing.hand_over(qemu, journal, record, {"timeout": 1, "retry_interval": 1, "on_timeout": "fail"})
    assert _domains.find_domain(qemu, found.facts["uuid"]) is None
    assert handed["manifest"]["domain_xml"] == found.xml
    _sealing.restore(qemu, journal, record, status="error")
    restored = _domains.find_domain(qemu, found.facts["uuid"])
    assert difference(lines(found.xml), lines(_definitions.inactive_xml(restored))) == ""
    assert (_definitions.inactive_xml(restored), _definitions.fingerprint(restored)) == (found.xml, digest)


def unplanned(guest: Guest) -> dict[str, Any]:
    """The record of a guest that may not move, without its disks."""
    return {
        "instance_uuid": guest.facts["uuid"],
        "instance_name": guest.facts["name"],
        "source_host": "kvm1",
        "old_flavor": {"ephemeral": 0, "swap": 0, **guest.facts["flavor"]},
        "new_flavor": guest.facts["flavor"],
        "xml_digest": guest.facts["xml_digest"],
        "disks": [],
        "nvram": None,
    }
