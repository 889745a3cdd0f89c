# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Room for what travels: real bytes, a filesystem at a time, less what other operations still have to write."""

from __future__ import annotations

import os
from types import SimpleNamespace

import pytest

from ansible_collections.kvmfleet.compute.plugins.module_utils._journal.records import Journal
from ansible_collections.kvmfleet.compute.plugins.module_utils._storage import incoming as _incoming

FREE = 1000_000


@pytest.fixture
def journal(state, monkeypatch):
    monkeypatch.setattr(os, "statvfs", lambda directory: SimpleNamespace(f_bavail=FREE // 1000, f_frsize=1000))
    return Journal(state)


@pytest.fixture
def make(journal, images):
    """A record that is open at this host, with disks of so many bytes."""

    def build(number, *sizes, role="destination", step="admitted", begun=True):
        disks = [{"target": f"vd{letter}", "path": str(images / f"{number}-vd{letter}.qcow2"), "allocated_bytes": size} for letter, size in zip("abc", sizes)]
        record = {"uuid": f"u{number}", "owner": "o", "role": role, "source_host": "kvm1", "destination_host": "kvm2", "nvram": None, "disks": disks}
        record.update(instance_uuid=f"i{number}", instance_name=f"web{number}")
        return journal.update(journal.begin(record), step=step) if begun else record

    return build


def test_all_disks_of_an_operation_count_together(journal, make):
    assert _incoming.shortages(journal, make(1, 600_000, 400_000, begun=False)) == []
    (shortage,) = _incoming.shortages(journal, make(1, 600_000, 400_001, begun=False))
    assert (shortage.need, shortage.free, shortage.promised) == (1_000_001, FREE, 0)


def test_what_others_have_yet_to_write_is_not_free(journal, make, images):
    make(1, 700_000)
    assert _incoming.shortages(journal, make(2, 300_000, begun=False)) == []
    (shortage,) = _incoming.shortages(journal, make(2, 300_001, begun=False))
    assert str(shortage) == f"{images} has 1000000 bytes free, 700000 of them promised to other open operations; 300001 are needed"
    assert shortage.numbers() == {"path": str(images), "need": 300_001, "have": 300_000}


def test_what_has_arrived_is_not_counted_twice(journal, make, images):
    other = make(1, 700_000, step="receiving")
    part = _incoming.part_path(other, other["disks"][0]["path"])
    with open(part, "wb") as stream:
        stream.write(b"x" * 409_600)
    assert os.stat(part).st_blocks * 512 >= 409_600
    assert _incoming.shortages(journal, make(2, 600_000, begun=False)) == []


@pytest.mark.parametrize("change", [{"role": "source"}, {"step": "defined"}])
def test_only_copies_that_still_come_are_promised(journal, make, change):
    make(1, 700_000, **change)
    assert _incoming.shortages(journal, make(2, 900_000, begun=False)) == []


def test_a_closed_operation_promises_nothing(journal, make):
    journal.close(make(1, 700_000), "error")
    assert _incoming.shortages(journal, make(2, 900_000, begun=False)) == []


def test_the_source_tells_more_exactly(journal, make):
    record = make(1, 1)
    assert _incoming.shortages(journal, record, {"vda": FREE}) == []
    assert [shortage.need for shortage in _incoming.shortages(journal, record, {"vda": FREE + 1})] == [FREE + 1]


def test_a_base_image_leaves_room_for_the_overlay_that_comes_after_it(journal, make, images):
    make(1, 400_000)
    assert _incoming.shortage_for(journal, str(images), 600_000) is None
    assert _incoming.shortage_for(journal, str(images), 600_001).promised == 400_000


def test_firmware_variables_travel_under_a_name_of_their_own(make):
    record = dict(make(1, 1, begun=False), nvram="/var/lib/libvirt/qemu/nvram/web1_VARS.fd")
    assert _incoming.exports(record) == {"vda": record["disks"][0]["path"], "nvram": record["nvram"]}
