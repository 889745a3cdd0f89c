# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Overlays travel, bases don't (defect 2 of Nova), and a base is what it contains."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from support.fleet import Fleet
from support.guest import Guests
from support.lab import IMAGES, Lab

BASE = "golden"
STORE = f"{IMAGES}/_base"
MIB = 2**20


@pytest.fixture
def golden(lab: Lab) -> Iterator[str]:
    """A base that kvm1 alone has; kvm2 has another one of that name, one byte of which differs."""
    lab.call("base", "put", BASE, "--host", "kvm1")
    lab.call("base", "put", BASE, "--host", "kvm2", "--stamp", "goldeN")
    yield BASE
    for host in ("kvm1", "kvm2"):
        lab.call("base", "remove", BASE, "--host", host, check=False)


@pytest.mark.invariant(8)
def test_a_base_is_sent_once_and_an_overlay_costs_its_own_size(lab: Lab, fleet: Fleet, guests: Guests, golden: str, capsys: pytest.CaptureFixture[str]) -> None:
    """One guest brings the base to the store and leaves the false one alone, and the next sends nothing but what it wrote."""
    source, destination = lab["kvm1"], lab["kvm2"]
    first = guests.create("first", "kvm1", "--base", golden, start=False)
    second = guests.create("second", "kvm1", "--base", golden)
    data = second.write(64)
    false = f"{IMAGES}/base/{golden}.qcow2"
    before = destination.sha256(false)

    store = set(destination.files(STORE))
    base_bytes = source.allocated_bytes(f"{IMAGES}/base/{golden}.qcow2")
    sent = source.sent_bytes
    run = fleet.resize("first", "medium").ok()
    assert f"On kvm2 {false} is another file than the base image of that name: it is left alone" in run.said
    moved = run.migration
    assert base_bytes * 0.95 < moved["base_bytes"] <= base_bytes
    assert source.sent_bytes - sent <= 1.05 * (base_bytes + moved["overlay_bytes"]) + MIB
    (fetched,) = set(destination.files(STORE)) - store
    digest = source.sha256(f"{IMAGES}/base/{golden}.qcow2")
    assert destination.sha256(fetched) == digest
    assert digest in fetched

    sent = source.sent_bytes
    moved = fleet.resize("second", "medium").ok().migration
    sent = source.sent_bytes - sent
    (sealed,) = (path for path in source.files() if path.startswith(f"{second.disk}.sealed-"))
    allocated = source.allocated_bytes(sealed)
    with capsys.disabled():
        print(f"\noverlay: {allocated} bytes allocated, {sent} bytes sent ({sent / allocated:.3f}), downtime {moved['downtime_seconds']} s")
    assert allocated > 64 * MIB
    assert sent <= 1.05 * allocated
    assert moved["base_bytes"] == 0
    assert second.look().data == data
    assert set(destination.files(STORE)) == store | {fetched}
    for guest in (first, second):
        assert f"backing file: {fetched}" in destination.run("qemu-img", "info", "-U", "-f", "qcow2", guest.disk)
        fleet.play("confirm", instance=guest.name).ok()
    assert destination.sha256(false) == before
