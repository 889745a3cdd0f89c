# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Inventories as teams write them: each passes plan, resize and confirm, whatever way its hosts are reached."""

from __future__ import annotations

import contextlib
import shlex
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from lab import fleet as machines
from lab.fleet import existing_lab
from support.faults import Subject, one_paragraph
from support.fleet import Fleet
from support.guest import Guests
from support.lab import Host, Lab

INVENTORIES = Path(__file__).parent / "inventories"
PASSWORD = "correct horse"  # noqa: S105 - of an account that lives as long as a test


class Team(Fleet):
    """An inventory of files, which name the lab's hosts in words of their own."""

    def __init__(self, lab: Lab, directory: Path, name: str) -> None:
        super().__init__(lab, directory)
        variables = self.vars
        known_hosts = next(word.partition("=")[2] for word in variables["ansible_ssh_common_args"].split() if word.startswith("UserKnownHostsFile="))
        words = {"KEY": variables["ansible_ssh_private_key_file"], "SSH": variables["ansible_ssh_common_args"], "KNOWN_HOSTS": known_hosts}
        for number, host in enumerate(("kvm1", "kvm2", "kvm3"), 1):
            words[f"ADDRESS{number}"] = self.hosts[host]["ansible_host"]
            words[f"RESERVED{number}"] = self.hosts[host]["kvmfleet_reserved_host_memory_mb"]
        shutil.copytree(INVENTORIES / name, directory, dirs_exist_ok=True)
        for path in (path for path in directory.rglob("*") if path.is_file()):
            text = path.read_text()
            for word, value in {**words, "DIRECTORY": directory}.items():
                text = text.replace(f"@{word}@", str(value))
            path.write_text(text)
        self.control = variables["ansible_control_path_dir"]

    def inventory(self) -> Path:
        return self.directory / "inventory"

    def environment(self, **more: str) -> dict[str, str]:
        return super().environment(ANSIBLE_SSH_CONTROL_PATH_DIR=self.control, **more)


@contextlib.contextmanager
def nothing(_team: Team) -> Iterator[None]:
    """What most inventories need beside themselves."""
    yield


@contextlib.contextmanager
def a_key_for_each_host(team: Team) -> Iterator[None]:
    (team.directory / "keys").mkdir()
    for name in ("first", "second"):
        shutil.copy(team.vars["ansible_ssh_private_key_file"], team.directory / "keys" / name)
    yield


@contextlib.contextmanager
def a_controller_that_is_the_first_host(team: Team) -> Iterator[None]:
    """A local connection runs everything in the namespaces of that host."""
    inside = machines.host_named(existing_lab(), "kvm1").entering(["/bin/sh"])
    there = team.directory / "there"
    there.write_text(f'#!/bin/sh\nexec {shlex.join(inside)} "$@"\n')
    there.chmod(0o755)
    yield


@contextlib.contextmanager
def an_account_whose_sudo_asks(host: Host) -> Iterator[None]:
    """A user `deploy` that the lab's key opens, and that has to give a password to become root."""
    host.sh(
        "useradd --create-home --shell /bin/bash deploy && cp -a /home/operator/.ssh /home/deploy/ && chown -R deploy: /home/deploy"
        f" && echo 'deploy:{PASSWORD}' | chpasswd && echo 'deploy ALL=(ALL:ALL) ALL' >/etc/sudoers.d/deploy && chmod 440 /etc/sudoers.d/deploy"
    )
    try:
        yield
    finally:
        host.sh("pkill -u deploy; rm -f /etc/sudoers.d/deploy; userdel --remove --force deploy", check=False)


@dataclass(frozen=True)
class Case:
    """An inventory, and what is to be seen of it."""

    name: str
    source: str
    destination: str
    tunnel: bool = False
    setting: Callable[[Team], contextlib.AbstractContextManager[None]] = nothing
    secret: str = field(default="")


QUICK = [
    Case("templates", "node1.cloud.example.com", "node2.cloud.example.com", setting=a_key_for_each_host),
]
SLOW = [
    Case("ini", "hv01.dc1.example.org", "hv02.dc1.example.org"),
    Case("ssh-config", "virt-a.lab.example.net", "virt-b.lab.example.net", tunnel=True),
    Case("plugin", "kvm-ber-1", "kvm-ber-2"),
    Case("awx", "hypervisor-11", "hypervisor-12"),
    Case("jump", "inner1", "inner2", tunnel=True),
    Case("local", "alpha", "beta", setting=a_controller_that_is_the_first_host),
    Case("two-users", "east", "west", setting=lambda team: an_account_whose_sudo_asks(team.lab["kvm2"]), secret=PASSWORD),
    Case("other-roles", "blade-3", "blade-4"),
    Case("nested", "par-kvm-a", "par-kvm-b"),
]


REFUSED = """
- hosts: HOST
  gather_facts: false
  become: true
  tasks:
    - kvmfleet.compute.migration_info: {state_path: /}
"""


def test_each_inventory_is_tried() -> None:
    assert {case.name for case in (*QUICK, *SLOW)} == {path.name for path in INVENTORIES.iterdir()}


@pytest.mark.parametrize("case", [*QUICK, *(pytest.param(case, marks=pytest.mark.slow) for case in SLOW)], ids=lambda case: case.name)
def test_an_inventory_as_teams_write_it_passes_plan_resize_and_confirm(
    lab: Lab, guests: Guests, tmp_path: Path, case: Case, capsys: pytest.CaptureFixture[str]
) -> None:
    guest = guests.create("web", "kvm1", start=False)  # how its host is reached is the same for one that runs
    team = Team(lab, tmp_path, case.name)
    with case.setting(team):
        plan = team.play("plan", "-v", instance="web", flavor="medium", resize_allow_resize_to_same_host=False).ok()
        assert f"on {case.source} to flavor medium" in plan.said
        asked = tmp_path / "refused.yml"
        asked.write_text(REFUSED.replace("HOST", case.destination))
        assert f"{case.destination}: state_path: expected" in team.play(asked, "-v").output  # what calls itself kvm2
        resize = team.resize("web", "medium", "-v").ok()
        assert (resize.migration["source"], resize.migration["destination"]) == (case.source, case.destination)
        assert resize.migration["tunnel"] == case.tunnel
        assert guest.host.name == "kvm2"
        confirm = team.play("confirm", "-v", instance="web").ok()
    assert guest.defined == {name: pytest.approx(value) for name, value in team.flavors["medium"].items()}
    assert (lab["kvm1"].domains, lab["kvm2"].domains) == ([], ["web"])
    if case.secret:
        written = [path.read_text(errors="replace") for path in tmp_path.rglob("*") if path.is_file() and "inventory" not in path.parts]
        assert not [text for text in (*written, plan.output, resize.output, confirm.output) if case.secret in text]
    with capsys.disabled():
        way = "through ssh" if resize.migration["tunnel"] else "straight"
        print(f"\n{case.name}: {case.source} -> {case.destination}, {resize.migration['overlay_bytes'] / 2**20:.1f} MiB {way}")


@pytest.mark.slow
def test_an_interpreter_without_the_binding_is_named(lab: Lab, guests: Guests, fleet: Fleet) -> None:
    """As long as the system's own has it, that is taken; else facts and prepare_host say which interpreter, and which package."""
    guests.create("web", "kvm1", start=False)
    host, missing = lab["kvm1"], "The libvirt binding for Python is missing for /var/lib/plain/bin/python3: install python3-libvirt"
    host.run("python3", "-m", "venv", "--without-pip", "/var/lib/plain")
    assert "No module named 'libvirt'" in host.attempt("/var/lib/plain/bin/python3", "-c", "import libvirt").stderr
    fleet.hosts["kvm1"]["ansible_python_interpreter"] = "/var/lib/plain/bin/python3"
    extension = host.run("python3", "-c", "import libvirtmod; print(libvirtmod.__file__)")
    try:
        fleet.play("plan", instance="web", target_host="kvm2").ok()
        assert "kvm1 is not ready" not in fleet.play("prepare_host", prepare_host_install=False).ok().output
        host.run("mount", "--bind", "/dev/null", extension)
        try:
            planned = fleet.play("plan", instance="web", target_host="kvm2").refused()
            prepared = fleet.play("prepare_host", prepare_host_install=False)
        finally:
            host.run("umount", extension)
    finally:
        host.run("rm", "-rf", "/var/lib/plain")
    assert missing in planned
    assert "kvm1 is not ready" in prepared.refused()
    assert missing in prepared.refused()
    assert "kvm2 is not ready" not in prepared.output


@pytest.mark.slow
def test_a_hypervisor_that_is_known_as_localhost_is_refused_before_its_guest_stops(lab: Lab, guests: Guests, tmp_path: Path) -> None:
    """It means another machine at the other host, and ssh does not lead there either."""
    guest = guests.create("web", "kvm1")
    subject = Subject(lab, guest, guest.write())
    boot_id = subject.boot_id
    team = Team(lab, tmp_path, "local")
    hosts = team.inventory() / "hosts.yml"
    address = team.hosts["kvm1"]["ansible_host"]
    hosts.write_text(hosts.read_text().replace(f'kvmfleet_migration_address: "{address}"', "ansible_host: 127.0.0.1"))
    with a_controller_that_is_the_first_host(team):
        run = team.resize("web", "medium")
        one_paragraph(run, "127.0.0.1 means this host itself", "alpha has local", "kvmfleet_migration_address", "as before")
    subject.is_untouched(boot_id)
