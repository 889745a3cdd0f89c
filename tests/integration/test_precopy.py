# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The disks of a running guest are copied ahead, and it is down only for what it wrote last."""

from __future__ import annotations

import pytest
from support.faults import QUICK, SWITCH, Subject, in_mid_copy, kill_ssh_masters, one_paragraph, play_to_death
from support.fleet import Fleet
from support.guest import Guest, Guests
from support.lab import IMAGES, Lab

MIB = 2**20
AHEAD = {"migrate_precopy": "always", **QUICK}


def scribble(guest: Guest, path: str = "/root/scribble") -> None:
    """Let the guest go on writing. A file takes the place of the one before only when it is whole, since a shutdown cuts the last one short."""
    write = f"dd if=/dev/urandom of={path}.new bs=64k count=8 conv=fsync 2>/dev/null && mv {path}.new {path}"
    guest.exec("sh", "-c", f"(while :; do {write}; sleep 0.5; done) >/dev/null 2>&1 &")


def attach_disk(guest: Guest, target: str, form: str) -> None:
    """Give a guest that is off a further disk of 1 GiB."""
    path = f"{IMAGES}/{guest.name}-{target}.{form}"
    guest.host.sh(f"qemu-img create -q -f {form} {path} 1G")
    options = ("--targetbus", "virtio", "--driver", "qemu", "--subdriver", form, "--sourcetype", "file")
    guest.host.virsh("attach-disk", guest.name, path, target, *options, "--config")


def chain_of(guest: Guest) -> list[str]:
    text = guest.host.sh(f"qemu-img info -U --backing-chain -f qcow2 {guest.disk_paths[0]}")
    return [line.partition(": ")[2] for line in text.splitlines() if line.startswith("image: ")]


def test_a_guest_that_writes_is_down_only_for_what_it_wrote_last(lab: Lab, guests: Guests, fleet: Fleet, capsys: pytest.CaptureFixture[str]) -> None:
    """What travels while it is off is a small part of its overlay; the copy is one overlay on the base, and a revert is the identity."""
    guest = guests.create("web", "kvm1")
    subject, xml = Subject(lab, guest, guest.write(96)), guest.xml
    scribble(guest)
    run = fleet.play("resize", instance="web", flavor="medium", target_host="kvm2", **AHEAD).ok()
    ahead, seconds = run.migration["precopy"], run.migration["downtime_seconds"]
    down = run.migration["overlay_bytes"] - ahead["bytes"]
    with capsys.disabled():
        print(f"\n{ahead['bytes'] / MIB:.1f} MiB in {ahead['rounds']} rounds ahead, {down / MIB:.1f} MiB while it was off, {seconds} s")
    assert ahead["wanted"]
    assert ahead["rounds"] >= 1
    assert ahead["quiesced"]
    assert ahead["bytes"] > 96 * MIB
    assert down < 32 * MIB
    assert subject.runs_once_with_its_data() == "kvm2"
    assert guest.look().is_flavor(fleet.flavors["medium"])
    assert len(chain_of(guest)) == 2
    assert not [path for path in lab["kvm2"].files() if ".part" in path]
    fleet.play("revert", instance="web", **QUICK).ok()
    subject.as_before()
    assert guest.xml == xml
    assert guest.exec("sh", "-c", "wc -c < /root/scribble") == str(512 * 1024)
    assert len(chain_of(guest)) == 2
    assert "always" in run.said


def test_all_disks_are_frozen_at_once_and_a_confirm_leaves_nothing(lab: Lab, guests: Guests, fleet: Fleet) -> None:
    """qcow2 on a base, flat qcow2 and raw; without a guest agent nothing is quiesced."""
    guest = guests.create("web", "kvm1", start=False)
    attach_disk(guest, "vdb", "qcow2")
    attach_disk(guest, "vdc", "raw")
    guest.host.virsh("start", "web")
    subject = Subject(lab, guest, guest.wait().write(8))
    fill = "dd if=/dev/urandom of=/dev/{0} bs=1M count=12 conv=fsync 2>/dev/null; head -c 64M /dev/{0} | sha256sum"
    sums = {target: guest.exec("sh", "-c", fill.format(target)) for target in ("vdb", "vdc")}
    run = fleet.play("migrate", instance="web", target_host="kvm2", migrate_precopy_quiesce=False, **AHEAD).ok()
    assert not run.migration["precopy"]["quiesced"]
    assert run.migration["precopy"]["bytes"] > 32 * MIB
    assert subject.runs_once_with_its_data() == "kvm2"
    for target, expected in sums.items():
        assert guest.exec("sh", "-c", f"head -c 64M /dev/{target} | sha256sum") == expected
    assert "precopy" not in guest.xml
    fleet.play("confirm", instance="web").ok()
    assert lab["kvm1"].files() == []
    assert subject.runs_once_with_its_data() == "kvm2"


@pytest.mark.slow
def test_a_sealed_copy_whose_layers_were_copied_ahead_is_restored(lab: Lab, guests: Guests, fleet: Fleet) -> None:
    """The controller dies when the guest is down and its newest layer is the only file that has not travelled."""
    guest = guests.create("web", "kvm1")
    subject, xml = Subject(lab, guest, guest.write(8)), guest.xml
    assert play_to_death(fleet, SWITCH, "migrate", instance="web", target_host="kvm2", **AHEAD)
    assert guest.hosts == []
    fleet.play("recover", instance="web", **QUICK).ok()
    subject.as_before()
    assert guest.xml == xml


@pytest.mark.parametrize("how", [pytest.param("channel", marks=pytest.mark.slow), "connections", "controller"])
def test_a_round_that_fails_leaves_the_running_guest_as_it_was(lab: Lab, guests: Guests, fleet: Fleet, how: str) -> None:
    """Not even restarted: the layers are merged while it runs. A dead controller's rounds are undone by recover, all others by the run itself."""
    guest = guests.create("web", "kvm1")
    subject, xml = Subject(lab, guest, guest.write(64)), guest.xml
    scribble(guest)
    boot_id = subject.boot_id
    lab["kvm1"].sh("tc qdisc add dev eth0 root tbf rate 80mbit burst 64k latency 100ms")
    try:
        playing = fleet.start("migrate", instance="web", target_host="kvm2", **AHEAD)
        in_mid_copy(lab["kvm2"], playing)
        assert "precopy" in guest.xml
        if how == "controller":
            playing.kill()
        elif how == "connections":
            kill_ssh_masters(lab)
            one_paragraph(playing.wait(), "kvm2 is unreachable", "is as before on kvm1")
        else:
            lab["kvm1"].sh("rm -r /var/lib/kvmfleet/exports/*/files")
            one_paragraph(playing.wait(), "is as before on kvm1")
    finally:
        lab["kvm1"].sh("tc qdisc del dev eth0 root")
    if how == "controller":
        fleet.play("recover", instance="web", **QUICK).ok()
    subject.is_untouched(boot_id)
    assert guest.xml == xml
    assert guest.look().data == subject.data


@pytest.mark.slow
def test_a_guest_that_goes_off_while_it_is_copied_stays_as_it_is(lab: Lab, guests: Guests, fleet: Fleet) -> None:
    """The layers are merged without a QEMU; what it wrote to them is there."""
    guest = guests.create("web", "kvm1")
    guest.write(64)
    xml = guest.xml
    lab["kvm1"].sh("tc qdisc add dev eth0 root tbf rate 80mbit burst 64k latency 100ms")
    try:
        playing = fleet.start("migrate", instance="web", target_host="kvm2", **AHEAD)
        in_mid_copy(lab["kvm2"], playing)
        late = guest.write(1)
        guest.host.virsh("destroy", "web")
    finally:
        lab["kvm1"].sh("tc qdisc del dev eth0 root")
    one_paragraph(playing.wait(), "went off", "is as before on kvm1")
    assert (guest.hosts, guest.state, guest.xml) == (["kvm1"], "shut off", xml)
    assert lab["kvm1"].files() == [guest.disk]
    guest.host.virsh("start", "web")
    assert guest.look().data == late


@pytest.mark.slow
def test_auto_decides_by_size_and_rate_and_says_so(lab: Lab, guests: Guests, fleet: Fleet) -> None:
    guest = guests.create("web", "kvm1")
    data = guest.write(16)
    plan = fleet.play("plan", instance="web", target_host="kvm2").ok().said
    assert "without pre-copy, since copying" in plan, plan
    fleet.play("migrate", instance="web", target_host="kvm2", **QUICK).ok()
    fleet.play("revert", instance="web", **QUICK).ok()
    run = fleet.play("migrate", instance="web", target_host="kvm2", migrate_precopy_threshold=0.001, **QUICK).ok()
    assert run.migration["precopy"]["wanted"]
    assert "as measured in the latest copy" in run.migration["precopy"]["reason"]
    fleet.play("confirm", instance="web").ok()
    assert guest.look().data == data
