# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A copy is held to its bandwidth limit, can be watched from another shell and in the log, and proves as much as was asked for."""

from __future__ import annotations

import re

import pytest
from support.faults import QUICK, Subject, in_mid_copy
from support.fleet import Fleet
from support.guest import Guests
from support.lab import STATE, Lab

MIB = 2**20


@pytest.mark.slow
def test_a_limited_copy_is_shown_by_status(lab: Lab, guests: Guests, fleet: Fleet, capsys: pytest.CaptureFixture[str]) -> None:
    """The lowest of the limits of the move and of both hosts holds; status reads percent, rate and time from the destination."""
    guest = guests.create("web", "kvm1")
    subject = Subject(lab, guest, guest.write(80))
    fleet.vars["kvmfleet_migration_bandwidth_limit"] = "1G"
    fleet.hosts["kvm2"]["kvmfleet_migration_bandwidth_limit"] = "4M"
    options = {"migrate_bandwidth_limit": "8M", "migrate_progress_interval": 3, "migrate_precopy": "never"}
    playing = fleet.start("resize", instance="web", flavor="medium", target_host="kvm2", **options, **QUICK)
    in_mid_copy(lab["kvm2"], playing, mib=10)
    shown = fleet.play("status").ok().said
    run = playing.wait().ok()
    migration = run.migration
    progress = re.search(r"the copy: (\d+) % of (\d+) MiB, ([\d.]+) MiB/s, (\d+) s left", shown)
    assert progress, shown
    lines = [int(percent) for percent in re.findall(r"^kvm2: (\d+) % of \d+ MiB, [\d.]+ MiB/s", run.output, re.MULTILINE)]
    assert len(lines) >= 3, run.output
    assert lines == sorted(lines)
    assert 10 <= int(progress[1]) <= 99
    assert int(progress[2]) == round(migration["overlay_bytes"] / MIB)
    assert 2.5 < float(progress[3]) < 8
    assert migration["bandwidth_limit"] == 4 * MIB
    timings = lab["kvm2"].records()[-1]["timings"]
    rate = migration["overlay_bytes"] / (timings["copied_at"] - timings["began_at"]) / MIB
    with capsys.disabled():
        print(f"\n{migration['overlay_bytes'] / MIB:.0f} MiB at {rate:.2f} MiB/s, limit 4 with a burst of 2 s; status: {progress[0]}")
    assert 2.5 < rate < 4 * 80 / (80 - 2 * 4) + 0.3
    assert not lab["kvm2"].sh(f"ls {STATE}/exports", check=False)
    assert "the copy" not in fleet.play("status").ok().said
    fleet.play("revert", instance="web", **QUICK).ok()
    subject.as_before()


@pytest.mark.slow
@pytest.mark.parametrize("verify", ["none", "full"])
def test_verification_can_be_chosen(lab: Lab, guests: Guests, fleet: Fleet, verify: str) -> None:
    guest = guests.create("web", "kvm1")
    subject = Subject(lab, guest, guest.write(8))
    fleet.play("resize", instance="web", flavor="medium", target_host="kvm2", migrate_verify=verify, **QUICK).ok()
    assert subject.runs_once_with_its_data() == "kvm2"
    fleet.play("revert", instance="web", **QUICK).ok()
    subject.as_before()
