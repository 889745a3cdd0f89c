# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A guest with checkpoints of a backup program: the next incremental backup is right wherever the guest is."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.backups import Backups, bitmaps, checkpoints
from support.faults import QUICK, SWITCH, Subject, play_to_death
from support.fleet import Fleet
from support.guest import Guests
from support.lab import Lab


@pytest.fixture
def backups(lab: Lab) -> Iterator[Backups]:
    directory = Path(f"/srv/kvmfleet-backups-{lab.prefix}")
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(mode=0o777, parents=True)
    directory.chmod(0o777)
    yield Backups(str(directory))
    shutil.rmtree(directory)


@pytest.fixture
def backed_up(lab: Lab, guests: Guests, backups: Backups) -> Subject:
    """A guest of which there is a full backup, an incremental one, and data that is in neither."""
    guest = guests.create("web", "kvm1")
    guest.write()
    backups.make(lab["kvm1"], "monday")
    guest.write()
    backups.make(lab["kvm1"], "tuesday")
    return Subject(lab, guest, guest.write(2))


@pytest.mark.slow
def test_an_incremental_backup_after_a_move_is_right(lab: Lab, fleet: Fleet, backups: Backups, backed_up: Subject) -> None:
    """With a run that died before, to another host and a larger disk; a resize in place is refused, and nothing was copied ahead."""
    guest, source, destination = backed_up.guest, lab["kvm1"], lab["kvm2"]
    assert "allow_resize_to_same_host" in fleet.resize("web", "medium", target_host="kvm1").refused()
    assert "whose bitmaps would stay below a layer" in fleet.play("migrate", instance="web", target_host="kvm2", migrate_precopy="always").refused()

    assert play_to_death(fleet, SWITCH, "resize", instance="web", flavor="medium", target_host="kvm2", **QUICK)
    fleet.play("recover", instance="web", **QUICK).ok()
    assert (backed_up.runs_once_with_its_data(), checkpoints(source)) == ("kvm1", ["monday", "tuesday"])

    fleet.resize("web", "medium", target_host="kvm2").ok()
    assert (backed_up.runs_once_with_its_data(), checkpoints(destination)) == ("kvm2", ["monday", "tuesday"])
    guest.write()
    fleet.play("confirm", instance="web").ok()
    assert backups.make_last(guest, "wednesday")
    assert backups.bytes_of(destination, "wednesday") < backups.bytes_of(destination, "monday") / 2
    assert bitmaps(destination, guest.disk_paths[0]) == {name: ["auto"] for name in ("monday", "tuesday", "wednesday")}


@pytest.mark.slow
def test_an_incremental_backup_after_a_revert_is_right(lab: Lab, fleet: Fleet, backups: Backups, backed_up: Subject) -> None:
    guest, source = backed_up.guest, lab["kvm1"]
    fleet.play("migrate", instance="web", target_host="kvm2").ok()
    assert checkpoints(lab["kvm2"]) == ["monday", "tuesday"]
    guest.write()
    fleet.play("revert", instance="web").ok()
    assert (backed_up.runs_once_with_its_data(), checkpoints(source)) == ("kvm1", ["monday", "tuesday"])
    assert backups.make_last(guest, "wednesday")
    assert backups.bytes_of(source, "wednesday") < backups.bytes_of(source, "monday") / 2
    assert bitmaps(source, guest.disk_paths[0]) == {name: ["auto"] for name in ("monday", "tuesday", "wednesday")}
