# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hosts where QEMU may not open all that root has made: whoever takes a guest finds that out before it stops."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
from lab.packages import ensure_installed
from support.definition import add_devices, replace
from support.faults import QUICK, Subject, nothing_open, one_paragraph, write_files
from support.fleet import Fleet
from support.guest import Guests
from support.lab import IMAGES, Host, Lab

DISK = "<disk type='file' device='disk'><driver name='qemu' type='qcow2'/><source file='{path}'/><target dev='vda' bus='virtio'/></disk>"
STORE = f"{IMAGES}/_base"
THERE = {"instance": "web", "target_host": "kvm2", **QUICK}
QEMU = "libvirt-qemu:libvirt-qemu"


@contextlib.contextmanager
def keeping_files(host: Host) -> Iterator[None]:
    """A host whose libvirt gives no file to QEMU."""
    restart = (("host", "stop-service", host.name, "libvirtd"), ("host", "start-service", host.name, "libvirtd"))
    host.sh("cp -p /etc/libvirt/qemu.conf /etc/libvirt/qemu.conf.kept && echo 'dynamic_ownership = 0' >>/etc/libvirt/qemu.conf")
    for command in restart:
        host.lab.call(*command)
    try:
        yield
    finally:
        host.sh("mv /etc/libvirt/qemu.conf.kept /etc/libvirt/qemu.conf")
        for command in restart:
            host.lab.call(*command)


@contextlib.contextmanager
def letting_nobody_in(host: Host) -> Iterator[None]:
    """A host whose root makes files that nobody else may read, as hardening guides want it."""
    host.sh("echo 'Defaults umask=0077, umask_override' >/etc/sudoers.d/umask && chmod 440 /etc/sudoers.d/umask")
    try:
        yield
    finally:
        host.sh("rm /etc/sudoers.d/umask")


@contextlib.contextmanager
def squashing_root(hosts: Iterable[Host], directory: str) -> Iterator[None]:
    """A directory that these hosts share, whose server takes root for nobody."""
    server = Path(__file__).parent / "support" / "squash.py"
    ensure_installed(["python3-fusepy"])
    hosts = list(hosts)
    hosts[0].sh(f"mkdir -p {directory}.served {directory} && chown libvirt-qemu: {directory}.served")
    try:
        for host in hosts:
            write_files(host, {"/tmp/squash.py": server.read_text()})
            host.sh(f"python3 /tmp/squash.py {directory}.served {directory} </dev/null >/tmp/squash.log 2>&1")
        yield
    finally:
        for host in hosts:
            host.sh(f"umount -l {directory}; rm -f /tmp/squash.py", check=False)
        hosts[0].sh(f"rm -rf {directory}.served {directory}")


def owner(host: Host, path: str) -> str:
    return host.run("stat", "--format=%U:%G %a", path)


def test_a_host_that_gives_no_files_to_qemu_takes_a_guest_and_gives_it_back(lab: Lab, guests: Guests, fleet: Fleet) -> None:
    """What comes there belongs to QEMU, with the mode that it had."""
    guest = guests.create("web", "kvm1")
    subject = Subject(lab, guest, guest.write())
    mode = owner(lab["kvm1"], guest.disk).partition(" ")[2]
    with keeping_files(lab["kvm2"]):
        fleet.play("migrate", migrate_precopy="always", **THERE).ok()
        assert subject.runs_once_with_its_data() == "kvm2"
        assert owner(lab["kvm2"], guest.disk) == f"{QEMU} {mode}"
        fleet.play("revert", instance="web", **QUICK).ok()
        subject.as_before()


@pytest.mark.slow
def test_a_guest_there_is_resized_in_place_and_copied_ahead_from_there(lab: Lab, guests: Guests, fleet: Fleet) -> None:
    """Layers get the owner of the disk that they lie on."""
    guest = guests.create("web", "kvm1")
    subject = Subject(lab, guest, guest.write())
    with keeping_files(lab["kvm2"]):
        fleet.play("migrate", **THERE).ok()
        fleet.play("confirm", instance="web", **QUICK).ok()
        here = owner(lab["kvm2"], guest.disk)
        resized = fleet.resize("web", "medium", ignore_hosts=["kvm1"], **QUICK).ok().migration
        assert resized["in_place"]
        (layer,) = guest.disk_paths
        assert layer != guest.disk
        assert owner(lab["kvm2"], layer) == here
        fleet.play("confirm", instance="web", **QUICK).ok()
        assert (guest.disk_paths, owner(lab["kvm2"], guest.disk)) == ([guest.disk], here)
        moved = fleet.play("migrate", instance="web", target_host="kvm1", migrate_precopy="always", **QUICK).ok().migration
        assert moved["precopy"]["rounds"] > 0
        assert subject.runs_once_with_its_data() == "kvm1"
        fleet.play("confirm", instance="web", **QUICK).ok()


@pytest.mark.slow
def test_a_fetched_base_can_be_opened_whatever_the_umask_of_root_is(lab: Lab, guests: Guests, fleet: Fleet) -> None:
    lab["kvm2"].sh(f"rm -rf {STORE}")
    lab.call("base", "put", "golden", "--host", "kvm1")
    try:
        guest = guests.create("web", "kvm1", "--base", "golden")
        subject = Subject(lab, guest, guest.write())
        with letting_nobody_in(lab["kvm2"]), keeping_files(lab["kvm2"]):
            assert lab["kvm2"].sh("sudo sh -c umask") == "0077"
            moved = fleet.play("migrate", **THERE).ok().migration
            assert moved["base_bytes"] > 0
            assert owner(lab["kvm2"], STORE) == "root:root 755"
            assert subject.runs_once_with_its_data() == "kvm2"
            fleet.play("revert", instance="web", **QUICK).ok()
            subject.as_before()
    finally:
        lab.call("base", "remove", "golden", "--host", "kvm1", check=False)


@pytest.mark.slow
def test_a_directory_that_keeps_qemu_out_is_refused_and_the_guest_goes_on(lab: Lab, guests: Guests, fleet: Fleet) -> None:
    """By the claim where a disk would come to lie, and before the guest stops where the base does."""
    guest = guests.create("web", "kvm1")
    subject = Subject(lab, guest, guest.write())
    boot_id = subject.boot_id
    base = lab["kvm1"].run("qemu-img", "info", "-U", "-f", "qcow2", guest.disk).split("backing file: ")[1].split()[0]
    held = base.rpartition("/")[0]
    before = lab["kvm2"].run("stat", "--format=%a", IMAGES), lab["kvm2"].run("stat", "--format=%a", held)
    try:
        lab["kvm2"].run("chmod", "700", IMAGES)
        one_paragraph(fleet.play("migrate", **THERE), f"the directory {IMAGES} belongs to root:root 0700", "as before")
        lab["kvm2"].run("chmod", before[0], IMAGES)
        lab["kvm2"].run("chmod", "700", held)
        one_paragraph(fleet.play("migrate", **THERE), f"the directory {held} belongs to root:root 0700", "as before")
    finally:
        lab["kvm2"].run("chmod", before[0], IMAGES)
        lab["kvm2"].run("chmod", before[1], held)
    subject.is_untouched(boot_id)


@pytest.mark.slow
def test_a_guest_whose_name_leaves_no_room_is_refused_in_the_plan(lab: Lab, guests: Guests, fleet: Fleet) -> None:
    """Of 210 bytes, in letters of two; its disk bears it too."""
    guest = guests.create("web", "kvm1", start=False)
    name = "é" * 105
    long = f"{IMAGES}/{name}.qcow2"
    replace(lab["kvm1"], "web", guest.disk, long)
    lab["kvm1"].run("mv", guest.disk, long)
    lab["kvm1"].virsh("domrename", "web", name)
    try:
        said = fleet.play("plan", instance=name, target_host="kvm2", **QUICK).refused()
    finally:
        lab["kvm1"].virsh("domrename", name, "web")
        lab["kvm1"].run("mv", long, guest.disk)
        replace(lab["kvm1"], "web", long, guest.disk)
    assert re.search(r"has too long a name: .* it has 266 bytes, and its filesystem takes 255", said)


@pytest.mark.slow
def test_a_store_whose_server_takes_root_for_nobody(lab: Lab, guests: Guests, fleet: Fleet) -> None:
    """NFS with root_squash: whatever we may not do there is found out before the guest is touched, whoever may read its disk."""
    store = f"/srv/kvmfleet-squashed-{lab.prefix}"
    fleet.vars["kvmfleet_image_directories"] = [IMAGES, store]
    with squashing_root([lab["kvm1"], lab["kvm2"]], store):
        host, guest = lab["kvm1"], guests.create("web", "kvm1", start=False)
        host.sh(f"cp {IMAGES}/base/kvmfleet-guest.qcow2 {store}.served/base.qcow2 && mv {guest.disk} {store}.served/web.qcow2")
        host.sh(f"chown {QEMU} {store}.served/* && chmod 644 {store}.served/*")
        host.sh(f"qemu-img rebase -u -f qcow2 -F qcow2 -b {store}/base.qcow2 {store}.served/web.qcow2")
        host.virsh("detach-disk", "web", "vda", "--config")
        add_devices(host, "web", DISK.format(path=f"{store}/web.qcow2"))
        definition = guest.xml
        assert host.attempt("touch", f"{store}/mine").returncode
        for mode in ("644", "600"):
            host.run("chmod", mode, f"{store}.served/web.qcow2")
            files = host.sh(f"stat --format='%n %i %s' {store}.served/*")
            for run in (fleet.play("migrate", **THERE), fleet.play("resize", instance="web", flavor="medium", target_host="kvm1", **QUICK)):
                one_paragraph(run, "web", store)
            assert (guest.hosts, guest.state, guest.xml) == (["kvm1"], "shut off", definition)
            assert host.sh(f"stat --format='%n %i %s' {store}.served/*") == files
            nothing_open(lab, guest)
        guests.delete_all()
