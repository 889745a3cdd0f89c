# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The disks of a running guest are copied ahead, and it is down only for what it wrote last."""

from __future__ import annotations

import pytest
from support.faults import QUICK, Subject, eventually, in_mid_copy, kill_tool, one_paragraph
from support.fleet import Fleet
from support.guest import DATA, Guest, Guests
from support.lab import IMAGES, Lab

MIB = 2**20
AHEAD = {"migrate_precopy": "always", **QUICK}


def scribble(guest: Guest, path: str = "/root/scribble") -> None:
    """Let the guest go on writing."""
    guest.exec("sh", "-c", f"(while :; do dd if=/dev/urandom of={path} bs=64k count=8 conv=fsync 2>/dev/null; sleep 0.5; done) >/dev/null 2>&1 &")


def attach_disk(guest: Guest, target: str, form: str, gib: int = 1) -> str:
    """Give a running guest a further disk, for good; its path."""
    path = f"{IMAGES}/{guest.name}-{target}.{form}"
    guest.host.sh(f"qemu-img create -q -f {form} {path} {gib}G")
    guest.host.virsh(
        "attach-disk", guest.name, path, target, "--targetbus", "virtio", "--driver", "qemu", "--subdriver", form, "--live", "--config", "--sourcetype", "file"
    )
    eventually(lambda: guest.exec("sh", "-c", f"test -b /dev/{target} && echo there || true") == "there", f"{target} is in the guest")
    return path


def chain_of(guest: Guest) -> list[str]:
    text = guest.host.sh(f"qemu-img info -U --backing-chain -f qcow2 {guest.disk_paths[0]}")
    return [line.partition(": ")[2] for line in text.splitlines() if line.startswith("image: ")]


def test_a_guest_that_writes_is_down_only_for_what_it_wrote_last(lab: Lab, guests: Guests, fleet: Fleet, capsys: pytest.CaptureFixture[str]) -> None:
    """What travels while it is off is a small part of its overlay; the copy is one overlay on the base, and a revert is the identity."""
    guest = guests.create("web", "kvm1")
    subject, xml = Subject(lab, guest, guest.write(96)), guest.xml
    scribble(guest)
    run = fleet.play("resize", instance="web", flavor="medium", target_host="kvm2", **AHEAD).ok()
    ahead, down = run.migration["precopy"], run.migration["overlay_bytes"] - run.migration["precopy"]["bytes"]
    with capsys.disabled():
        print(f"\n{ahead['bytes'] / MIB:.1f} MiB in {ahead['rounds']} rounds ahead, {down / MIB:.1f} MiB while it was off, {run.migration['downtime_seconds']} s")
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
    guest = guests.create("web", "kvm1")
    subject = Subject(lab, guest, guest.write(8))
    sums = {}
    for target, form in (("vdb", "qcow2"), ("vdc", "raw")):
        attach_disk(guest, target, form)
        sums[target] = guest.exec("sh", "-c", f"dd if=/dev/urandom of=/dev/{target} bs=1M count=12 conv=fsync 2>/dev/null; sha256sum </dev/{target}")
    run = fleet.play("migrate", instance="web", target_host="kvm2", migrate_precopy_quiesce=False, **AHEAD).ok()
    assert not run.migration["precopy"]["quiesced"]
    assert run.migration["precopy"]["bytes"] > 32 * MIB
    assert subject.runs_once_with_its_data() == "kvm2"
    for target, expected in sums.items():
        assert guest.exec("sh", "-c", f"sha256sum </dev/{target}") == expected
    assert "precopy" not in guest.xml
    fleet.play("confirm", instance="web").ok()
    assert lab["kvm1"].files() == []
    assert subject.runs_once_with_its_data() == "kvm2"


@pytest.mark.parametrize("how", ["tool", "controller"])
def test_a_round_that_fails_leaves_the_running_guest_as_it_was(lab: Lab, guests: Guests, fleet: Fleet, how: str) -> None:
    """Not even restarted: the layers are merged while it runs. A dead controller's rounds are undone by recover."""
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
        else:
            lab["kvm1"].sh(f"rm -r /var/lib/kvmfleet/exports/*/files; sleep 1; true")
            kill_tool(lab["kvm2"], "nbdcopy")
            one_paragraph(playing.wait(), "is as before on kvm1")
    finally:
        lab["kvm1"].sh("tc qdisc del dev eth0 root")
    if how == "controller":
        fleet.play("recover", instance="web", **QUICK).ok()
    subject.is_untouched(boot_id)
    assert guest.xml == xml
    assert guest.look().data == subject.data


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


def test_auto_decides_by_size_and_rate_and_says_so(lab: Lab, guests: Guests, fleet: Fleet) -> None:
    guest = guests.create("web", "kvm1")
    guest.write(16)
    plan = fleet.play("plan", instance="web", target_host="kvm2").ok().said
    assert "without pre-copy, since copying" in plan, plan
    assert "assumed" in plan
    fleet.play("migrate", instance="web", target_host="kvm2", **QUICK).ok()
    fleet.play("revert", instance="web", **QUICK).ok()
    run = fleet.play("migrate", instance="web", target_host="kvm2", migrate_precopy_threshold=0.001, **QUICK).ok()
    assert run.migration["precopy"]["wanted"]
    assert "as measured in the latest copy" in run.migration["precopy"]["reason"]
    guest.host.virsh("shutdown", "web")
    eventually(lambda: guest.state == "shut off", "the guest is off")
    fleet.play("revert", instance="web", **QUICK).ok()
    assert guest.look().data
    assert DATA
