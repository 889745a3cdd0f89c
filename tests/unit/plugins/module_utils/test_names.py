# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A name that the filesystem would not take with what an operation appends is refused before the guest is touched, and ends no undo."""

from __future__ import annotations

import ast
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.kvmfleet.compute.plugins.module_utils._guest.facts import domain_facts
from ansible_collections.kvmfleet.compute.plugins.module_utils._journal.records import Journal
from ansible_collections.kvmfleet.compute.plugins.module_utils._libvirt import definitions as _definitions, domains as _domains
from ansible_collections.kvmfleet.compute.plugins.module_utils._operation import (
    admission as _admission,
    in_place as _in_place,
    precopy as _precopy,
    sealing as _sealing,
    withdrawing as _withdrawing,
)
from ansible_collections.kvmfleet.compute.plugins.module_utils._rules import file_names as _file_names
from ansible_collections.kvmfleet.compute.plugins.module_utils._storage import incoming as _incoming, new_files as _new_files, qemu_img as _qemu_img
from ansible_collections.kvmfleet.compute.plugins.module_utils._system import paths as _paths
from ansible_collections.kvmfleet.compute.tests.unit.plugins.module_utils.sources import sources

UUID = "8f1c9f54-6c1a-4a55-a5d5-b1a4f6f1f3a7"
OFF = {"timeout": 0, "retry_interval": 1, "on_timeout": "fail", "modes": ["acpi"]}
FITTING = 255 - _file_names.LONGEST
PRIVATE = {".capacity", ".scope", ".json", ".lock", ".tmp", ".pid", ".sock", ".log", ".psk", ".path", ".peer", ".part", ".pidfile", ".kvmfleet-probe-"}
"""Ends of names in directories of our own, which no name of a guest's file is part of, and a key of libvirt's statistics."""
PRIVATE_ROOMS = (
    *(f"_channel.{name}" for name in ("cached_file", "ciphers", "export", "protocol", "pull", "serving")),
    *(f"_host.{name}" for name in ("bindings", "capabilities", "networks", "state")),
    *(f"_storage.{name}" for name in ("eviction", "qemu_img", "store")),
    *("_journal.progress", "_journal.state_dir"),
)
"""What looks for files, but for none that an operation makes beside a file of a guest."""


def define(qemu: Any, path: str, more: str = "") -> Any:
    return _definitions.define(
        qemu,
        f"<domain type='qemu'><name>web1</name><uuid>{UUID}</uuid><memory>65536</memory><os><type>hvm</type></os><devices><disk type='file' device='disk'>"
        f"<driver name='qemu' type='qcow2'/><source file='{path}'/><target dev='vda' bus='virtio'/></disk>{more}</devices></domain>",
    )


def image(images: Path, size: int) -> str:
    """A disk whose name has so many bytes, and half as many letters."""
    name = "é" * ((size - 6) // 2) + ".qcow2"
    path = images / (name if len(name.encode()) == size else f"x{name}")
    assert len(path.name.encode()) == size
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", str(path), "1M"], check=True)
    return str(path)


def record(journal: Journal, path: str, role: str, directories: list[str], digest: str = "") -> dict[str, Any]:
    layers = _qemu_img.chain(path, "qcow2", directories)
    disk = {"target": "vda", "kind": "disk", "path": path, "format": "qcow2", "allocated_bytes": 4096, "virtual_size": 1024**2, "grow_to": None, "bases": [],
            "base": None, "chain": [[layer.path, layer.format, layer.virtual_size] for layer in layers]}  # fmt: skip
    flavor = {"name": "large", "vcpus": 1, "ram": 64, "disk": 1, "ephemeral": 0, "swap": 0, "extra_specs": {}}
    return journal.begin({
        "uuid": UUID, "owner": "o", "role": role, "instance_uuid": UUID, "instance_name": "web1", "migration_type": "resize", "source_host": "kvm1",
        "destination_host": "kvm2", "availability_zone": None, "old_flavor": flavor, "new_flavor": flavor, "xml_digest": digest, "agent_expected": False,
        "disks": [disk], "nvram": None, "image_directories": directories, "tuning": None,
    })  # fmt: skip


def codes(facts: dict[str, Any]) -> list[str]:
    return [refusal["code"] for refusal in facts["refusals"]]


def test_a_name_that_leaves_no_room_for_our_suffixes_is_refused_in_the_plan(qemu: Any, state: Any, images: Path) -> None:
    """In bytes, not in letters."""
    assert codes(domain_facts(define(qemu, image(images, FITTING)), state, image_directories=[str(images)])) == []
    facts = domain_facts(define(qemu, image(images, FITTING + 1)), state, image_directories=[str(images)])
    assert codes(facts) == ["name_too_long"]
    assert "it has 256 bytes, and its filesystem takes 255; rename it" in facts["refusals"][0]["reason"]


@pytest.mark.parametrize("where", ["log", "medium", "nvram"])
def test_so_is_one_of_whatever_else_belongs_to_the_guest(qemu: Any, state: Any, images: Path, where: str) -> None:
    long = image(images, FITTING + 1)
    more = {
        "log": f"<serial type='pty'><log file='{long}' append='on'/></serial>",
        "medium": f"<disk type='file' device='cdrom'><driver name='qemu' type='qcow2'/><source file='{long}'/><target dev='sda' bus='sata'/></disk>",
        "nvram": "",
    }[where]
    domain = define(qemu, image(images, 20), more)
    if where == "nvram":
        loader = "/usr/share/OVMF/OVMF_CODE_4M.fd"
        text = _definitions.inactive_xml(domain).replace(
            "</os>", f"<loader readonly='yes' type='pflash'>{loader}</loader><nvram>{long}</nvram></os><features><acpi/></features>"
        )
        domain = _definitions.define(qemu, text)
    assert codes(domain_facts(domain, state, image_directories=[str(images)])) == ["name_too_long"]


def test_a_path_as_long_as_the_system_takes_is_refused(images: Path) -> None:
    deep = images
    while len(str(deep)) < 4096 - 200 - 2:
        deep /= "d" * 190
    deep /= "d" * (4096 - len(str(deep)) - 60)
    assert _paths.too_long(f"{images}/web.qcow2") is None
    found = _paths.too_long(f"{deep}/web.qcow2")  # no such directory yet, and it would be made
    assert found is not None
    assert (found.what, found.have) == ("path", 4096)
    assert "4096" in str(found)


@pytest.mark.parametrize("role", ["destination", "in_place"])
def test_the_claim_refuses_it_at_the_host_that_the_names_are_given_on(state: Any, images: Path, role: str) -> None:
    begun = record(Journal(state), image(images, FITTING + 1), role, [str(images)])
    new = {"role": "swap", "target": "vdb", "path": f"{images}/{'n' * (FITTING + 2)}", "format": "qcow2", "size": 1}
    reasons = _admission._name_reasons({**begun, "new_disks": [new]}, [])
    assert [(reason["code"], reason["need"], reason["have"]) for reason in reasons] == [("name_too_long", 256, 255), ("name_too_long", 257, 255)]
    assert _admission._name_reasons({**begun, "disks": []}, []) == []


def test_a_resize_in_place_that_fails_by_a_long_name_is_undone(qemu: Any, state: Any, images: Path) -> None:
    """By a plan of a release that did not ask."""
    domain = define(qemu, image(images, 230))
    journal = Journal(state)
    begun = record(journal, domain_facts(domain, state, image_directories=[])["disks"][0]["path"], "in_place", [str(images)], _definitions.fingerprint(domain))
    with pytest.raises(OSError, match="File name too long"):
        _in_place.resize(qemu, journal, begun, shutdown=OFF, watch={})
    assert _in_place.restore(qemu, journal, journal.get(UUID), status="error", shutdown=OFF)
    assert journal.get(UUID)["status"] == "error"


def test_a_sealed_copy_whose_name_is_too_long_comes_back(qemu: Any, state: Any, images: Path) -> None:
    path = image(images, 230)
    domain = define(qemu, path)
    journal = Journal(state)
    begun = record(journal, path, "source", [str(images)], _definitions.fingerprint(domain))
    with pytest.raises(OSError, match="File name too long"):
        _sealing.hand_over(qemu, journal, begun, OFF)
    assert _sealing.restore(qemu, journal, journal.get(UUID), status="error")
    assert _domains.find_domain(qemu, UUID) is not None
    assert Path(path).exists()


def test_a_destination_whose_names_are_too_long_withdraws(qemu: Any, state: Any, images: Path) -> None:
    journal = Journal(state)
    begun = record(journal, image(images, 230), "destination", [str(images)])
    admitted = journal.update(begun, step="admitted", disks=[{**begun["disks"][0], "path": f"{images}/{'n' * 230}"}])
    assert _withdrawing.withdraw(qemu, journal, admitted, status="error", keep_partial=60.0)
    assert journal.get(UUID)["status"] == "error"


def test_every_name_of_an_operation_is_one_of_the_list() -> None:
    """What the code makes of a path is what the longest suffix is derived from."""
    begun = {"uuid": UUID, "instance_uuid": UUID, "disks": [], "nvram": None}
    disk = {"path": "p", "target": "vda", "kind": "disk"}
    made: list[Callable[[], str]] = [
        lambda: _incoming.part_path(begun, "p"),
        lambda: _incoming.layer_part_path(begun, "p"),
        lambda: _incoming.leftover_path(begun, "p"),
        lambda: _new_files._raw_path(begun, disk),
        lambda: _sealing.sealed_path(begun, disk),
        lambda: _precopy.layer_path(begun, disk, 9999),
        lambda: _in_place.layer_path(begun, disk),
    ]
    lengths = [len(name()) - 1 for name in made]
    assert max(lengths) == _file_names.LONGEST == 50


def test_no_suffix_is_made_up_elsewhere() -> None:
    """A text that begins with a dot, or a UUID of an operation after a dot or dash, is part of a name that `_rules.file_names` does not know of."""
    strays = []
    for name, _path, tree in sources():
        if name == "_rules.file_names":
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and re.match(r"\.[a-z][a-z.-]*$", node.value) and node.value not in PRIVATE:
                strays.append(f"{name}:{node.lineno}: {node.value}")
            if isinstance(node, ast.JoinedStr):
                for before, value in zip(node.values, node.values[1:]):
                    told = isinstance(before, ast.Constant) and str(before.value).endswith((".", "-"))
                    if told and isinstance(value, ast.FormattedValue) and "uuid" in ast.unparse(value):
                        strays.append(f"{name}:{node.lineno}: {ast.unparse(node)}")
    # These lie in directories of our own, or are names of libvirt's.
    own = ("_libvirt.", "_guest.belongings.tpm", "_guest.defining", "_channel.export", "_journal.retention", "copy_channel", "_journal.records", "base_image")
    assert [stray for stray in strays if not stray.startswith(own)] == []


def test_no_undo_takes_only_a_missing_file_for_one_that_is_not_there() -> None:
    """A name that is too long is none either."""
    narrow = [
        f"{name}:{number}"
        for name, path, _tree in sources()
        if name not in PRIVATE_ROOMS
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if "suppress(FileNotFoundError)" in line
    ]
    assert narrow == []
