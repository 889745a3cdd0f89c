# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The one-time key opens the export for one peer; nobody else sees the key or the data."""

from __future__ import annotations

import json
import re
import subprocess

import pytest
from support.faults import QUICK, Subject, in_mid_copy, slow_link
from support.fleet import Fleet
from support.guest import Guests
from support.lab import STATE, Lab


@pytest.mark.invariant(12)
def test_the_key_is_nowhere_to_be_seen(lab: Lab, guests: Guests, fleet: Fleet) -> None:
    """Not in processes, in -vvv output, in facts or in journals; without it, with another, or from another host the export is closed."""
    guest = guests.create("web", "kvm1")
    subject = Subject(lab, guest, guest.write(24))
    with slow_link(lab["kvm2"]):
        playing = fleet.start("resize", "-vvv", instance="web", flavor="medium", target_host="kvm2", **QUICK)
        in_mid_copy(lab["kvm2"], playing)
        psk = lab["kvm1"].sh(f"cat {STATE}/exports/*/keys.psk")
        user, _colon, key = psk.partition(":")
        assert re.fullmatch("[0-9a-f]{64}", key)
        processes = [lab[name].run("ps", "-eo", "args=") for name in ("kvm1", "kvm2")]
        assert all("nbd" in text for text in processes)
        modes = lab["kvm1"].sh(f"stat --format=%a {STATE} {STATE}/exports {STATE}/exports/*/keys.psk").split()
        port = json.loads(lab["kvm1"].sh(f"cat {STATE}/exports/*/state.json"))["port"]
        address = lab.inventory["compute"]["hosts"]["kvm1"]["ansible_host"]
        uri = f"nbds://{user}@{address}:{port}/vda?tls-psk-file=/tmp/psk"
        with_the_key = dict.fromkeys(("kvm2", "kvm3"), f"echo {psk} >/tmp/psk; timeout 5 nbdinfo '{uri}' 2>&1; status=$?; rm /tmp/psk; echo $status")
        let_in = {name: lab[name].sh(script, check=False).splitlines()[-1] == "0" for name, script in with_the_key.items()}
        intruders = {
            "no TLS": lab["kvm2"].sh(f"timeout 5 nbdinfo nbd://{address}:{port}/vda 2>&1; echo $?", check=False),
            "another key": lab["kvm2"].sh(f"echo {user}:{'0' * 64} >/tmp/psk; timeout 5 nbdinfo '{uri}' 2>&1; echo $?; rm /tmp/psk", check=False),
        }
        run = playing.wait().ok()
    assert let_in == {"kvm2": True, "kvm3": False}
    assert modes == ["700", "700", "600"]
    assert all(answer.splitlines()[-1] != "0" for answer in intruders.values()), intruders
    journals = [lab[name].sh(f"cat {STATE}/migrations/*") for name in ("kvm1", "kvm2")]
    assert not [text for text in [run.output, *processes, *journals] if key in text]
    assert subprocess.run(["grep", "-rl", key, str(fleet.directory)], capture_output=True, text=True, check=False).stdout == ""
    assert not any("exports" in line for name in ("kvm1", "kvm2") for line in lab[name].leftovers())
    fleet.play("revert", instance="web", **QUICK).ok()
    subject.as_before()
