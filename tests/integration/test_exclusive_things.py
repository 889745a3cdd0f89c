# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a host can have once, such as a port that a definition fixes, is found taken before the guest is stopped."""

from __future__ import annotations

from support.definition import add_devices
from support.faults import QUICK, SWITCH, play_and_meddle, play_to_death
from support.fleet import Fleet
from support.guest import Guests
from support.lab import Lab

VNC = "<graphics type='vnc' port='5911' autoport='no' listen='127.0.0.1'/>"
CLAIM = "Claim | Reserve capacity under the destination's lock"


def test_a_fixed_port_that_another_guest_has_is_told_by_the_plan(lab: Lab, fleet: Fleet, guests: Guests) -> None:
    """Also of one that is off there. The guest is not touched; once a process has the port instead, that is told as well."""
    guests.create("db", "kvm2", start=False)
    add_devices(lab["kvm2"], "db", VNC)
    guest = guests.create("web", "kvm1", start=False)
    add_devices(lab["kvm1"], "web", VNC)
    lab["kvm1"].virsh("start", "web")
    boot_id, definition = guest.look().boot_id, guest.xml
    for playbook in ("plan", "migrate"):
        error = fleet.play(playbook, instance="web", target_host="kvm2").refused()
        assert "kvm2: ConflictFilter: the TCP port 5911 belongs to db" in error
        assert "1. name a host that has none of this (target_host)" in error
        assert "2. give one of both another port, or let libvirt choose it" in error

    lab["kvm2"].virsh("undefine", "db")
    listener = 'import socket, time; s = socket.create_server(("127.0.0.1", 5911)); time.sleep(600)'
    lab["kvm2"].sh(f"setsid python3 -c '{listener}' >/dev/null 2>&1 & echo $! >/tmp/taken")
    try:
        error = fleet.play("plan", instance="web", target_host="kvm2").refused()
        assert "the TCP port 5911 belongs to a process of this host" in error
    finally:
        lab["kvm2"].sh("kill $(cat /tmp/taken); rm /tmp/taken")
        lab["kvm2"].sh(f"rm {guests.made['db'].disk}")
    assert (guest.hosts, guest.xml, guest.look().boot_id) == (["kvm1"], definition, boot_id)


def test_of_two_guests_with_one_port_that_move_at_once_one_gets_it(lab: Lab, fleet: Fleet, guests: Guests) -> None:
    """Both were planned while nobody at the destination had it."""
    for name in ("web", "app"):
        guests.create(name, "kvm1", start=False)
        add_devices(lab["kvm1"], name, VNC)
    fleet.vars.update(QUICK)

    def another() -> None:
        assert play_to_death(fleet, SWITCH, "migrate", instance="app", target_host="kvm2")

    run = play_and_meddle(fleet, CLAIM, another, "migrate", instance="web", target_host="kvm2")
    assert "the TCP port 5911 belongs to app, which is on its way here" in run.refused()
    assert guests.made["web"].hosts == ["kvm1"]
    fleet.play("recover", instance="app").ok()
    assert (guests.made["app"].hosts, guests.made["web"].hosts) == (["kvm1"], ["kvm1"])
