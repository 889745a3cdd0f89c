# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A move finds its way where tools are missing, and says which it took."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator

import pytest
from support.faults import QUICK, Subject, one_paragraph
from support.fleet import Fleet
from support.guest import Guests
from support.lab import STATE, Host, Lab

MIB = 2**20
MOVE = {"instance": "web", "target_host": "kvm2", **QUICK}


@contextlib.contextmanager
def without(host: Host, *tools: str) -> Iterator[None]:
    """Tools that a host has not got."""
    paths = [host.sh(f"readlink -f $(command -v {tool})") for tool in tools]
    for path in paths:
        host.run("mount", "--bind", "/dev/null", path)
    try:
        yield
    finally:
        for path in paths:
            host.run("umount", path)


def test_without_nbdkit_and_nbdcopy_the_tools_of_qemu_do_it(lab: Lab, guests: Guests, fleet: Fleet, capsys: pytest.CaptureFixture[str]) -> None:
    """The result and both journals name them; the limit holds; nothing is open afterwards."""
    guest = guests.create("web", "kvm1")
    subject = Subject(lab, guest, guest.write(24))
    with without(lab["kvm1"], "nbdkit"), without(lab["kvm2"], "nbdcopy"):
        said = fleet.play("prepare_host", prepare_host_install=False).ok().said
        assert "no nbdkit (QEMU serves the channel)" in said
        assert "no nbdcopy (qemu-img copies)" in said
        migration = fleet.play("migrate", migrate_bandwidth_limit="4M", **MOVE).ok().migration
        assert not lab["kvm1"].sh(f"ls {STATE}/exports; ps -eo comm= | grep qemu-storage", check=False)
    assert (migration["transport"], migration["copied_by"]) == ("qemu-nbd", "qemu-img")
    assert lab["kvm1"].records()[-1]["transport"] == "qemu-nbd"
    record = lab["kvm2"].records()[-1]
    assert record["copied_by"] == "qemu-img"
    rate = migration["overlay_bytes"] / (record["timings"]["copied_at"] - record["timings"]["began_at"]) / MIB
    with capsys.disabled():
        print(f"\n{migration['overlay_bytes'] / MIB:.0f} MiB by QEMU's tools at {rate:.2f} MiB/s, limit 4")
    assert 2.5 < rate < 4.5
    assert subject.runs_once_with_its_data() == "kvm2"
    fleet.play("revert", instance="web", **QUICK).ok()
    subject.as_before()


def test_with_nothing_to_serve_the_copy_the_guest_is_not_touched(lab: Lab, guests: Guests, fleet: Fleet) -> None:
    guest = guests.create("web", "kvm1")
    subject = Subject(lab, guest, guest.write())
    boot_id = subject.boot_id
    with without(lab["kvm1"], "nbdkit"):
        one_paragraph(fleet.play("migrate", migrate_transport="nbdkit", **MOVE), "No nbdkit is installed", "as before")
        with without(lab["kvm1"], "qemu-storage-daemon"):
            assert re.search("missing command: nbdkit, or qemu-storage-daemon", fleet.play("prepare_host", prepare_host_install=False).refused())
            one_paragraph(fleet.play("migrate", **MOVE), "No nbdkit nor qemu-storage-daemon is installed", "as before")
    subject.is_untouched(boot_id)
