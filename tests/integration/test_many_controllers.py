# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ten controllers at once, round after round, on guests and hosts that overlap: whatever each is told, no guest is lost or doubled, no host overcommitted."""

from __future__ import annotations

import contextlib
import random
import re
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterator

import pytest
from support.faults import Subject, nothing_open
from support.fleet import Fleet, Run
from support.guest import Guests
from support.lab import Host, Lab

pytestmark = pytest.mark.whole_fleet

CONTROLLERS = 10
ROUNDS = 20
LIMIT_MB = 1300
"""Room of a host: two large guests, or three small and one medium. Each of six guests is charged twice while it waits for its confirm."""
GUESTS = {"race-1": "kvm1", "race-2": "kvm1", "race-3": "kvm2", "race-4": "kvm2", "race-5": "kvm3", "race-6": "kvm4"}
STOPPED = ("race-2", "race-4")
CLOSED = ("confirmed", "reverted", "error")
VERBS = {"resize": 5, "migrate": 3, "confirm": 2, "revert": 2, "recover": 1}
SECONDS = 900
_DEFINED = "grep -h '<memory ' /etc/libvirt/qemu/*.xml 2>/dev/null || true"


def memory_mb(definitions: str) -> int:
    """The memory that the guests of these definitions may have."""
    return sum(map(int, re.findall(r"<memory unit='KiB'>(\d+)<", definitions))) // 1024


def promised_mb(host: Host) -> int:
    """Memory that guests of a host have, or get back by a revert: from what libvirt has on disk and from archived definitions, not from claims."""
    sealed = [record for record in host.records() if record["status"] == "finished" and record["source_host"] == host.name != record["destination_host"]]
    assert len(sealed) == sum(".sealed-" in path for path in host.files()), sealed
    return memory_mb(host.sh(_DEFINED)) + sum(memory_mb(record["private"]["domain_xml"]) for record in sealed)


class Watch:
    """Looks again and again at what there must never be, from outside of all hosts."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.seen: list[str] = []
        self.looks = 0
        self._end = threading.Event()

    @contextlib.contextmanager
    def looking(self) -> Iterator[None]:
        thread = threading.Thread(target=self._look_on)
        thread.start()
        try:
            yield
        finally:
            self._end.set()
            thread.join()

    def _look_on(self) -> None:
        while not self._end.wait(1):
            self.looks += 1
            self.seen += [f"{name} runs twice" for name in self._doubled() & self._doubled()]
            for name, host in self.lab.hosts.items():
                if (defined := memory_mb(host.sh(_DEFINED))) > LIMIT_MB:
                    self.seen.append(f"{defined} MiB are defined on {name}")

    def _doubled(self) -> set[str]:
        """Guests with more than one process on this machine, which all the hosts are part of."""
        processes = subprocess.run(["ps", "-eo", "args="], capture_output=True, text=True, check=True).stdout
        count = Counter(re.findall(r"^\S*qemu-system-\S+ -name guest=(race-\d),", processes, re.MULTILINE))
        return {name for name, times in count.items() if times > 1}


def order(chance: random.Random) -> tuple[str, dict[str, object]]:
    """What one controller does."""
    (verb,) = chance.choices(list(VERBS), list(VERBS.values()))
    extra: dict[str, object] = {"instance": chance.choice(list(GUESTS))}
    if verb == "resize":
        extra.update(flavor=chance.choice(["medium", "large"]), resize_allow_resize_to_same_host=chance.random() < 0.2)
    return verb, extra


def is_an_answer(run: Run) -> bool:
    """Whether a run that did not do what it was told ends with sentences for a person."""
    return bool(run.failures) and not re.search(r"Traceback|is undefined|MODULE FAILURE|Unexpected", run.error)


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_ten_controllers(lab: Lab, guests: Guests, fleet: Fleet, capsys: pytest.CaptureFixture[str]) -> None:
    """Each run ends, with what it was told to do or with an answer; in every round some succeed, and in the end every guest has been served."""
    subjects: dict[str, Subject] = {}
    for name, host in GUESTS.items():
        guest = guests.create(name, host)
        subjects[name] = Subject(lab, guest, guest.write())
    for name in STOPPED:
        subjects[name].guest.shut_down()
    used = Counter(GUESTS.values())
    for host in lab.hosts:
        fleet.hosts[host]["kvmfleet_zone"] = "north"
        fleet.free_memory(host, LIMIT_MB - 256 * used[host], used=256 * used[host])
    done: Counter[str] = Counter()
    answers: Counter[str] = Counter()
    served = set()
    watch = Watch(lab)
    began = time.monotonic()
    with watch.looking():
        for number in range(ROUNDS):
            chance = random.Random(number)  # noqa: S311
            orders = [order(chance) for _controller in range(CONTROLLERS)]
            runs = [playing.wait(SECONDS) for playing in [fleet.start(verb, **extra) for verb, extra in orders]]

            for (verb, extra), run in zip(orders, runs, strict=True):
                assert run.rc == 0 or is_an_answer(run), (number, verb, extra, run.output)
                (done if run.rc == 0 else answers)[verb] += 1
                if run.rc == 0 and run.changed:
                    served.add(extra["instance"])
            assert any(run.rc == 0 and run.changed for run in runs), (number, [run.error for run in runs])
            for name, subject in subjects.items():
                if name not in STOPPED:
                    subject.runs_once_with_its_data()
                assert len(subject.guest.hosts) == 1, (number, name)
                assert name not in STOPPED or not subject.running_on
            promised = {name: promised_mb(host) for name, host in lab.hosts.items()}
            assert max(promised.values()) <= LIMIT_MB, (number, promised)
            assert not watch.seen, (number, watch.seen)
            half_done = [record for host in lab.hosts.values() for record in host.records() if record["status"] not in (*CLOSED, "finished")]
            assert not half_done, (number, half_done)

    for name, subject in subjects.items():
        fleet.play("revert", instance=name)
        if name in STOPPED:
            subject.guest.host.virsh("start", name)
        subject.runs_once_with_its_data()
    nothing_open(lab, *(subject.guest for subject in subjects.values()))
    assert served == set(subjects)
    with capsys.disabled():
        print(
            f"\n{ROUNDS} rounds of {CONTROLLERS} controllers in {time.monotonic() - began:.0f} s: {done.total()} ended as told {dict(done)}, "
            f"{answers.total()} were told why not {dict(answers)}; {watch.looks} looks from outside"
        )
