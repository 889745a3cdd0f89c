# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reading the kernel's counters, and what a host's processes took of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from ansible_collections.kvmfleet.compute.bench.move.meters import HEADERS, Busy, Process, Traffic, busy_share, spent

STAT = "4711 ({name}) S 1 4711 4711 0 -1 4194560 1 2 3 4 {user} {system} {children_user} {children_system} 20 0 1 0 77 1 1 1"


def process(name: str, own: float, children: float = 0.0) -> Process:
    return Process(name, own, children)


def test_what_is_sent_is_what_the_cable_received_without_the_headers(tmp_path: Path) -> None:
    for name, value in {"rx_bytes": 10_000, "rx_packets": 10, "tx_bytes": 3_000, "tx_packets": 5}.items():
        (tmp_path / name).write_text(f"{value}\n")
    traffic = Traffic.read(tmp_path)
    assert (traffic.sent, traffic.received) == (10_000 - 10 * HEADERS, 3_000 - 5 * HEADERS)
    assert traffic.since(Traffic(4_000, 4, 1_000, 1)) == Traffic(6_000, 6, 2_000, 4)


@pytest.mark.parametrize("name", ["bash", "a (b) c", "1 2 3) S 4"])
def test_the_name_of_a_process_may_hold_anything(name: str) -> None:
    found = Process.parse(STAT.format(name=name, user=100, system=50, children_user=7, children_system=3))
    assert found.name == name
    assert found.own == pytest.approx(15 * found.children)


def test_a_guest_is_known_by_the_beginning_of_its_name() -> None:
    assert process("qemu-system-x86", 1).is_guest
    assert not process("qemu-img", 1).is_guest


def test_time_of_the_dead_is_in_their_parents_account() -> None:
    """sshd's child, which had taken 2 s, ended after 3 s; a new one took 1 s so far."""
    before = {1: process("init", 1, 10), 2: process("sshd", 5), 3: process("scp", 2)}
    after = {1: process("init", 1, 10), 2: process("sshd", 5.5, 3), 4: process("scp", 1)}
    assert spent(before, after, {}) == pytest.approx(0.5 + 1 + 1)


def test_guests_do_not_count_whether_they_run_end_or_start() -> None:
    """One ended after 30 s, which its host's first process has now; one went on; one is new."""
    before = {1: process("init", 1), 7: process("qemu-system-x86", 28), 8: process("qemu-system-x86", 100)}
    after = {1: process("init", 2, 30), 8: process("qemu-system-x86", 150), 9: process("qemu-system-x86", 4)}
    assert spent(before, after, {7: 30, 8: 150, 999: 12}) == pytest.approx(1)


def test_how_busy_the_processors_were() -> None:
    samples = [Busy(at, idle=10 * at, total=40 * at) for at in range(10)]
    assert busy_share(samples, 2, 6) == pytest.approx(0.75)
    assert busy_share(samples, 3.1, 3.2) is None
    assert Busy.parse(5.0, "cpu  10 1 20 300 40 5 6 7 99 99\ncpu0 1 2 3\n") == Busy(5.0, 340, 389)
