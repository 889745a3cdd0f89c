# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Pre-copy at the source: when a round is worth it, what it carries, and how layers become one file again."""

from __future__ import annotations

import os
import subprocess
from types import SimpleNamespace

import pytest

from ansible_collections.kvmfleet.compute.plugins.module_utils._journal.records import Journal
from ansible_collections.kvmfleet.compute.plugins.module_utils._libvirt import blocks as _blocks, definitions as _definitions, domains as _domains
from ansible_collections.kvmfleet.compute.plugins.module_utils._operation import precopy as _precopy
from ansible_collections.kvmfleet.compute.plugins.module_utils._rules.errors import KvmfleetError
from ansible_collections.kvmfleet.compute.plugins.module_utils._storage import qemu_img as _qemu_img

MIB = 2**20
OPTIONS = {"rate": 10 * MIB, "downtime": 1.0, "max_rounds": 3, "quiesce": True}


def write(path, form, mib, letter="a"):
    subprocess.run(["qemu-io", "-f", form, "-c", f"write -P {ord(letter)} 0 {mib}M", str(path)], check=True, capture_output=True)


def holds(path, form, mib, letter):
    result = subprocess.run(["qemu-io", "-f", form, "-c", f"read -P {ord(letter)} 0 {mib}M", str(path)], check=True, capture_output=True, text=True)
    return "verification failed" not in result.stdout


@pytest.fixture
def journal(state):
    return Journal(state)


@pytest.fixture
def record(journal, images):
    """A guest with an overlay, and a medium."""
    disk, medium = images / "web.qcow2", images / "seed.iso"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", str(disk), "64M"], check=True)
    write(disk, "qcow2", 20)
    medium.write_bytes(b"seed")
    disks = [
        {"target": "vda", "kind": "disk", "path": str(disk), "format": "qcow2", "allocated_bytes": 20 * MIB},
        {"target": "sda", "kind": "media", "path": str(medium), "format": "raw", "allocated_bytes": 4},
    ]
    fresh = {"uuid": "u1", "owner": "o", "role": "source", "instance_uuid": "i1", "instance_name": "web1", "source_host": "kvm1", "destination_host": None}
    return journal.begin({**fresh, "disks": disks, "nvram": None, "image_directories": [str(images)]})


@pytest.fixture
def freeze(monkeypatch, journal, record):
    """Freeze a guest whose libvirt only makes the layers."""

    def layer(_domain, top, others, *, quiesce):
        assert others == ["sda"]
        for path in top.values():
            below = (record["disks"][0]["path"], *_precopy.layers(record, record["disks"][0]))
            newest = max((p for p in below if os.path.exists(p) and p != path), key=os.path.getmtime)
            assert os.stat(path).st_size == 0
            subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", "-b", newest, "-F", "qcow2", path], check=True)
        return quiesce

    xml = "<domain><devices><disk device='disk'><target dev='vda'/></disk><disk device='cdrom'><target dev='sda'/></disk></devices></domain>"
    monkeypatch.setattr(_blocks, "layer_disks", layer)
    monkeypatch.setattr(_definitions, "inactive_xml", lambda domain: "<as-before/>")
    monkeypatch.setattr(_definitions, "live_xml", lambda domain: xml)
    monkeypatch.setattr(_definitions, "fingerprint", lambda domain: f"digest of {record.get('layers')} layers")
    return lambda **options: _precopy.freeze(None, journal, record, object(), **{**OPTIONS, **options})[1]


@pytest.fixture
def undefined(qemu, monkeypatch):
    """A host that does not define the guest."""
    monkeypatch.setattr(_domains, "find_domain", lambda conn, key: None)
    return qemu


def test_the_first_round_carries_the_disks_and_media_and_the_next_ones_a_layer_each(record, freeze):
    disk, medium = (entry["path"] for entry in record["disks"])
    first = freeze()
    assert (first["frozen"], first["round"], first["quiesced"], first["reason"]) == (True, 0, True, None)
    assert first["bytes"] >= 20 * MIB
    assert (record["step"], record["status"], record["xml_digest"]) == ("precopying", "pre-migrating", "digest of 1 layers")
    assert record["private"] == {"unlayered_xml": "<as-before/>"}
    assert _precopy.frozen_files(record, 0) == {"vda": disk, "sda": medium}
    write(_precopy.layer_path(record, record["disks"][0], 1), "qcow2", 12)
    second = freeze()
    assert (second["frozen"], second["round"]) == (True, 1)
    assert _precopy.frozen_files(record, 1) == {"vda": f"{disk}.precopy-u1.1"}
    assert [os.path.basename(path) for path in _precopy.layers(record, record["disks"][0])] == ["web.qcow2.precopy-u1.2", "web.qcow2.precopy-u1.1"]
    assert _precopy.layers(record, record["disks"][1]) == []


@pytest.mark.parametrize(
    ("written", "options", "reason"),
    [
        (9, {}, "no longer than 1 s"),
        (9, {"downtime": 0.5}, None),
        (3, {"rate": 1}, "no longer than 1 s"),
        (15, {}, None),
        (19, {}, "about as fast as the copy travels"),
        (15, {"max_rounds": 1}, "1 rounds are over"),
    ],
)
def test_a_round_ends_the_pre_copy_when_another_is_not_worth_it(record, freeze, written, options, reason):
    freeze()
    write(_precopy.layer_path(record, record["disks"][0], 1), "qcow2", written)
    again = freeze(**options)
    assert again["frozen"] == (reason is None)
    assert record["layers"] == (2 if again["frozen"] else 1)
    if reason:
        assert reason in again["reason"]
        assert again["bytes"] >= written * MIB


def test_without_room_for_what_the_guest_writes_meanwhile_nothing_is_frozen(monkeypatch, record, freeze):
    monkeypatch.setattr(os, "statvfs", lambda directory: SimpleNamespace(f_bavail=19, f_frsize=MIB))
    found = freeze()
    assert not found["frozen"]
    assert "19922944 bytes free" in found["reason"]
    assert "layers" not in record


def test_a_medium_that_changed_travels_again(record, freeze):
    assert _precopy.unchanged_media(record) == []
    freeze()
    assert _precopy.unchanged_media(record) == ["sda"]
    medium = record["disks"][1]["path"]
    os.chmod(medium, 0o600)
    assert _precopy.unchanged_media(record) == ["sda"]
    with open(medium, "ab") as stream:
        stream.write(b"more")
    assert _precopy.unchanged_media(record) == []


def test_layers_of_a_copy_without_definition_are_merged_once(journal, record, freeze, undefined):
    """The second time the newest layer is gone already; the older one must not be merged over it."""
    disk = record["disks"][0]
    for letter in "bc":
        freeze(downtime=0)
        write(_precopy.layers(record, disk)[0], "qcow2", 6, letter)
    newest, older = _precopy.layers(record, disk)
    kept = older + ".kept"
    os.link(older, kept)
    folded = _precopy.fold(undefined, journal, record, timeout=5)
    assert folded["folded"]
    assert holds(disk["path"], "qcow2", 6, "c")
    assert not any(map(os.path.exists, (newest, older)))
    os.link(kept, older)
    _precopy.fold(undefined, journal, record, timeout=5)
    assert holds(disk["path"], "qcow2", 6, "c")
    assert not os.path.exists(older)


def test_a_header_that_was_rewritten_meanwhile_is_not_followed(journal, record, freeze, undefined, tmp_path):
    disk = record["disks"][0]
    freeze()
    (tmp_path / "shadow").write_bytes(b"root:x" * 1000)
    _qemu_img.rebase_unsafe(disk["path"], "qcow2", str(tmp_path / "shadow"), "raw")
    with pytest.raises(KvmfleetError) as caught:
        _precopy.fold(undefined, journal, record, timeout=5)
    assert caught.value.code == "backing_outside_directories"
    assert os.path.exists(_precopy.layers(record, disk)[0])


def test_a_record_without_layers_is_left_alone(journal, record):
    before = journal.get("u1")
    _precopy.fold(None, journal, record, timeout=5)
    assert journal.get("u1") == before


def test_a_guest_that_is_off_is_not_frozen(monkeypatch, record):
    monkeypatch.setattr(_domains, "is_active", lambda domain: False)
    with pytest.raises(KvmfleetError) as caught:
        _precopy.require_running(object(), record)
    assert caught.value.code == "not_running"
