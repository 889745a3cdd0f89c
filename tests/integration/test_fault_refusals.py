# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What cannot be done is refused in one paragraph that names what, where and the value, before anything is touched."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from lab.bases import DEFAULT_NAME
from support.definition import add_devices
from support.faults import Subject, impatient, never_read, one_paragraph
from support.fleet import Fleet, Run
from support.guest import Guests
from support.lab import IMAGES, STATE, Lab

RESIZE = {"instance": "web", "flavor": "large"}
PLANTED, DATA_FILE, LINKED = "/root/kvmfleet-secret", "/root/kvmfleet-data.raw", "/root/kvmfleet-linked"
_OVERLAY = "qemu-img create -q -f qcow2 -F qcow2"
HOSTILE = {
    "metacharacters": "web;touch /tmp/owned",
    "substitution": "$(touch /tmp/owned)",
    "template": "{{ lookup('pipe', 'touch /tmp/owned') }}",
    "space": "web 1",
    "newline": "web\nweb2",
    "path": "../web",
    "inner path": "a/../../web",
    "option": "-web",
    "long": "w" * 129,
}

ONE_AFTER_THE_OTHER = """
- name: Gather the state of the fleet
  ansible.builtin.import_playbook: kvmfleet.compute.gather

- name: Ask for one thing after the other
  hosts: localhost
  gather_facts: false
  become: true
  tasks:
    - name: Ask for each
      ansible.builtin.include_tasks: one.yml
      loop: "{{ cases }}"
      loop_control: {loop_var: case, label: "{{ case.title }}"}

    - name: Hand on what was answered
      ansible.builtin.set_stats:
        data: {answers: "{{ answers }}"}
"""
ONE = """
- name: Ask
  block:
    - name: Ask for a resize
      ansible.builtin.include_role:
        name: kvmfleet.compute.resize
      vars:
        resize_instance: "{{ case.instance }}"
        resize_flavor: "{{ case.flavor }}"
        resize_flavors: "{{ case.flavors }}"
        resize_target_host: "{{ case.target_host }}"
        resize_zone: "{{ case.zone }}"
        resize_allow_resize_to_same_host: false

    - name: It was accepted
      ansible.builtin.set_fact:
        answers: "{{ answers | default({}) | combine({case.title: 'ACCEPTED'}) }}"
  rescue:
    - name: It was refused
      ansible.builtin.set_fact:
        answers: "{{ answers | default({}) | combine({case.title: ansible_failed_result.msg}) }}"
"""


HOSTILE_NAMES = [("instance", title) for title in HOSTILE]
HOSTILE_NAMES += [(field, title) for field in ("flavor", "zone", "target_host") for title in ("metacharacters", "template", "newline")]


def ask(fleet: Fleet, cases: dict[str, dict[str, Any]]) -> dict[str, str]:
    """The answer to each request, in one playbook, since most of a run's time is gathering."""
    playbook = fleet.directory / "cases.yml"
    playbook.write_text(ONE_AFTER_THE_OTHER)
    (fleet.directory / "one.yml").write_text(ONE)
    given = {"flavors": fleet.flavors, "target_host": "", "zone": "", **RESIZE}
    listed = [{"title": title, **given, **case} for title, case in cases.items()]
    (fleet.directory / "cases.json").write_text(yaml.safe_dump({"cases": _unsafe(listed)}))
    return fleet.play(playbook, "-e", f"@{fleet.directory / 'cases.json'}").ok().stats["answers"]


class _Unsafe(str):
    """A string that Ansible must not take for a template."""


yaml.SafeDumper.add_representer(_Unsafe, lambda dumper, text: dumper.represent_scalar("!unsafe", str(text)))


def _unsafe(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _unsafe(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [_unsafe(entry) for entry in value]
    return _Unsafe(value) if isinstance(value, str) else value


def wrong(answers: dict[str, str], expected: dict[str, list[str]]) -> str:
    """The answers that lack a part, run over more than a few lines, or show the inside of the program."""
    found = []
    for title, parts in expected.items():
        answer = answers[title]
        missing = [part for part in parts if part not in answer]
        if missing or len(answer.splitlines()) > 12 or any(word in answer for word in ("Traceback", "object has no", "is undefined", "<class")):
            found.append(f"{title}: {missing} not in: {answer}")
    return "\n".join(found)


@pytest.mark.whole_fleet
def test_requests_that_make_no_sense(lab: Lab, guests: Guests, fleet: Fleet) -> None:
    """Field and value are named; the guest has not noticed; nothing was executed."""
    guest = guests.create("web", "kvm1", flavor="medium")
    subject = Subject(lab, guest, guest.write())
    boot_id = subject.boot_id
    medium = fleet.flavors["medium"]
    flavors = {
        "fewer vcpus": {"vcpus": 1},
        "less ram": {"ram": 383},
        "smaller disk": {"disk": 1},
        "fraction": {"vcpus": 2.5},
        "words": {"ram": "plenty"},
        "negative": {"ram": -512},
        "zero": {"vcpus": 0},
        "boolean": {"vcpus": True},
        "null": {"ram": None},
        "list": {"ram": [512]},
        "unknown key": {"cores": 4},
        "extra specs": {"extra_specs": True},
    }
    cases: dict[str, dict[str, Any]] = {title: {"flavor": "odd", "flavors": {"odd": {**medium, **change}}} for title, change in flavors.items()}
    cases |= {
        "missing ram": {"flavor": "odd", "flavors": {"odd": {"vcpus": 2, "disk": 2}}},
        "flavor is a number": {"flavor": "odd", "flavors": {"odd": 7}},
        "no flavors": {"flavors": {}},
        "unknown flavor": {"flavor": "gigantic"},
        "unknown instance": {"instance": "nobody"},
        "unknown target": {"target_host": "kvm99"},
        "unknown zone": {"zone": "west"},
    }
    cases |= {f"{field} {title}": {field: HOSTILE[title]} for field, title in HOSTILE_NAMES}
    cases |= {"empty instance": {"instance": ""}, "empty flavor": {"flavor": ""}}
    answers = ask(fleet, cases)
    expected = {title: [] for title in cases} | {
        "fewer vcpus": ["vcpus", "1 vCPU", "2 vCPU", "web"],
        "less ram": ["ram", "383 MiB", "384 MiB", "web"],
        "smaller disk": ["disk", "1 GiB", "2147483648", "web"],
        "fraction": ["odd.vcpus", "2.5"],
        "words": ["odd.ram", "plenty"],
        "negative": ["odd.ram", "-512"],
        "zero": ["odd.vcpus", "0"],
        "boolean": ["odd.vcpus", "True"],
        "null": ["odd.ram", "nothing"],
        "list": ["odd.ram", "[512]"],
        "unknown key": ["odd", "cores"],
        "extra specs": ["odd.extra_specs", "True"],
        "missing ram": ["odd.ram"],
        "flavor is a number": ["odd", "7"],
        "no flavors": ["kvmfleet_flavors"],
        "unknown flavor": ["'gigantic'", "large", "medium", "small"],
        "unknown instance": ["'nobody'", "kvm1, kvm2, kvm3, kvm4"],
        "unknown target": ["target_host", "'kvm99'", "kvm1, kvm2, kvm3, kvm4"],
        "unknown zone": ["zone west", "north, south"],
        "empty instance": ["instance"],
        "empty flavor": ["flavor"],
    }
    expected |= {f"{field} {title}": [field, HOSTILE[title].split("\n")[0][:40]] for field, title in HOSTILE_NAMES}
    assert [title for title, answer in answers.items() if answer == "ACCEPTED"] == []
    assert wrong(answers, expected) == ""
    assert not Path("/tmp/owned").exists()
    assert not any(host.exists("/tmp/owned") for host in lab.hosts.values())
    subject.is_untouched(boot_id)


@pytest.mark.whole_fleet
def test_an_inventory_that_is_not_a_fleet(lab: Lab, guests: Guests, fleet: Fleet, tmp_path: Path) -> None:
    """No group compute, hosts left out, no flavors at all."""
    guest = guests.create("web", "kvm1")
    subject = Subject(lab, guest, "")
    boot_id = subject.boot_id
    no_group = tmp_path / "no_group.yml"
    no_group.write_text(yaml.safe_dump({"hypervisors": {"hosts": fleet.hosts, "vars": fleet.vars}}))
    one_paragraph(_on_other_inventory(fleet, no_group), "group 'compute'")
    one_paragraph(fleet.play("resize", "--limit", "kvm1,localhost", **RESIZE), "kvm2, kvm3, kvm4", "--limit")
    del fleet.vars["kvmfleet_flavors"]
    one_paragraph(fleet.play("resize", **RESIZE), "kvmfleet_flavors")
    subject.is_untouched(boot_id)


def _on_other_inventory(fleet: Fleet, inventory: Path) -> Run:
    original, fleet.inventory = fleet.inventory, lambda: inventory
    try:
        return fleet.play("resize", **RESIZE)
    finally:
        fleet.inventory = original


@pytest.mark.invariant(6)
def test_guests_that_cannot_be_moved(lab: Lab, guests: Guests, fleet: Fleet) -> None:
    """Each stays exactly as it is: definition, state and files."""
    host = lab["kvm1"]
    device = "<filesystem type='mount'><source dir='/srv'/><target dir='srv'/></filesystem>"
    names = ["paused", "sharing", "secrets", "planted", "linked", "outside", "datafile", "database", "luks", "twin"]
    for name in names:
        guests.create(name, "kvm1", start=False)
    disk = {name: f"{IMAGES}/{name}.qcow2" for name in names}
    host.virsh("start", "paused")
    host.virsh("suspend", "paused")
    add_devices(host, "sharing", device)
    host.sh(f"qemu-img rebase -u -f qcow2 -F raw -b /etc/shadow {disk['secrets']}")
    host.sh(f"qemu-img rebase -u -f qcow2 -F raw -b {PLANTED} {disk['planted']}")
    host.sh(f"echo secret >{LINKED} && ln -sf {LINKED} {disk['linked']}")  # which libvirt reads when it is asked for the size of the disk
    host.sh(f"qemu-img create -q -f qcow2 /tmp/base.qcow2 1G && qemu-img rebase -u -f qcow2 -F qcow2 -b /tmp/base.qcow2 {disk['outside']}")
    host.sh(f"cd {IMAGES} && rm {disk['datafile']} && qemu-img create -q -f qcow2 -o data_file={DATA_FILE} {disk['datafile']} 1G")
    host.sh(f"cd {IMAGES}/base && qemu-img create -q -f qcow2 -o data_file={DATA_FILE} data.qcow2 1G && chmod 444 data.qcow2")
    host.sh(f"qemu-img rebase -u -f qcow2 -F qcow2 -b {IMAGES}/base/data.qcow2 {disk['database']}")
    encryption = "--object secret,id=s,data=x -o encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=10"
    # qemu-img measures how fast the processor is, and gives up where the clock of its own processor time has not moved.
    create = f"{_OVERLAY} -b base/kvmfleet-guest.qcow2 {encryption} luks.qcow2"
    host.sh(f"cd {IMAGES} && rm luks.qcow2 && for try in 1 2 3 4 5; do {create} && exit; rm -f luks.qcow2; done; exit 1")
    lab["kvm2"].sh(f"cat >/tmp/twin.xml <<'END'\n{host.virsh('dumpxml', '--inactive', 'twin')}\nEND\nvirsh --quiet define /tmp/twin.xml")
    try:
        contents = f"virsh list --all; sha256sum {' '.join(path for name, path in disk.items() if name not in ('paused', 'linked'))}"
        before = host.sh(contents)
        with never_read([host], PLANTED), never_read([host], DATA_FILE):
            answers = ask(fleet, {name: {"instance": name} for name in names})
        assert host.sh(contents) == before
    finally:
        lab["kvm2"].virsh("undefine", "twin", check=False)
        host.sh(f"rm -f /tmp/base.qcow2 {LINKED} {IMAGES}/base/data.qcow2; virsh destroy paused", check=False)
    expected = {
        "paused": ["paused", "kvm1", "running or shut off"],
        "sharing": ["sharing", "kvm1", "filesystem mount"],
        "secrets": ["secrets", "kvm1", "/etc/shadow"],
        "planted": ["planted", "kvm1", PLANTED],
        "linked": ["linked", "kvm1", disk["linked"], "symbolic link", LINKED],
        "outside": ["outside", "kvm1", "/tmp/base.qcow2"],
        "datafile": ["datafile", "kvm1", "data"],
        "database": ["database", "kvm1", f"{IMAGES}/base/data.qcow2", "data"],
        "luks": ["luks", "kvm1", "encrypted"],
        "twin": ["twin", "2 hosts", "kvm1", "kvm2"],
    }
    assert wrong(answers, expected) == ""
    assert not [record for host in lab.hosts.values() for record in host.records() if record["instance_name"] in names]


def test_links_that_wait_at_the_destination(lab: Lab, guests: Guests, fleet: Fleet) -> None:
    """Where the disk would come to lie, where its base would, or instead of the directory of bases: nothing is written or read through them."""
    guests.create("web", "kvm1", start=False)
    host = lab["kvm2"]
    lab.call("base", "remove", DEFAULT_NAME, "--host", "kvm2", check=False)  # guests of other tests bring it there, and then nothing is fetched
    base = f"{IMAGES}/_base/{lab['kvm1'].sha256(f'{IMAGES}/base/kvmfleet-guest.qcow2')}.qcow2"
    host.sh(f"mkdir -p {STATE}/host && echo '{json.dumps({'digits': '0badcafe', 'schema_version': 1})}' >{STATE}/host/identity.json")
    for planted in (f"{IMAGES}/web.qcow2", f"{base}.0badcafe.part", f"{IMAGES}/_base"):
        with never_read([host], PLANTED):
            host.sh(f"mkdir -p $(dirname {planted}) && ln -s {PLANTED} {planted}")
            answer = one_paragraph(fleet.resize("web", "large"), "web", "kvm2", planted)
            assert host.sh(f"readlink {planted} && rm {planted} && rm -rf {IMAGES}/_base") == PLANTED, answer


@pytest.mark.whole_fleet
def test_hosts_that_are_gone(lab: Lab, guests: Guests, fleet: Fleet) -> None:
    """Bystanders without libvirt or power do not hinder; what only they may hold is answered with their names."""
    impatient(lab, fleet)
    guest = guests.create("web", "kvm1")
    subject = Subject(lab, guest, guest.write())
    guests.create("lonely", "kvm3", start=False)
    lab.call("host", "stop-service", "kvm3", "libvirtd")
    lab.call("host", "kill", "kvm4")
    try:
        toward = {host: {"target_host": host, "zone": "any"} for host in ("kvm3", "kvm4")}
        answers = ask(fleet, {"lonely": {"instance": "lonely"}, "to the mute": toward["kvm3"], "to the dead": toward["kvm4"]})
        moved = fleet.resize("web", "large").ok().migration
        fleet.play("confirm", instance="web").ok()
    finally:
        lab.call("host", "start", "kvm4")
        lab.call("host", "start-service", "kvm3", "libvirtd")
    expected = {"lonely": ["'lonely'", "kvm3", "libvirt", "kvm4", "kvm1, kvm2"], "to the dead": ["kvm4"], "to the mute": ["kvm3", "libvirt"]}
    assert wrong(answers, expected) == ""
    assert moved["destination"] == "kvm2"
    assert subject.runs_once_with_its_data() == "kvm2"


def test_a_guest_that_ignores_its_shutdown(lab: Lab, guests: Guests, fleet: Fleet) -> None:
    """fail leaves it running and undoes the rest; destroy cuts its power and moves it."""
    guest = guests.create("web", "kvm1")
    subject = Subject(lab, guest, guest.write())
    guest.exec("touch", "/run/ignore-shutdown")
    boot_id = subject.boot_id
    stubborn = {"migrate_shutdown_timeout": 4, "migrate_shutdown_retry_interval": 2}
    one_paragraph(fleet.resize("web", "large", **stubborn), "web", "4 s", "and runs. Should it follow later, libvirt restarts it", "as before", "kvm1")
    subject.is_untouched(boot_id)
    moved = fleet.resize("web", "large", **stubborn, migrate_on_shutdown_timeout="destroy").ok().migration
    assert moved["stopped_by"] == "destroy"
    fleet.play("confirm", instance="web").ok()
    assert subject.runs_once_with_its_data() == "kvm2"
