# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The tasks and phases of the critical section, and the scripts of the other ways."""

from __future__ import annotations

import subprocess

import pytest

from ansible_collections.kvmfleet.compute.bench.move import critical
from ansible_collections.kvmfleet.compute.bench.move.scripts import SCRIPTS, Move, marks

TASKS = [
    {"task": "kvmfleet.compute.migrate : Move | Begin", "at": 0.0, "seconds": 10.0},
    {"task": "kvmfleet.compute.migrate : Move | Stop", "at": 10.0, "seconds": 4.0},
    {"task": "kvmfleet.compute.migrate : Move | Copy", "at": 14.0, "seconds": 6.0},
    {"task": "kvmfleet.compute.migrate : Move | Note", "at": 20.0, "seconds": 1.0},
]
SOURCE = {"stopped": {"requested_at": 11.0, "off_at": 13.0}, "history": [{"at": 10.5, "step": "stopping"}, {"at": 13.5, "step": "sealed"}]}
DESTINATION = {
    "timings": {"began_at": 15.0, "copied_at": 16.0, "verified_at": 16.25, "started_at": 18.0},
    "history": [
        {"at": 1.0, "step": "begun", "note": "begun"},
        {"at": 2.0, "step": "precopying"},
        {"at": 4.0, "step": "precopying", "note": "1 bytes copied ahead"},
        {"at": 5.0, "step": "precopying"},
        {"at": 5.5, "step": "precopying", "note": "1 bytes copied ahead"},
        {"at": 17.0, "step": "defined"},
    ],
}


def test_only_tasks_during_which_the_guest_was_down_count_and_only_that_part() -> None:
    found = critical.tasks_between(TASKS, [5.0, 10.1, 14.1, 17.0, 20.5], 11.0, 18.0)
    assert found == [
        {"task": "Move | Stop", "seconds": 4.0, "down_seconds": 3.0, "round_trips": 1},
        {"task": "Move | Copy", "seconds": 6.0, "down_seconds": 4.0, "round_trips": 2},
    ]


def test_the_phases_add_up_to_the_downtime() -> None:
    found = critical.phases(SOURCE, DESTINATION)
    assert sum(found.values()) == pytest.approx(18.0 - 11.0)
    assert (found["guest shuts down"], found["copy"], found["start"]) == (2.0, 1.0, 1.0)


def test_rounds_ahead_are_copying_too() -> None:
    assert critical.copying(DESTINATION) == pytest.approx(2.0 + 0.5 + 1.0)


def test_marks_are_told_from_other_output() -> None:
    assert marks("Domain started\nmark down 12.5\nmark started 13.25\nmarker 1 2 3 4\n") == {"down": 12.5, "started": 13.25}


@pytest.mark.parametrize("way", SCRIPTS)
def test_each_script_is_bash_with_nothing_left_to_fill_in(way: str) -> None:
    text = SCRIPTS[way].text(Move("vm1", "/images/vm1.qcow2", "/images/base/b.qcow2", "kvm2", "192.0.2.11"))
    assert subprocess.run(["bash", "-n"], input=text, text=True, capture_output=True, check=False).stderr == ""
    assert not [name for name in ("{guest}", "{disk}", "{base}", "{peer}", "{incoming}", "{address}", "{port}") if name in text]
    assert text.index("virsh --quiet shutdown vm1") < text.index("mark copy\n") < text.index("mark copied\n") < text.index("virsh --quiet start vm1")


def test_only_the_old_way_merges_and_only_it_needs_no_base() -> None:
    texts = {way: script.text(Move("vm1", "/d", "/base/b.qcow2", "kvm2", "192.0.2.11")) for way, script in SCRIPTS.items()}
    assert [way for way, text in texts.items() if "qemu-img convert" in text] == ["nova-old"]
    assert [way for way, text in texts.items() if "rebase -u -f qcow2 -F qcow2 -b /base/b.qcow2" not in text] == ["nova-old"]
