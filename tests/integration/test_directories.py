# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tools that give each guest a directory of its own, below one that all hosts have."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Iterator

import pytest
from support.definition import edited, replace
from support.faults import QUICK, SWITCH, Subject, play_to_death
from support.fleet import Fleet
from support.guest import Guest, Guests
from support.lab import IMAGES, Host, Lab

INSTANCES = f"{IMAGES}/instances"
CLOUD = "/var/opt/shakenfist"
BASE = "golden"


def uuid_of(guest: Guest) -> str:
    return guest.host.virsh("domuuid", guest.name)


def look(host: Host, directory: str) -> str:
    """Owner and mode, or nothing where there is no such directory."""
    return host.sh(f"[ ! -d {directory} ] || stat -c '%U:%G %a' {directory}")


@pytest.fixture
def subject(lab: Lab, guests: Guests) -> Iterator[Subject]:
    """A guest that runs on kvm1 and whose disk lies in a directory of its own."""
    guest, host = guests.create("web", "kvm1", start=False), lab["kvm1"]
    directory = f"{INSTANCES}/{uuid_of(guest)}"
    host.sh(f"mkdir -p {directory} && chown libvirt-qemu:kvm {directory} && chmod 2771 {directory} && mv {guest.disk} {directory}/disk")
    replace(host, "web", guest.disk, f"{directory}/disk")
    host.virsh("start", "web")
    yield Subject(lab, guest.wait(), guest.write())
    guests.delete_all()
    for host in lab.hosts.values():
        host.sh(f"rm -rf {INSTANCES}")


def test_a_directory_for_each_guest(lab: Lab, fleet: Fleet, subject: Subject) -> None:
    """It is there with owner and mode where the guest is, gone where it has left for good, and what an administrator made stays."""
    guest, (kvm1, kvm2) = subject.guest, (lab["kvm1"], lab["kvm2"])
    directory = f"{INSTANCES}/{uuid_of(guest)}"
    run = fleet.play("migrate", instance="web", target_host="kvm2").ok()
    assert f"directory made for the guest: {INSTANCES} (root:root, 0755)" in run.said
    assert f"directory made for the guest: {directory} (libvirt-qemu:kvm, 2771)" in run.said
    assert (subject.runs_once_with_its_data(), guest.disk_paths) == ("kvm2", [f"{directory}/disk"])
    for host in (kvm1, kvm2):
        assert [look(host, path) for path in (INSTANCES, directory)] == ["root:root 755", "libvirt-qemu:kvm 2771"]

    fleet.play("revert", instance="web").ok()
    assert (subject.runs_once_with_its_data(), look(kvm2, INSTANCES)) == ("kvm1", "")

    fleet.play("migrate", instance="web", target_host="kvm2").ok()
    fleet.play("confirm", instance="web").ok()
    assert (subject.runs_once_with_its_data(), look(kvm1, directory), look(kvm1, INSTANCES)) == ("kvm2", "", "root:root 755")


@pytest.mark.slow
def test_a_directory_that_an_operation_made_goes_with_the_guest(lab: Lab, fleet: Fleet, subject: Subject) -> None:
    """There for good, and home for good: the host that it was lent to has none of its directories then."""
    directory = f"{INSTANCES}/{uuid_of(subject.guest)}"
    for host in ("kvm2", "kvm1"):
        fleet.play("migrate", instance="web", target_host=host).ok()
        fleet.play("confirm", instance="web").ok()
        assert subject.runs_once_with_its_data() == host
    assert (look(lab["kvm1"], directory), look(lab["kvm2"], INSTANCES)) == ("libvirt-qemu:kvm 2771", "")


@pytest.mark.parametrize("before", [SWITCH, pytest.param("Prepare | Look for each base image at the destination, by content", marks=pytest.mark.slow)])
def test_an_undone_run_leaves_no_directory(lab: Lab, fleet: Fleet, subject: Subject, before: str) -> None:
    assert play_to_death(fleet, before, "migrate", instance="web", target_host="kvm2", **QUICK)
    assert look(lab["kvm2"], INSTANCES) == "root:root 755"
    fleet.play("recover", instance="web", **QUICK).ok()
    subject.as_before()
    assert look(lab["kvm2"], INSTANCES) == ""


@pytest.fixture
def cloud(lab: Lab, guests: Guests) -> Iterator[Guest]:
    """A guest as Shaken Fist makes them, with UEFI variables beside: odd names, and all of it in directories that the other host has not."""
    lab.call("base", "put", BASE, "--host", "kvm1")
    guest, host = guests.create("web", "kvm1", "--base", BASE, "--firmware", "uefi", start=False), lab["kvm1"]
    uuid, base = uuid_of(guest), f"{CLOUD}/image_cache/.v001.qcow2.8G"
    disk, variables = f"{CLOUD}/instances/{uuid}/vda", f"{CLOUD}/nvram/{uuid}/sf:VARS.fd"
    for one in (host, lab["kvm2"]):
        one.sh(f"mkdir -p {CLOUD}")
    host.sh(f"cd {CLOUD} && mkdir -p image_cache instances/{uuid} nvram/{uuid} && mv {guest.disk} {disk} && mv {IMAGES}/base/{BASE}.qcow2 {base}")
    host.sh(f"qemu-img rebase -u -f qcow2 -F qcow2 -b {base} {disk} && chmod 711 {CLOUD}/nvram/{uuid}")
    replace(host, "web", guest.disk, disk)
    with edited(host, "web") as root:
        system = root.find("os")
        assert system is not None
        nvram = system.find("nvram")
        (ET.SubElement(system, "nvram") if nvram is None else nvram).text = variables
    host.virsh("domrename", "web", f"sf:{uuid}")
    del guests.made["web"]
    guests.made[f"sf:{uuid}"] = Guest(lab, f"sf:{uuid}")
    host.virsh("start", f"sf:{uuid}")
    yield guests.made[f"sf:{uuid}"].wait()
    guests.delete_all()
    for one in (host, lab["kvm2"]):
        one.sh(f"rm -rf {CLOUD}")


def test_a_guest_of_another_cloud_with_odd_names(lab: Lab, fleet: Fleet, cloud: Guest) -> None:
    """There, back, and there for good: the base comes to the store by its content, the firmware variables to a directory of their own."""
    fleet.vars["kvmfleet_image_directories"] = [IMAGES, CLOUD]
    subject, (kvm1, kvm2) = Subject(lab, cloud, cloud.write()), (lab["kvm1"], lab["kvm2"])
    uuid, before = uuid_of(cloud), cloud.disk_paths
    content = kvm1.sha256(f"{CLOUD}/image_cache/.v001.qcow2.8G")
    made = [f"{CLOUD}/instances", f"{CLOUD}/instances/{uuid}", f"{CLOUD}/nvram", f"{CLOUD}/nvram/{uuid}"]

    run = fleet.play("migrate", instance=cloud.name).ok()
    assert re.findall(r"directory made for the guest: (\S+) ", run.said) == made
    assert (subject.runs_once_with_its_data(), cloud.disk_paths) == ("kvm2", before)
    assert f"backing file: {IMAGES}/_base/{content}.qcow2" in kvm2.run("qemu-img", "info", "-U", "-f", "qcow2", before[0])
    assert kvm2.files(f"{CLOUD}/nvram/{uuid}") == [f"{CLOUD}/nvram/{uuid}/sf:VARS.fd"]
    fleet.play("revert", instance=cloud.name).ok()
    assert (subject.runs_once_with_its_data(), kvm2.sh(f"ls -A {CLOUD}")) == ("kvm1", "")

    fleet.play("migrate", instance=cloud.name).ok()
    fleet.play("confirm", instance=cloud.name).ok()
    assert subject.runs_once_with_its_data() == "kvm2"
    assert kvm1.sh(f"cd {CLOUD} && find . -mindepth 1 | sort").split() == ["./image_cache", "./image_cache/.v001.qcow2.8G", "./instances", "./nvram"]
