# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A console that is written into a file: what was said before a move is there after it, and the guest goes on."""

from __future__ import annotations

import pytest
from support.console import LOG, said, say
from support.faults import Subject
from support.fleet import Fleet
from support.guest import Guests
from support.lab import IMAGES, Lab

ELSEWHERE = "/var/log/consoles/web.log"


@pytest.mark.slow
def test_the_log_of_a_console_goes_on_at_the_destination(lab: Lab, fleet: Fleet, guests: Guests) -> None:
    """A revert goes back to that of the switch and leaves none."""
    guest, source, destination = guests.create("web", "kvm1"), lab["kvm1"], lab["kvm2"]
    destination.sh(f"rm -f {LOG}")
    subject = Subject(lab, guest, guest.write())
    say(guest, "one")
    assert f"carry log_file {LOG}" in fleet.play("plan", instance="web", target_host="kvm2").ok().said
    fleet.play("migrate", instance="web", target_host="kvm2").ok()
    assert subject.runs_once_with_its_data() == "kvm2"
    say(guest, "two")
    assert (said(source), said(destination)) == (["one"], ["one", "two"])
    fleet.play("revert", instance="web").ok()
    say(guest, "three")
    assert (said(source), destination.exists(LOG)) == (["one", "three"], False)


@pytest.mark.slow
def test_after_a_way_there_and_back_nothing_of_a_log_is_missing(lab: Lab, fleet: Fleet, guests: Guests) -> None:
    guest, source, destination = guests.create("web", "kvm1"), lab["kvm1"], lab["kvm2"]
    destination.sh(f"rm -f {LOG}")
    say(guest, "one")
    for name, word in (("kvm2", "two"), ("kvm1", "three")):
        fleet.play("migrate", instance="web", target_host=name).ok()
        say(guest, word)
        fleet.play("confirm", instance="web").ok()
    assert (said(destination), said(source)) == (["one", "two"], ["one", "two", "three"])
    destination.sh(f"rm -f {LOG}")


@pytest.mark.slow
def test_a_directory_of_logs_has_to_be_there(lab: Lab, fleet: Fleet, guests: Guests) -> None:
    """And to be one that was named; a guest that is off takes a log along that its next start empties."""
    guest, source, destination = guests.create("web", "kvm1", start=False), lab["kvm1"], lab["kvm2"]
    definition = source.virsh("dumpxml", "--inactive", "web").replace(LOG, ELSEWHERE).replace(" append='on'", "")
    source.sh(f"cat >/tmp/web.xml <<'END'\n{definition}\nEND\nvirsh -q define /tmp/web.xml; mkdir /var/log/consoles && echo said one >{ELSEWHERE}")
    try:
        assert "add its directory to kvmfleet_image_directories" in fleet.play("migrate", instance="web", target_host="kvm2").refused()
        fleet.vars["kvmfleet_image_directories"] = [IMAGES, "/var/log/consoles"]
        assert "the directory /var/log/consoles does not exist here" in fleet.play("migrate", instance="web", target_host="kvm2").refused()
        destination.sh("mkdir /var/log/consoles")
        fleet.play("migrate", instance="web", target_host="kvm2").ok()
        assert (guest.hosts, said(destination, ELSEWHERE)) == (["kvm2"], ["one"])
        fleet.play("revert", instance="web").ok()
        assert (guest.hosts, destination.sh("ls -A /var/log/consoles"), said(source, ELSEWHERE)) == (["kvm1"], "", ["one"])
    finally:
        for host in (source, destination):
            host.sh("rm -rf /var/log/consoles")
