# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The playbook plan answers for every host and changes nothing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support.fleet import Fleet
from support.guest import Guests
from support.lab import Lab

pytestmark = pytest.mark.whole_fleet


@pytest.mark.invariant(11)
def test_a_plan_says_where_to_and_why_not_elsewhere(lab: Lab, fleet: Fleet, guests: Guests, tmp_path: Path) -> None:
    """A resize that is possible, a migration, and a resize that is not."""
    guests.create("web", "kvm1", start=False)
    before = lab.snapshot()

    run = fleet.play("plan", instance="web", flavor="large").ok()
    assert "selected" in run.verdicts["kvm1"]
    assert "alternate" in run.verdicts["kvm2"]
    assert "zone" in run.verdicts["kvm3"]
    assert "zone" in run.verdicts["kvm4"]
    assert "in place" in run.said
    assert run.changed == 0

    run = fleet.play("plan", instance="web", target_host="kvm4", zone="south").ok()
    assert "selected" in run.verdicts["kvm4"]
    assert set(run.verdicts) == set(lab.hosts)

    written = tmp_path / "plan.json"
    run = fleet.play("plan", instance="web", flavor="huge", plan_file=str(written))
    run.refused()
    reasons = json.loads(written.read_text())["error"]["details"]["placement"]["rejected"]
    assert {host: "ram" in [reason["code"] for reason in found] for host, found in reasons.items()} == dict.fromkeys(lab.hosts, True)
    assert {host: "1048576" in verdict for host, verdict in run.verdicts.items()} == dict.fromkeys(lab.hosts, True)
    assert lab.snapshot() == before
