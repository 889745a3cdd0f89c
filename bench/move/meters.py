# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a way costs: bytes on the cable of a host, processor time of its processes, and how busy the machine was meanwhile."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

HEADERS = 14 + 20 + 32  # Ethernet, IPv4, TCP with time stamps; what the cable counts as one packet has them once, however long it is
GUEST = "qemu-system"
_TICKS = os.sysconf("SC_CLK_TCK")
_INTERVAL = 0.02


class Traffic(NamedTuple):
    """Counters of a cable, as the machine sees them: it receives what the host sends."""

    rx_bytes: int = 0
    rx_packets: int = 0
    tx_bytes: int = 0
    tx_packets: int = 0

    @classmethod
    def read(cls, statistics: Path) -> Traffic:
        return cls(*(int((statistics / name).read_text()) for name in cls._fields))

    def since(self, before: Traffic) -> Traffic:
        return Traffic(*(now - then for now, then in zip(self, before)))

    @property
    def sent(self) -> int:
        """TCP payload that the host sent."""
        return self.rx_bytes - HEADERS * self.rx_packets

    @property
    def received(self) -> int:
        """TCP payload that came to the host."""
        return self.tx_bytes - HEADERS * self.tx_packets


class Process(NamedTuple):
    """A line of /proc/PID/stat, in seconds of processor time."""

    name: str
    own: float
    children: float  # those that have ended and were waited for, with all of theirs

    @classmethod
    def parse(cls, stat: str) -> Process:
        before, _end, after = stat.rpartition(")")
        user, system, children_user, children_system = (int(ticks) / _TICKS for ticks in after.split()[11:15])
        return cls(before.partition("(")[2], user + system, children_user + children_system)

    @property
    def is_guest(self) -> bool:
        return self.name.startswith(GUEST)


class Busy(NamedTuple):
    """What all processors of the machine have done so far, in ticks."""

    at: float
    idle: int
    total: int

    @classmethod
    def parse(cls, at: float, stat: str) -> Busy:
        ticks = [int(item) for item in stat.partition("\n")[0].split()[1:9]]
        return cls(at, ticks[3] + ticks[4], sum(ticks))


def busy_share(samples: Iterable[Busy], begin: float, end: float) -> float | None:
    """How busy the processors were between two instants, 0 to 1; None if that was too short to tell."""
    within = [sample for sample in samples if begin - _INTERVAL <= sample.at <= end + _INTERVAL]
    ticks = within[-1].total - within[0].total if within else 0
    return 1 - (within[-1].idle - within[0].idle) / ticks if ticks >= 10 else None


def processes(namespace: str) -> dict[int, Process]:
    """Every process of a host, dead ones that nobody has waited for too, by its process id on the machine."""
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                if os.readlink(entry / "ns/pid") == namespace:
                    found[int(entry.name)] = Process.parse((entry / "stat").read_text())
    return found


def spent(before: dict[int, Process], after: dict[int, Process], guests: dict[int, float]) -> float:
    """Processor time of a host between two looks, without that of its guests.

    A process that has ended is in the account of the one that waited for it, with all that it ever took.

    :param guests: what each guest's process had taken when it was last seen.
    """
    ended_guests = sum(seconds for pid, seconds in guests.items() if pid in before and pid not in after)
    return _account(after) - _account(before) - ended_guests


def _account(found: dict[int, Process]) -> float:
    return sum(process.own + process.children for process in found.values() if not process.is_guest)


@dataclass
class Meter:
    """Measures while it is entered; the figures are there afterwards."""

    cable: Path
    namespaces: list[str]
    traffic: Traffic = Traffic()
    cpu_s: float = 0.0
    samples: list[Busy] = field(default_factory=list)

    def busy(self, begin: float, end: float) -> float | None:
        return busy_share(self.samples, begin, end)

    @contextlib.contextmanager
    def running(self) -> Iterator[Meter]:
        before = [processes(namespace) for namespace in self.namespaces]
        guests = {pid: process.own + process.children for found in before for pid, process in found.items() if process.is_guest}
        traffic, done = Traffic.read(self.cable), threading.Event()
        watch = threading.Thread(target=self._watch, args=(guests, done), daemon=True)
        watch.start()
        try:
            yield self
        finally:
            done.set()
            watch.join()
            self.traffic = Traffic.read(self.cable).since(traffic)
            after = [processes(namespace) for namespace in self.namespaces]
            self.cpu_s = sum(spent(then, now, guests) for then, now in zip(before, after))

    def _watch(self, guests: dict[int, float], done: threading.Event) -> None:
        """The last that is seen of a guest that ends is what its parent's account grows by."""
        while not done.wait(_INTERVAL):
            for pid in guests:
                with contextlib.suppress(OSError):
                    process = Process.parse(Path(f"/proc/{pid}/stat").read_text())
                    if process.is_guest:
                        guests[pid] = process.own + process.children
            self.samples.append(Busy.parse(time.time(), Path("/proc/stat").read_text()))
