# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Faults: controllers that die at a chosen point, slow and cut links, killed tools; and what must hold after any of them."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import re
import shlex
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from .fleet import Fleet, Playing, Run
from .guest import Guest
from .lab import IMAGES, Host, Lab

# A run that dies before this task leaves a sealed source, and a destination that does not define the guest.
SWITCH = "Move | Copy, verify, rebase, grow, define and start at the destination"

# A dead run is known to be dead after this many seconds; a lost host is noticed as fast.
LEASE = 3
IMPATIENT_SSH = " -o ServerAliveInterval=2 -o ServerAliveCountMax=2 -o ConnectTimeout=4"
QUICK = {"migrate_lease": LEASE, "migrate_stall_timeout": 8, "migrate_shutdown_retry_interval": 3}


def eventually(condition: Callable[[], object], what: str, timeout: float = 60) -> None:
    """Wait until a condition holds."""
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, f"not within {timeout:g} s: {what}"
        time.sleep(0.1)


@contextlib.contextmanager
def environment(**variables: str) -> Iterator[None]:
    """Variables for the playbooks that are started meanwhile."""
    os.environ.update(variables)
    try:
        yield
    finally:
        for name in variables:
            del os.environ[name]


def play_to_death(fleet: Fleet, before: str | int, playbook: str, **extra: Any) -> bool:
    """Run a playbook whose process group is killed right before the task of that name or number; False if it ended earlier.

    :param extra: extra vars.
    """
    with environment(KVMFLEET_DIE_BEFORE=str(before)):
        return fleet.play(playbook, **extra).rc == -signal.SIGKILL


class Task(NamedTuple):
    """A task of a run, and how long it took."""

    number: int
    name: str
    action: str
    seconds: float


def tasks_of(fleet: Fleet, playbook: str, **extra: Any) -> list[Task]:
    """Each task that a playbook starts, in order."""
    listing = fleet.directory / "tasks.jsonl"
    listing.unlink(missing_ok=True)
    with environment(KVMFLEET_TASKS=str(listing)):
        fleet.play(playbook, **extra).ok()
    started = [json.loads(line) for line in listing.read_text().splitlines()]
    return [Task(number, name, action, ended - at) for number, ((name, action, at), (*_next, ended)) in enumerate(itertools.pairwise(started))]


def play_and_strike(fleet: Fleet, task: Task, strike: Callable[[], None], playbook: str, **extra: Any) -> Run:
    """Run a playbook and let something happen in the middle of one of its tasks, whatever comes of it."""
    listing = fleet.directory / "tasks.jsonl"
    listing.unlink(missing_ok=True)
    with environment(KVMFLEET_TASKS=str(listing)):
        playing = fleet.start(playbook, **extra)
    while playing.process.poll() is None:
        if listing.exists() and listing.read_text().count("\n") > task.number:
            time.sleep(task.seconds / 3)  # the strike takes its time too
            strike()
            break
        time.sleep(0.02)
    return playing.wait()


def play_and_meddle(fleet: Fleet, before: str | int, meddle: Callable[[], None], playbook: str, **extra: Any) -> Run:
    """Run a playbook and let something happen right before the task of that name or number, whatever comes of it."""
    here, go_on = fleet.directory / "at-the-task", fleet.directory / "go-on"
    here.unlink(missing_ok=True)
    go_on.unlink(missing_ok=True)
    wait = shlex.join(["sh", "-c", f"touch {here}; until [ -e {go_on} ]; do sleep 0.05; done"])
    with environment(KVMFLEET_MEDDLE_BEFORE=str(before), KVMFLEET_MEDDLE_WITH=wait):
        playing = fleet.start(playbook, **extra)
    eventually(lambda: here.exists() or playing.process.poll() is not None, f"the run comes to {before}", 180)
    try:
        assert here.exists(), f"the run did not come to {before}: {playing.output}"
        meddle()
    finally:
        go_on.touch()
    return playing.wait()


def kill_modules(lab: Lab) -> None:
    """Kill the first module that runs on each host within a second; its children, such as the server of a channel, are not touched."""
    running = "$(ps -eo pid=,ppid=,args= | awk '$2 != 1 && $3 ~ /python3$/ && NF == 3 { print $1 }')"
    script = f"for _ in $(seq 20); do kill -KILL {running} 2>/dev/null && exit; sleep 0.05; done"
    with ThreadPoolExecutor(len(lab.hosts)) as pool:
        list(pool.map(lambda host: host.sh(script, check=False), lab.hosts.values()))


def impatient(lab: Lab, fleet: Fleet) -> None:
    """Let ssh give a silent host up soon; connections that an earlier test left open would not."""
    kill_ssh_masters(lab)
    fleet.vars["ansible_ssh_common_args"] += IMPATIENT_SSH


def kill_ssh_masters(lab: Lab) -> None:
    """Kill the connections that a dead controller left open."""
    for socket in (lab.directory / "ssh" / "control").glob("*"):
        check = subprocess.run(["ssh", "-o", f"ControlPath={socket}", "-O", "check", "none"], capture_output=True, text=True, check=False)
        for pid in re.findall(r"pid=(\d+)", check.stderr):
            os.kill(int(pid), signal.SIGKILL)
        with contextlib.suppress(FileNotFoundError):
            socket.unlink()


def _ip(*arguments: str) -> None:
    subprocess.run(arguments, check=True, capture_output=True)


@contextlib.contextmanager
def slow_link(host: Host, mbit: int = 40) -> Iterator[None]:
    """Limit what reaches a host."""
    cable = f"{host.lab.prefix}-{host.name}"
    _ip("tc", "qdisc", "add", "dev", cable, "root", "tbf", "rate", f"{mbit}mbit", "burst", "64k", "latency", "100ms")
    try:
        yield
    finally:
        subprocess.run(["tc", "qdisc", "del", "dev", cable, "root"], capture_output=True, check=False)


@contextlib.contextmanager
def cut_link(host: Host) -> Iterator[None]:
    """Pull a host's cable."""
    cable = f"{host.lab.prefix}-{host.name}"
    _ip("ip", "link", "set", cable, "down")
    try:
        yield
    finally:
        _ip("ip", "link", "set", cable, "up")


@contextlib.contextmanager
def hidden_from(host: Host, other: Host) -> Iterator[None]:
    """Whatever a host sends to another one gets lost, while both go on answering everybody else."""
    neighbour = f"{host.lab.inventory['compute']['hosts'][other.name]['ansible_host']} dev br0"
    host.sh(f"ip neighbour replace {neighbour} lladdr 02:00:00:00:00:01 nud permanent")
    try:
        yield
    finally:
        host.sh(f"ip neighbour delete {neighbour}", check=False)


@contextlib.contextmanager
def when_it_has_stopped(host: Host, script: str) -> Iterator[None]:
    """Run a script once on a host right after the process of a guest has ended, before libvirt tells anyone that it has."""
    hook, armed = "/etc/libvirt/hooks/qemu", "/run/when-it-has-stopped"
    text = f'#!/bin/sh\n[ "$2" = release ] && rm {armed} 2>/dev/null || exit 0\n{script}\n'
    host.sh(f"mkdir -p {os.path.dirname(hook)} && touch {armed}")
    write_files(host, {hook: text})
    host.sh(f"chmod 755 {hook}")
    _restart_libvirt(host)
    try:
        yield
    finally:
        host.sh(f"rm {hook}")
        _restart_libvirt(host)


def _restart_libvirt(host: Host) -> None:
    """It looks for hooks when it starts; guests go on running."""
    host.lab.call("host", "stop-service", host.name, "libvirtd")
    host.lab.call("host", "start-service", host.name, "libvirtd")


@contextlib.contextmanager
def never_read(hosts: Iterable[Host], path: str, text: str = "secret") -> Iterator[None]:
    """A file of these hosts that must not be read meanwhile; the file system notes the first access after a change."""
    for host in hosts:
        host.sh(f"printf %s '{text}' >{path} && touch -a -d 2001-01-01 {path}")
    try:
        yield
        for host in hosts:
            assert host.sh(f"stat --format=%x {path}").startswith("2001-01-01"), f"{path} was read on {host.name}"
            host.sh(f"cat {path}")
            assert not host.sh(f"stat --format=%x {path}").startswith("2001-01-01"), "the file system does not note an access"
    finally:
        for host in hosts:
            host.sh(f"rm -f {path}")


def in_mid_copy(host: Host, playing: Playing, mib: int = 2) -> None:
    """Wait until some of the overlay, but not all of it, has arrived at a host."""
    blocks = f"stat --format=%b {IMAGES}/*.qcow2.*.part 2>/dev/null"

    def copying() -> bool:
        assert playing.process.poll() is None, playing.output
        return int(host.sh(blocks, check=False) or 0) * 512 > mib * 2**20

    eventually(copying, f"a copy arrives at {host.name}")


def kill_tool(host: Host, name: str) -> None:
    """Kill the process of that name on a host."""
    host.sh(f"kill -KILL $(ps -eo pid=,comm= | awk '$2 == \"{name}\" {{ print $1 }}')")


def nothing_open(lab: Lab, *guests: Guest) -> None:
    """Beside these guests no claim, no open record, no export, no partial or sealed file, no process of a copy anywhere."""
    own = {line for guest in guests for line in (guest.disk, f"domain {guest.name}")}
    left = [line for line in lab.leftovers() if line.partition(": ")[2] not in own]
    assert not left, left


@dataclass
class Subject:
    """A guest that faults happen to, and what must stay true of it."""

    lab: Lab
    guest: Guest
    data: str

    @property
    def boot_id(self) -> str:
        return self.guest.exec("cat", "/proc/sys/kernel/random/boot_id")

    @property
    def running_on(self) -> list[str]:
        """Every host on which a QEMU process of the guest exists, whatever libvirt says; a dead host has none."""
        pattern = f"guest={self.guest.name},"
        return [name for name, host in self.lab.hosts.items() if pattern in host.sh("ps -eo args= | grep -- '-name guest='", check=False)]

    def runs_once_with_its_data(self) -> str:
        """Exactly one host defines it, that host runs it, nobody else does, and its data is what it was; the host."""
        hosts = self.guest.hosts
        assert len(hosts) == 1, f"defined on {hosts}"
        inside = self.guest.look()
        assert self.running_on == hosts
        assert inside.data == self.data
        return hosts[0]

    def is_untouched(self, boot_id: str, host: str = "kvm1") -> None:
        """It has not even been restarted, and no host holds anything of an operation."""
        assert self.running_on == self.guest.hosts == [host]
        assert self.boot_id == boot_id
        self.nothing_open()

    def nothing_open(self) -> None:
        """As `nothing_open`, with no other guest in the lab."""
        nothing_open(self.lab, self.guest)

    def as_before(self, host: str = "kvm1") -> None:
        """An operation failed, and left nothing but the running guest."""
        assert self.runs_once_with_its_data() == host
        self.nothing_open()


def one_paragraph(run: Run, *parts: str) -> str:
    """The error of a failed run: it names all the parts, and is no traceback."""
    error = run.refused()
    missing = [part for part in parts if part not in error]
    assert not missing, f"{missing} not in: {error}"
    assert len(error) < 2500
    assert not [word for word in ("Traceback", "is undefined") if word in error], error
    return error


def write_files(host: Host, files: dict[str, str]) -> None:
    """Write small files on a host."""
    for path, text in files.items():
        subprocess.run([*_lab_exec(host), "sh", "-c", f"cat >{path}"], input=text, text=True, check=True, capture_output=True)


def _lab_exec(host: Host) -> list[str]:
    return [str(Path(__file__).parents[3] / "script" / "lab"), "exec", host.name, "--"]
