# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whatever the bytes are that a guest, an admin or a torn write has left: an answer, or an error of ours, and nothing else is opened."""

from __future__ import annotations

import contextlib
import json
import os
import random
import resource
import sys
import time
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path

import libvirt
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from ansible_collections.kvmfleet.compute.plugins.module_utils._domain import (
    definition as _definition,
    edit as _edit,
    flavor as _flavor,
    referring as _referring,
)
from ansible_collections.kvmfleet.compute.plugins.module_utils._guest import defining as _defining, facts as _facts
from ansible_collections.kvmfleet.compute.plugins.module_utils._journal import records as _records
from ansible_collections.kvmfleet.compute.plugins.module_utils._journal.state_dir import StateDir
from ansible_collections.kvmfleet.compute.plugins.module_utils._operation import receiving as _receiving
from ansible_collections.kvmfleet.compute.plugins.module_utils._rules.errors import KvmfleetError
from ansible_collections.kvmfleet.compute.plugins.module_utils._storage import image_header as _image_header, incoming as _incoming, qemu_img as _qemu_img
from ansible_collections.kvmfleet.compute.tests.unit.plugins.module_utils.handed import disk, plan
from ansible_collections.kvmfleet.compute.tests.unit.plugins.module_utils.mutation import mutated, ours

FULL = os.environ.get("KVMFLEET_FUZZ") == "full"
IMAGES, DEFINITIONS = (10_000, 1_000) if FULL else (250, 100)
SECONDS = 2.0
"""Of processor time for one of them, with up to four programs each."""
MEMORY_KIB = 1024**2
HEADER = 112  # bytes of a qcow2 header of version 3
DOCUMENTS = st.recursive(
    st.none() | st.integers() | st.text(max_size=9), lambda inner: st.lists(inner) | st.dictionaries(st.text(max_size=9) | st.just("schema_version"), inner)
).map(lambda value: json.dumps(value).encode())
READ = (
    _definition.machine_and_arch,
    _definition.disks,
    _definition.network_disks,
    _definition.root_disk,
    _definition.interfaces,
    _definition.firmware,
    _definition.flavor_in_force,
    _definition.migration_uuid,
    _referring.references,
)
TUNING = {
    "topology": {"sockets": 1, "cores": 2, "threads": 2},
    "numa": {"nodes": 2, "cells": None},
    "hugepages": 2048,
    "cputune": {"shares": 7},
    "memtune": {"hard_limit": 2**20},
    "iotune": {"total_bytes_sec": 5},
    "bandwidth": {"inbound": {"average": 5}},
}
EDITS: tuple[Callable[[ET.Element], None], ...] = (
    lambda root: _flavor.apply_flavor(root, 3, 768),
    lambda root: _flavor.apply_flavor(root, 4, 768, TUNING),
    lambda root: _flavor.apply_flavor(root, 4, 768, {}),
    lambda root: _edit.set_disk_source(root, "vda", "/var/lib/libvirt/images/moved.qcow2", "qcow2"),
    lambda root: _edit.set_disk_volume(root, "vda", "pool", "volume"),
    lambda root: _edit.set_nvram(root, "/var/lib/libvirt/qemu/nvram/moved.fd"),
    lambda root: _flavor.set_kvmfleet_metadata(root, "m1", "north", "kvm1", "m-1"),
)


@pytest.mark.parametrize("seed", range(0, 1000, 100))
def test_mutated_definitions(definitions: dict[str, str], seed: int) -> None:
    for number in range(seed, seed + 100):
        read_and_edit(definitions, random.Random(number))  # noqa: S311 - no secret


def read_and_edit(definitions: dict[str, str], chance: random.Random) -> None:
    text = mutated(definitions[chance.choice(sorted(definitions))], chance)
    root = ours(lambda: _definition.parse(text))
    if root is None:
        return
    for read in READ:
        ours(lambda read=read: read(root))
    for edit in EDITS:
        ours(lambda edit=edit: edit(root))
    assert ours(lambda: _definition.parse(_edit.to_string(root))) is not None


@settings(max_examples=200, deadline=None)
@given(st.one_of(st.text(max_size=200), st.binary(max_size=200).map(lambda value: value.decode("latin-1"))))
def test_what_is_no_definition(text: str) -> None:
    ours(lambda: _definition.parse(text))
    ours(lambda: _definition.parse(f"<domain>{text}</domain>"))


def test_a_definition_that_would_fill_the_memory() -> None:
    """Entities are not expanded, a document is bounded."""
    entities = "".join(f'<!ENTITY e{number} "{f"&e{number - 1};" * 10}">' for number in range(1, 10))
    with pytest.raises(KvmfleetError, match="DOCTYPE"):
        _definition.parse(f'<!DOCTYPE d [<!ENTITY e0 "x">{entities}]><domain>&e9;</domain>')
    with pytest.raises(KvmfleetError, match="bytes, more than"):
        _definition.parse("<domain>" + "<!-- x -->" * 2_000_000 + "</domain>")


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.one_of(st.binary(max_size=300), DOCUMENTS))
def test_a_journal_with_any_bytes(tmp_path: Path, content: bytes) -> None:
    state = StateDir(str(tmp_path / "state"))
    path = Path(state.ensure("migrations")) / "m-1.json"
    path.write_bytes(content)
    record = ours(lambda: _records.Journal(state).get("m-1"))
    assert record is None or record["schema_version"] == 1


@pytest.fixture
def corpus(images: Path, qemu_img: Callable[[str], str]) -> list[Path]:
    """One of each kind of image that there is to mutate."""
    qemu_img("create -q -f raw base.raw 1M")
    for name, options in {
        "flat": "",
        "overlay": f"-b {images}/base.raw -F raw",
        "old": "-o compat=0.10",
        "extended": "-o extended_l2=on,cluster_size=128k",
        "compressed": "-o compression_type=zstd",
    }.items():
        qemu_img(f"create -q -f qcow2 {options} {name}.qcow2 1M")
    qemu_img("snapshot -c one flat.qcow2")
    return sorted(images.glob("*.qcow2"))


def naming(image: bytes, path: str) -> bytearray:
    """The image with another backing file in its header."""
    content, name = bytearray(image), path.encode()
    offset = int.from_bytes(content[8:16], "big")
    content[16:20] = len(name).to_bytes(4, "big")
    content[offset : offset + len(name)] = name
    return content


def most_memory() -> int:
    """KiB of this process and of those that it started, at most."""
    return max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))


def processor_time() -> float:
    """Seconds of this process and of those that it has seen end."""
    return sum(os.times()[:4])


def test_mutated_images(corpus: list[Path], images: Path, tmp_path: Path, state: StateDir) -> None:
    """Neither qemu-img nor we crash, hang, or read a file that a header names outside of the image directories."""
    secret = tmp_path / "secret"
    secret.write_text("secret")
    os.utime(secret, (1e9, 1e9))
    chance = random.Random(1)  # noqa: S311 - no secret
    victim = images / "victim.qcow2"
    journal, record = _records.Journal(state), {"uuid": "m-1", "image_directories": [str(images)], "disks": [disk(str(victim), virtual_size=2**20)]}
    part = _incoming.part_path(record, str(victim))
    began, used = time.monotonic(), processor_time()
    answers: set[str] = set()
    for number in range(IMAGES):
        content = bytearray(chance.choice(corpus).read_bytes())
        for _change in range(chance.randint(1, 4)):
            content[chance.randrange(HEADER)] = chance.choice((0, 1, 2, 0x7F, 0x80, 0xFF, chance.randrange(256)))
        if number % 5 == 0:
            content = naming((images / "overlay.qcow2").read_bytes(), str(secret))
        if number % 7 == 0:
            del content[chance.randrange(len(content)) :]
        victim.write_bytes(content)
        # As a destination gets it: in place of what was planned, under its temporary name.
        os.link(victim, part)
        for call in (
            lambda: _qemu_img.chain(str(victim), "qcow2", [str(images)]),
            lambda: _qemu_img.check(str(victim), "qcow2"),
            lambda: _receiving._adapt(journal, record, record["disks"][0], {}, None),
        ):
            try:
                call()
                answers.add("read")
            except KvmfleetError as exc:
                answers.add(exc.code)
        os.unlink(part)
        try:
            _image_header.backing_name(str(victim))
        except OSError:
            answers.add("unreadable")
    print(f"{IMAGES} images in {time.monotonic() - began:.0f} s, at most {most_memory()} KiB")
    assert processor_time() - used < IMAGES * SECONDS
    assert most_memory() < MEMORY_KIB
    assert {"read", "qemu_img_failed", "backing_outside_directories", "image_has_data_file"} <= answers, answers
    assert os.stat(secret).st_atime == 1e9
    assert secret.read_text() == "secret"
    if os.stat(secret).st_atime == 1e9:
        pytest.skip("the file system of the temporary files does not note an access, so nothing is proven about the secret")


def test_mutated_definitions_through_facts_and_receive(qemu: libvirt.virConnect, definitions: dict[str, str], state: StateDir, images: Path) -> None:
    """What libvirt takes of them is read as a source does; all are judged and tried as a destination does, which opens none of the files that they name."""
    opened: set[str] = set()
    watching = False
    began, used, taken, tried = time.monotonic(), processor_time(), 0, 0

    def watch(event: str, arguments: tuple[object, ...]) -> None:
        if watching and event == "open" and isinstance(arguments[0], str):
            opened.add(arguments[0])

    sys.addaudithook(watch)
    try:
        for seed in range(DEFINITIONS):
            chance = random.Random(seed)  # noqa: S311 - no secret
            text = mutated(definitions[chance.choice(sorted(definitions))], chance)
            root = ours(lambda text=text: _definition.parse(text))
            if root is None:
                continue
            found = ours(lambda root=root: _definition.disks(root)) or ()
            disks = [disk(one.path, one.target, format=one.format) for one in found if one.path]
            told = plan(root.findtext("name"), root.findtext("uuid"), disks, nvram=root.findtext("os/nvram"))
            record = {**told, "uuid": "0f5d8f9c-2c1e-4f0a-9d35-3a2a5cf0affd", "private": {"domain_xml": text}}
            watching = True
            adapted = ours(lambda record=record: _receiving.arriving(record))
            if adapted is not None:
                tried += 1
                ours(lambda adapted=adapted, record=record: _defining.try_out(qemu, adapted, record["uuid"]))
            watching = False
            with contextlib.suppress(libvirt.libvirtError):
                # By its schema only: libvirt 9.0 writes beside its memory for some of the others.
                domain = qemu.defineXMLFlags(text, libvirt.VIR_DOMAIN_DEFINE_VALIDATE)
                taken += 1
                ours(lambda domain=domain: _facts.domain_facts(domain, state, image_directories=[str(images)]))
                domain.undefineFlags(libvirt.VIR_DOMAIN_UNDEFINE_NVRAM)
    finally:
        watching = False
    print(f"{DEFINITIONS} definitions in {time.monotonic() - began:.0f} s, {taken} taken by libvirt, {tried} judged sound, at most {most_memory()} KiB")
    assert taken >= DEFINITIONS // 50
    assert tried > DEFINITIONS // 50
    assert processor_time() - used < DEFINITIONS * SECONDS
    assert most_memory() < MEMORY_KIB
    assert qemu.listAllDomains() == []
    named = {one.path for text in definitions.values() for one in _definition.disks(_definition.parse(text)) if one.path}
    assert not {path for path in opened if path in named or path.startswith(("/etc/shadow", "/srv"))}
