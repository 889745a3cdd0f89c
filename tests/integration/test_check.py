# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The playbook check tells beforehand what a move would be refused for."""

from __future__ import annotations

import re
import time

import pytest
from support.definition import add_devices
from support.fleet import Fleet, Run
from support.guest import Guests
from support.lab import IMAGES, Lab

CLONED = (
    "{image} is used by guest clone (below disk vda). Detach it there (virsh detach-disk), or let what stands on it go or stand for itself "
    "(virsh blockpull), and repeat. [disk_in_use_by]"
)


def sentences(run: Run, number: int = -1) -> list[str]:
    """The lines of the verdict, those that were wrapped put together again."""
    told = [message for message in run.messages if isinstance(message, list)][number]
    joined: list[str] = []
    for line in told:
        if line.startswith("    "):
            joined[-1] += f" {line.strip()}"
        else:
            joined.append(line)
    return [re.sub(r"\d+ MiB free", "... MiB free", line) for line in joined]


@pytest.mark.whole_fleet
def test_check_tells_which_guests_can_move_and_what_keeps_the_others(lab: Lab, fleet: Fleet, guests: Guests) -> None:
    """A template that a clone stands on and a guest with a device of its host stay; a host that does not answer keeps nobody from hearing about the rest."""
    host = lab["kvm1"]
    for name in ("web", "db", "golden", "tape"):
        guests.create(name, "kvm1", start=False)
    golden = guests.made["golden"].disk
    add_devices(host, "tape", "<hostdev mode='subsystem' type='usb'><source><vendor id='0x1234'/><product id='0xbeef'/></source></hostdev>")
    host.sh(
        f"qemu-img create -q -f qcow2 -b {golden} -F qcow2 {IMAGES}/clone.qcow2; virsh dumpxml golden | "
        f"sed -e s,{golden},{IMAGES}/clone.qcow2, -e 's,<name>golden<,<name>clone<,' -e /uuid/d -e '/mac address/d' >/tmp/clone.xml; "
        "virsh define /tmp/clone.xml"
    )
    fleet.hosts["kvm4"]["ansible_port"] = 9
    fleet.hosts["kvm2"]["kvmfleet_disk_directories"] = {"fast": "/srv/not made yet"}
    before = lab.snapshot()
    firewall = ("INPUT", "-p", "tcp", "--dport", "49215", "-j", "DROP")
    lab["kvm3"].run("iptables", "-A", *firewall)
    try:
        run = fleet.play("check").ok()
        strict = fleet.play("check", "--check", target_host="kvm1", strict=True)
        assert lab.snapshot() == before
    finally:
        lab["kvm3"].run("iptables", "-D", *firewall)
        host.virsh("undefine", "clone")
        host.run("rm", f"{IMAGES}/clone.qcow2", "/tmp/clone.xml")
    assert (run.changed, strict.changed) == (0, 0)

    told = sentences(run)
    of_kvm1 = told[: next(number for number, line in enumerate(told) if line.startswith("kvm2 "))]
    assert of_kvm1[0].startswith("kvm1 is ready: libvirt ")
    assert of_kvm1[-3:] == [
        "kvm1: 3 of 5 guests can move:",
        f"  golden cannot, since {CLONED.format(image=golden)}",
        "  tape cannot, since hostdev usb: a device of this host is passed through (devices/hostdev). [unsupported_hostdev]",
    ]
    assert "  prepare_host would make the directory /srv/not made yet" in told
    assert "kvm2: no guests." in told
    closed = f"nothing gets to port 49215 of {fleet.hosts['kvm3']['ansible_host']} (timed out)"
    assert f"  look after: copies from kvm3 travel through the controller's ssh connections, since here {closed}" in told
    assert told[-3] == "kvm4 cannot be asked, so its guests are not known:"
    assert told[-1] == "3 of 4 hosts are ready, 3 of 5 guests can move. The guests of kvm4 are not known."
    artifact = run.stats["kvmfleet_check"]
    assert (artifact["complete"], artifact["guests"], artifact["can_move"]) == (False, 5, 3)
    assert {name: guest["code"] for name, guest in artifact["hosts"]["kvm1"]["cannot_move"].items()} == {"golden": "not_movable", "tape": "not_movable"}

    assert sentences(strict, 0) == [*of_kvm1, "1 of 1 host is ready, 3 of 5 guests can move."]
    assert strict.stats["kvmfleet_error"]["code"] == "not_all_ready"

    fleet.play("plan", instance="db").ok()
    assert "usb" in fleet.play("plan", instance="tape").refused()


@pytest.mark.slow
def test_a_hundred_guests_cost_a_host_no_more_questions_than_one(lab: Lab, fleet: Fleet, guests: Guests, capsys: pytest.CaptureFixture[str]) -> None:
    guest, host = guests.create("web", "kvm1", start=False), lab["kvm1"]
    one = fleet.play("check").ok()
    host.sh(
        f"virsh dumpxml web >/tmp/web.xml; for n in $(seq 99); do cp {guest.disk} {IMAGES}/c$n.qcow2; "
        f"sed -e s,{guest.disk},{IMAGES}/c$n.qcow2, -e s,'<name>web<','<name>c'$n'<', -e /uuid/d -e '/mac address/d' /tmp/web.xml >/tmp/c.xml; "
        "virsh --quiet define /tmp/c.xml; done"
    )
    try:
        began = time.monotonic()
        hundred = fleet.play("check").ok()
        took = time.monotonic() - began
    finally:
        host.sh(f"for n in $(seq 99); do virsh --quiet undefine c$n; rm {IMAGES}/c$n.qcow2; done; rm -f /tmp/web.xml /tmp/c.xml")
    assert hundred.stats["kvmfleet_check"]["hosts"]["kvm1"]["guests"] == 100
    assert hundred.recap["kvm1"] == one.recap["kvm1"]
    assert hundred.recap["localhost"] == one.recap["localhost"]
    with capsys.disabled():
        print(f"\n100 guests: {hundred.recap['kvm1']['ok']} tasks on their host, as for one; {took:.0f} s, {hundred.stats['kvmfleet_check']['message']}")
