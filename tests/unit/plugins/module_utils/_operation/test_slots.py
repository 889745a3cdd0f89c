# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How many moves a host has in hand at once is counted from its journal, whichever controllers they belong to."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import libvirt
import pytest

from ansible_collections.kvmfleet.compute.plugins.module_utils._host.state import Reserved
from ansible_collections.kvmfleet.compute.plugins.module_utils._journal import maintenance as _maintenance
from ansible_collections.kvmfleet.compute.plugins.module_utils._journal.records import Journal
from ansible_collections.kvmfleet.compute.plugins.module_utils._journal.state_dir import StateDir
from ansible_collections.kvmfleet.compute.plugins.module_utils._operation import admission as _admission, slots as _slots
from ansible_collections.kvmfleet.compute.plugins.module_utils._rules.errors import KvmfleetError

FLAVOR = {"name": "m1", "vcpus": 1, "ram": 64, "disk": 0, "ephemeral": 0, "swap": 0, "extra_specs": {}}
NEEDS = {
    "macs": [], "networks": [], "bridges": [], "machine": None, "arch": "x86_64", "virt_type": "qemu",
    **dict.fromkeys(("emulator", "loader", "nvram_template")),
}  # fmt: skip


def record(number: int, role: str = "source", **more: Any) -> dict[str, Any]:
    parties = {"source_host": "kvm1", "destination_host": "kvm2", "instance_uuid": f"00000000-0000-4000-8000-00000000000{number}"}
    parties["instance_name"] = f"web{number}"
    return {"uuid": f"m-{number}", "owner": f"run-{number}", "role": role, "disks": [], "nvram": None, "new_flavor": FLAVOR, **parties, **more}


def claim(conn: libvirt.virConnect, journal: Journal, images: Path, number: int, most: int = 2, **more: Any) -> dict[str, Any]:
    return _admission.admit(
        conn, journal, record(number, "destination", **more), requirements=NEEDS, images_path=str(images), reserved=Reserved(0, 0, 0),
        ratios={"cpu": 16.0, "ram": 1.5, "disk": 1.0}, proofs={}, key=None, most=most,
    )  # fmt: skip


def refused(call: Any, *args: Any, **kwargs: Any) -> KvmfleetError:
    with pytest.raises(KvmfleetError) as caught:
        call(*args, **kwargs)
    return caught.value


def test_a_host_lets_no_more_moves_begin_than_it_may_have_in_hand(state: StateDir) -> None:
    journal = Journal(state)
    first, _second = _slots.begin(journal, record(1), 2), _slots.begin(journal, record(2), 2)
    error = refused(_slots.begin, journal, record(3), 2)
    assert (error.code, error.details["have"], error.details["limit"], error.details["operations"]) == ("busy", 2, 2, ["m-1", "m-2"])
    assert error.message == (
        "web3 has to wait: this host has 2 moves out in hand (web1 (pre-migrating), web2 (pre-migrating)), and 2 at once are allowed (kvmfleet_max_moves_out)."
    )
    assert journal.find("m-3") is None
    first = journal.update(journal.update(first, status="migrating"), status="finished")
    assert _slots.begin(journal, record(3), 2)["status"] == "pre-migrating"


def test_moves_in_and_in_place_take_no_slot_out(state: StateDir) -> None:
    journal = Journal(state)
    journal.begin(record(1, "destination"))
    journal.begin(record(2, "in_place"))
    assert _slots.begin(journal, record(3), 1)["uuid"] == "m-3"
    assert _slots.begin(journal, record(4), 0)["uuid"] == "m-4"


def test_of_many_runs_at_once_no_more_than_the_limit_begin(state: StateDir) -> None:
    codes: list[str] = []

    def run(number: int) -> None:
        try:
            _slots.begin(Journal(state), record(number), 2)
            codes.append("begun")
        except KvmfleetError as exc:
            codes.append(exc.code)

    runs = [threading.Thread(target=run, args=(number,)) for number in range(8)]
    for one in runs:
        one.start()
    for one in runs:
        one.join(30)
    assert sorted(codes) == ["begun"] * 2 + ["busy"] * 6


def test_that_a_move_gets_on_is_seen_by_who_waits(state: StateDir) -> None:
    journal = Journal(state)
    first = _slots.begin(journal, record(1), 1)
    seen = refused(_slots.begin, journal, record(2), 1).details["seen"]
    assert refused(_slots.begin, journal, record(2), 1).details["seen"] == seen
    journal.update(first, step="stopping")
    assert refused(_slots.begin, journal, record(2), 1).details["seen"] != seen


def test_no_more_guests_are_claimed_for_at_once_than_a_host_may_take(qemu: libvirt.virConnect, state: StateDir, images: Path) -> None:
    journal = Journal(state)
    assert claim(qemu, journal, images, 1, most=1)["migration_uuid"] == "m-1"
    error = refused(claim, qemu, journal, images, 2, most=1)
    assert (error.code, error.details["operations"], state.read("claims", "m-2"), journal.find("m-2")) == ("busy", ["m-1"], None, None)
    assert claim(qemu, journal, images, 2, most=2)["migration_uuid"] == "m-2"


@pytest.mark.parametrize("closed", ["draining", "paused", "evacuated", "empty", "restoring"])
def test_a_closed_host_takes_no_claim_whatever_its_caller_knows(qemu: libvirt.virConnect, state: StateDir, images: Path, closed: str) -> None:
    kept = {"uuid": "d-1", "state": closed, "reason": "new memory", "by": {"user": "ann"}, "owner": "run-9", "lease": 60.0, "lease_until": 0.0, "guests": {}}
    state.write("host", "maintenance", kept)
    for more in ({}, {"part_of": {"kind": "drain", "uuid": "d-1", "host": "kvm1", "order": 1, "run": "run-9"}}):
        error = refused(claim, qemu, Journal(state), images, 1, **more)
        assert error.code == "claim_refused"
        assert [(reason["code"], reason["reason"]) for reason in error.details["reasons"]] == [("maintenance", f"this host is {closed} by ann: new memory")]
    assert (state.names("claims"), state.names("migrations")) == ([], [])


def test_a_closed_host_lets_no_guest_grow_on_it(qemu: libvirt.virConnect, state: StateDir, images: Path) -> None:
    journal = Journal(state)
    begun = journal.begin(record(1, "in_place"))
    _maintenance.change(state, _maintenance.Wanted(state="draining", uuid="d-1", owner="run-9", reason="new memory"))
    error = refused(
        _admission.admit, qemu, journal, begun, requirements=NEEDS, images_path=str(images), reserved=Reserved(0, 0, 0),
        ratios={"cpu": 16.0, "ram": 1.5, "disk": 1.0}, proofs={}, key=None,
    )  # fmt: skip
    assert (error.code, error.details["reasons"][0]["code"]) == ("claim_refused", "maintenance")


def test_what_comes_home_by_its_restore_is_let_in(qemu: libvirt.virConnect, state: StateDir, images: Path) -> None:
    for wanted in ("draining", "restoring"):
        _maintenance.change(state, _maintenance.Wanted(state=wanted, uuid="d-1", owner="run-9", reason="new memory"))
    home = {"kind": "restore", "uuid": "d-1", "host": "kvm2", "order": 1, "run": "run-9"}
    assert claim(qemu, Journal(state), images, 1, part_of=home)["migration_uuid"] == "m-1"
