# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tools, links, disks and hosts that fail while an overlay travels or while a move waits for confirm."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator

import pytest
from support.faults import (
    QUICK,
    SWITCH,
    Subject,
    cut_link,
    eventually,
    hidden_from,
    impatient,
    in_mid_copy,
    kill_modules,
    kill_ssh_masters,
    kill_tool,
    one_paragraph,
    play_and_meddle,
    play_to_death,
    slow_link,
)
from support.fleet import Fleet
from support.guest import Guests
from support.lab import IMAGES, STATE, Host, Lab

RESIZE = {"instance": "web", "flavor": "medium", "resize_allow_resize_to_same_host": False, **QUICK}
SETTLE = {"instance": "web", **QUICK}
MIB = 24


@pytest.fixture
def subject(lab: Lab, guests: Guests, fleet: Fleet) -> Subject:
    """A guest on kvm1 whose overlay takes some seconds to travel."""
    impatient(lab, fleet)
    guest = guests.create("web", "kvm1")
    return Subject(lab, guest, guest.write(MIB))


def test_a_copy_that_breaks_goes_on(lab: Lab, fleet: Fleet, subject: Subject) -> None:
    """Whichever of the tools dies, the guest arrives with its data, and the journal tells of it."""
    with slow_link(lab["kvm2"]):
        playing = fleet.start("resize", **RESIZE)
        in_mid_copy(lab["kvm2"], playing)
        kill_tool(lab["kvm2"], "nbdcopy")
        eventually(lambda: "qemu-img" in lab["kvm2"].sh("ps -eo comm="), "the copy goes on")
        kill_tool(lab["kvm1"], "nbdkit")
        playing.wait().ok()
    noted = re.search(r"the copy broke and went on, rounds: (\d+)", " ".join(entry.get("note", "") for entry in lab["kvm2"].records()[-1]["history"]))
    assert noted, lab["kvm2"].records()[-1]["history"]
    assert int(noted[1]) >= 3  # one for each break, one that found nothing missing
    assert subject.runs_once_with_its_data() == "kvm2"
    fleet.play("revert", **SETTLE).ok()
    subject.as_before()


@pytest.mark.slow
def test_the_channel_is_lost_in_mid_copy(lab: Lab, fleet: Fleet, subject: Subject) -> None:
    """Nobody serves any more: as before, and the error says what broke. It is the lack of progress that ends it."""
    with slow_link(lab["kvm2"]):
        playing = fleet.start("resize", **RESIZE)
        in_mid_copy(lab["kvm2"], playing)
        lab["kvm1"].sh(f"kill -KILL $(sed 's/.*\"pid\": \\([0-9]*\\).*/\\1/' {STATE}/exports/*/state.json)")
        run = playing.wait()
    one_paragraph(run, "Copying vda", "as before", "kvm1")
    subject.as_before()


@pytest.mark.slow
def test_the_link_is_cut_for_seconds(lab: Lab, guests: Guests, fleet: Fleet) -> None:
    """The copy waits, and goes on."""
    kill_ssh_masters(lab)  # one that an impatient test left open would give up within these seconds
    guest = guests.create("web", "kvm1")
    subject = Subject(lab, guest, guest.write(MIB))
    with slow_link(lab["kvm2"]):
        playing = fleet.start("resize", **{**RESIZE, "migrate_stall_timeout": 60})
        in_mid_copy(lab["kvm2"], playing)
        with cut_link(lab["kvm2"]):
            time.sleep(5)
        playing.wait().ok()
    assert subject.runs_once_with_its_data() == "kvm2"
    fleet.play("revert", **SETTLE).ok()
    subject.as_before()


@pytest.mark.slow
def test_the_hosts_lose_each_other_in_mid_copy(lab: Lab, fleet: Fleet, subject: Subject) -> None:
    """For good, but the controller reaches both, so it is known that the guest runs nowhere: as before, at once."""
    with slow_link(lab["kvm2"]):
        playing = fleet.start("resize", **RESIZE)
        in_mid_copy(lab["kvm2"], playing)
        with hidden_from(lab["kvm2"], lab["kvm1"]):
            one_paragraph(playing.wait(), "Copying vda", "no progress for 8 s", "network between the hosts", "as before", "kvm1")
            subject.as_before()


@pytest.mark.slow
def test_the_base_vanishes_in_mid_copy(lab: Lab, fleet: Fleet, subject: Subject) -> None:
    """It was found when the move was prepared; what counts is what is there when the overlay is put on it."""
    move = "for file in {0}/base/*{1} {0}/_base/*{1}; do [ ! -e $file ] || mv $file ${{file%.away}}{2}; done"
    with slow_link(lab["kvm2"]):
        playing = fleet.start("resize", **RESIZE)
        in_mid_copy(lab["kvm2"], playing)
        lab["kvm2"].sh(move.format(IMAGES, ".qcow2", ".away"))
        try:
            error = one_paragraph(playing.wait(), "as before", "kvm1")
        finally:
            lab["kvm2"].sh(move.format(IMAGES, ".away", ""))
    assert re.search(rf"{IMAGES}/_?base/\S+ does not exist", error), error
    subject.as_before()


def serving(host: Host) -> str:
    """Processes of the channel and what it shows, on a host."""
    return host.sh(f"ps -eo comm= | grep -x nbdkit; ls {STATE}/exports", check=False)


@pytest.mark.invariant(12)
def test_the_door_closes_behind_a_dead_controller(lab: Lab, fleet: Fleet, subject: Subject) -> None:
    """The channel is open, nobody comes: it ends by itself, its key is gone, and the next run opens another."""
    assert play_to_death(fleet, "Move | Stop, prove off and seal the guest", "resize", **{**RESIZE, "migrate_channel_idle_timeout": 8})
    assert "nbdkit" in serving(lab["kvm1"])
    eventually(lambda: serving(lab["kvm1"]) == "", "the export is gone", 30)
    fleet.play("recover", **SETTLE).ok()
    subject.as_before()


@pytest.mark.slow
def test_the_door_closes_behind_a_dead_peer(lab: Lab, fleet: Fleet, subject: Subject) -> None:
    """It vanishes without a word, with its connections open."""
    with slow_link(lab["kvm2"]):
        playing = fleet.start("resize", **{**RESIZE, "migrate_channel_idle_timeout": 15})
        in_mid_copy(lab["kvm2"], playing)
        playing.kill()
        lab.call("host", "kill", "kvm2")
        try:
            assert "nbdkit" in serving(lab["kvm1"])
            eventually(lambda: serving(lab["kvm1"]) == "", "the export is gone", 60)
        finally:
            lab.call("host", "start", "kvm2")
    fleet.play("recover", **SETTLE).ok()
    subject.as_before()


@pytest.fixture
def own_filesystem(lab: Lab) -> Iterator[None]:
    """A file system of 4 GiB for the images of kvm2."""
    host = lab["kvm2"]
    host.sh(f"mount -t tmpfs -o size=4g,mode=755 none {IMAGES}")
    yield
    host.sh(f"umount -l {IMAGES}")


def goes_on(lab: Lab, fleet: Fleet, subject: Subject) -> None:
    """The next run sends only what the last one did not bring."""
    sent = lab["kvm1"].sent_bytes
    moved = fleet.play("resize", **RESIZE).ok().migration
    sent = lab["kvm1"].sent_bytes - sent
    assert moved["resumed_bytes"] >= 16 * 2**20
    assert sent <= 1.05 * moved["overlay_bytes"] + 2**20
    assert subject.runs_once_with_its_data() == "kvm2"
    fleet.play("revert", **SETTLE).ok()
    subject.as_before()


@pytest.mark.slow
def test_a_copy_whose_run_died_goes_on_in_the_next_one(lab: Lab, fleet: Fleet, subject: Subject) -> None:
    """Its controller and the module at the destination are killed; recover undoes the move, and keeps what has come."""
    subject = Subject(lab, subject.guest, subject.guest.write(3 * MIB))
    with slow_link(lab["kvm2"]):
        playing = fleet.start("resize", **RESIZE)
        in_mid_copy(lab["kvm2"], playing, 2 * MIB)
        playing.kill()
        kill_modules(lab)
    fleet.play("recover", **SETTLE).ok()
    subject.as_before()
    goes_on(lab, fleet, subject)


@pytest.mark.invariant(3)
def test_the_disk_fills_up_in_mid_copy(lab: Lab, fleet: Fleet, subject: Subject, own_filesystem: None) -> None:
    """Someone else takes the space that was free when the claim was made. Once there is room again, the next run goes on."""
    subject = Subject(lab, subject.guest, subject.guest.write(3 * MIB))
    shrink = f"mount -o remount,size=$(($(df -k --output=used {IMAGES} | tail -1) + 1024))k {IMAGES}"
    with slow_link(lab["kvm2"]):
        playing = fleet.start("resize", **RESIZE)
        in_mid_copy(lab["kvm2"], playing, 2 * MIB)
        lab["kvm2"].sh(shrink)
        run = playing.wait()
    one_paragraph(run, "No space left", "as before", "kvm1")
    subject.as_before()
    blocks, free = map(int, lab["kvm2"].sh(f"stat --file-system --format='%b %a' {IMAGES}").split())
    assert free >= blocks / 20, "what is kept takes the room of the guests there"
    lab["kvm2"].sh(f"mount -o remount,size=4g {IMAGES}")
    goes_on(lab, fleet, subject)


@pytest.mark.slow
def test_what_another_copy_has_yet_to_write_is_not_free(lab: Lab, fleet: Fleet, guests: Guests, subject: Subject, own_filesystem: None) -> None:
    """Real bytes decide even where disks are promised many times over; the guest that finds no room is not touched."""
    fleet.hosts["kvm2"]["kvmfleet_disk_allocation_ratio"] = 16.0
    second = Subject(lab, guests.create("web2", "kvm1"), guests.made["web2"].write(MIB))
    boot_id = second.boot_id
    room = (lab["kvm1"].allocated_bytes(subject.guest.disk) + lab["kvm1"].allocated_bytes(second.guest.disk)) // 1024 * 3 // 4
    with slow_link(lab["kvm2"]):
        playing = fleet.start("resize", **RESIZE)
        in_mid_copy(lab["kvm2"], playing)
        arrived = "$(du -k --total *.part | tail -1 | cut -f 1)"
        lab["kvm2"].sh(f"cd {IMAGES} && mount -o remount,size=$(($(df -k --output=used . | tail -1) - {arrived} + {room}))k {IMAGES}")
        refused = fleet.play("resize", **{**RESIZE, "instance": "web2", "target_host": "kvm2"})
        playing.wait().ok()
    assert re.search(r"bytes free|bytes needed|DiskSpace", refused.refused()), refused.error
    assert (second.running_on, second.boot_id) == (["kvm1"], boot_id)
    assert subject.runs_once_with_its_data() == "kvm2"
    fleet.play("revert", **SETTLE).ok()


@pytest.mark.slow
def test_the_link_is_cut_in_mid_copy(lab: Lab, fleet: Fleet, subject: Subject) -> None:
    """Nobody knows whether the guest runs there, so nothing is started until the host answers again."""
    with slow_link(lab["kvm2"]):
        playing = fleet.start("resize", **RESIZE)
        in_mid_copy(lab["kvm2"], playing)
        with cut_link(lab["kvm2"]):
            one_paragraph(playing.wait(), "kvm2", "recover")
            assert subject.running_on == []
            one_paragraph(fleet.play("recover", **SETTLE), "web", "kvm2", "unreachable", "nothing is started")
            assert subject.running_on == []
    fleet.play("recover", **SETTLE).ok()
    subject.as_before()


def test_the_destination_dies_in_mid_copy(lab: Lab, fleet: Fleet, subject: Subject) -> None:
    """When it is back, recover removes the leftovers and the guest runs at its source."""
    with slow_link(lab["kvm2"]):
        playing = fleet.start("resize", **RESIZE)
        in_mid_copy(lab["kvm2"], playing)
        lab.call("host", "kill", "kvm2")
        try:
            one_paragraph(playing.wait(), "kvm2", "recover")
            assert subject.running_on == []
        finally:
            lab.call("host", "start", "kvm2")
    fleet.play("recover", **SETTLE).ok()
    subject.as_before()


@pytest.mark.slow
def test_the_source_dies_in_mid_copy(lab: Lab, fleet: Fleet, subject: Subject) -> None:
    """The sealed guest does not come up with its host; recover starts it there."""
    with slow_link(lab["kvm2"]):
        playing = fleet.start("resize", **RESIZE)
        in_mid_copy(lab["kvm2"], playing)
        lab.call("host", "kill", "kvm1")
        try:
            one_paragraph(playing.wait(), "kvm1", "recover")
        finally:
            lab.call("host", "start", "kvm1")
    assert subject.guest.hosts == []
    fleet.play("recover", **SETTLE).ok()
    subject.as_before()


def test_the_destination_cannot_start_it(lab: Lab, fleet: Fleet, subject: Subject) -> None:
    """Facts and claim were fine, QEMU is not: the console's port is taken there since then."""
    host = lab["kvm1"]
    host.sh(
        "virsh dumpxml --inactive web >/tmp/web.xml && virsh --quiet destroy web"
        " && sed -i \"s|</devices>|<graphics type='vnc' port='5999' autoport='no' listen='127.0.0.1'/></devices>|\" /tmp/web.xml"
        " && virsh --quiet define /tmp/web.xml && virsh --quiet start web"
    )
    subject.guest.wait()

    def take_the_port() -> None:
        lab["kvm2"].sh("nbdkit --port 5999 --ipaddr 127.0.0.1 --pidfile /tmp/taken.pid null 1M")

    try:
        run = play_and_meddle(fleet, SWITCH, take_the_port, "resize", **RESIZE)
    finally:
        lab["kvm2"].sh("kill $(cat /tmp/taken.pid)")
    one_paragraph(run, "as before", "vnc", "in use")
    subject.as_before()


@pytest.mark.slow
def test_confirm_and_revert_with_a_host_away(lab: Lab, fleet: Fleet, subject: Subject) -> None:
    """Confirm deletes nothing without the source's answer or without a running guest; revert still works then."""
    fleet.play("resize", **RESIZE).ok()
    lab.call("host", "kill", "kvm1")
    try:
        for verb in ("confirm", "revert"):
            one_paragraph(fleet.play(verb, **SETTLE), "web", "kvm1", "unreachable", "Nothing was changed")
        assert subject.running_on == ["kvm2"]
    finally:
        lab.call("host", "start", "kvm1")
    lab["kvm2"].virsh("destroy", "web")
    one_paragraph(fleet.play("confirm", **SETTLE), "web", "not running", "source copy is kept")
    fleet.play("revert", **SETTLE).ok()
    subject.as_before()


@pytest.mark.slow
def test_an_interrupted_confirm_waits_for_the_source(lab: Lab, fleet: Fleet, subject: Subject) -> None:
    """The destination's record stays open until the sealed copy is really gone."""
    fleet.play("resize", **RESIZE).ok()
    assert play_to_death(fleet, "Apply | Remove the sealed copy at the source", "confirm", **SETTLE)
    lab.call("host", "kill", "kvm1")
    try:
        one_paragraph(fleet.play("recover", **SETTLE), "web", "kvm1", "unreachable")
    finally:
        lab.call("host", "start", "kvm1")
    fleet.play("recover", **SETTLE).ok()
    subject.as_before("kvm2")
