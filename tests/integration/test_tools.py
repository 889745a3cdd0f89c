# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Guests that others' tools have made: there, back, and there for good."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from support import tpm
from support.definition import add, edited, replace
from support.faults import Subject
from support.firmware import PLACE, add_variable, files_of, variables
from support.fleet import Fleet
from support.guest import Guest, Guests
from support.lab import IMAGES, Host, Lab
from support.signed import put_signed
from support.tools import BASE, UNSIGNED, forget_pools, seed_files, virt_install, with_tools

DATA, DATA_MIB = f"{IMAGES}/web-data.raw", 32
SEED = f"{IMAGES}/seeds/web.iso"
PATIENCE = 600
"""Seconds for a boot whose every step is measured or verified, by a processor that is emulated and that others use too."""
SIGNED = f"{IMAGES}/base/signed.qcow2"
GLOBAL, SIGNATURES = "8be4df61-93ca-11d2-aa0d-00e098032b8c", "d719b2cb-3d3a-4596-a3bc-dad00e67656f"
BOX = f"{IMAGES}/debian-VAGRANTSLASH-bookworm64_vagrant_box_image_12.20250126.1_box_0.img"
POOL = "/var/lib/libvirt/cluster"
TERRAFORM = f"""
<disk type='volume' device='disk'><driver name='qemu' type='qcow2'/><source pool='cluster' volume='node.qcow2'/><target dev='vda' bus='virtio'/></disk>
<disk type='volume' device='disk'><driver name='qemu' type='raw'/><source pool='cluster' volume='node-etcd'/><target dev='vdb' bus='virtio'/></disk>
<disk type='file' device='cdrom'><driver name='qemu' type='raw'/><source file='{POOL}/node-init.iso'/><target dev='sda' bus='sata'/>
<serial>cloudinit</serial></disk>
"""
OVERLAY = f"size=1,backing_store={BASE},backing_format=qcow2"


def on_second_disk(guest: Guest) -> str:
    return guest.wait().exec("sh", "-c", "sha256sum </dev/vdb")


@pytest.fixture
def host(lab: Lab, guests: Guests) -> Iterator[Host]:
    """kvm1, with the tools."""
    yield with_tools(lab, "kvm1")
    guests.delete_all()
    forget_pools(lab["kvm1"])
    for one in lab.hosts.values():
        one.sh(f"rm -rf {IMAGES}/seeds /root/user-data /root/meta-data")


@pytest.fixture
def installed(lab: Lab, guests: Guests, host: Host) -> Subject:
    """A guest in its first boot by virt-install: UEFI, a TPM, an overlay, a preallocated raw disk, and a seed, which is deleted at once."""
    user_data, meta_data = seed_files(host, "web")
    seed = f"user-data={user_data},meta-data={meta_data}"
    data = f"path={DATA},size={DATA_MIB / 1024},format=raw,sparse=no"
    guests.made["web"] = guest = Guest(lab, "web")
    guest.boot_timeout = PATIENCE
    virt_install(host, "web", "--disk", OVERLAY, "--disk", data, "--boot", UNSIGNED, "--tpm", "emulator", "--cloud-init", seed)
    guest.wait().exec("sh", "-c", "dd if=/dev/urandom of=/dev/vdb bs=1M count=2 2>/dev/null && sync")
    add_variable(guest, "Before")
    return Subject(lab, guest, guest.write())


def test_a_guest_that_virt_install_has_made(lab: Lab, fleet: Fleet, installed: Subject) -> None:
    """Its first boot is not like those that follow, which the plan says; then all of it travels."""
    guest, (kvm1, kvm2) = installed.guest, (lab["kvm1"], lab["kvm2"])
    sealed, seen = tpm.Sealed(guest), on_second_disk(guest)

    def holds(host: Host, other: Host) -> None:
        assert installed.runs_once_with_its_data() == host.name
        assert (on_second_disk(guest), sealed.opens(), variables(guest)) == (seen, True, ["value of Before"])
        assert (host.allocated_bytes(DATA) >= DATA_MIB * 2**20, files_of(host)) == (True, ["web_VARS.fd"])
        assert guest.disk_paths == [guest.disk, DATA]

    error = fleet.play("migrate", instance="web").refused()
    assert "a restart would make it so: action for a reboot: destroy now, restart by the definition. Either" in error
    assert error.count("This is the first boot of a guest of virt-install") == 1
    fleet.play("migrate", instance="web", live_differences="drop").ok()
    holds(kvm2, kvm1)
    fleet.play("revert", instance="web").ok()
    holds(kvm1, kvm2)
    assert (files_of(kvm2), sealed.keepers, kvm2.files()) == ([], ["kvm1"], [])

    fleet.play("migrate", instance="web").ok()
    fleet.play("confirm", instance="web").ok()
    holds(kvm2, kvm1)
    assert (files_of(kvm1), sealed.keepers, kvm1.files()) == ([], ["kvm2"], [])


@pytest.fixture
def twins(lab: Lab, guests: Guests, host: Host) -> dict[str, Guest]:
    """A guest with a seed of cloud-localds in its drive, and what virt-clone has made of it, with the same seed. Both are off."""
    host.sh(f"mkdir {IMAGES}/seeds")
    host.run("cloud-localds", SEED, *seed_files(host, "web"))
    guests.made["web"] = web = Guest(lab, "web")
    virt_install(host, "web", "--disk", OVERLAY, "--disk", f"path={SEED},device=cdrom")
    web.write()
    web.shut_down()
    guests.made["twin"] = twin = Guest(lab, "twin")
    host.run("virt-clone", "--original", "web", "--name", "twin", "--auto-clone")
    return {"web": web, "twin": twin}


def test_a_guest_that_virt_clone_has_made(lab: Lab, fleet: Fleet, twins: dict[str, Guest]) -> None:
    """Neither takes anything from the other one, the seed of cloud-localds least of all, which both have."""
    web, twin, kvm1, kvm2 = twins["web"], twins["twin"], lab["kvm1"], lab["kvm2"]
    paths, seed = {name: guest.disk_paths for name, guest in twins.items()}, kvm1.sha256(SEED)
    assert [SEED in found for found in paths.values()] == [True, True]

    fleet.play("migrate", instance="twin").ok()
    assert (twin.hosts, web.hosts, twin.disk_paths, kvm2.sha256(SEED)) == (["kvm2"], ["kvm1"], paths["twin"], seed)
    fleet.play("revert", instance="twin").ok()
    assert (twin.hosts, twin.disk_paths, kvm2.exists(SEED)) == (["kvm1"], paths["twin"], False)
    fleet.play("migrate", instance="twin").ok()
    fleet.play("confirm", instance="twin").ok()
    assert ({name: guest.disk_paths for name, guest in twins.items()}, kvm1.files()) == (paths, [web.disk])
    assert (kvm1.sha256(SEED), kvm2.sha256(SEED)) == (seed, seed)
    inside = {}
    for name, host in (("web", kvm1), ("twin", kvm2)):
        host.virsh("start", name)
        inside[name] = twins[name].look().data
    assert inside["web"] == inside["twin"]
    assert inside["web"]


@pytest.fixture
def secured(lab: Lab, guests: Guests, host: Host) -> Iterator[Subject]:
    """A guest with secure boot and its keys, which is what virt-install makes of `--boot uefi` for a q35."""
    put_signed(host, SIGNED)
    guests.made["web"] = guest = Guest(lab, "web")
    guest.boot_timeout = PATIENCE
    virt_install(host, "web", "--disk", f"size=1,backing_store={SIGNED},backing_format=qcow2", "--boot", "uefi", memory_mib=512)
    add_variable(guest.wait(), "Before")
    yield Subject(lab, guest, guest.write())
    guests.delete_all()
    host.run("rm", "-f", SIGNED)


@pytest.mark.slow
@pytest.mark.timeout(6 * PATIENCE)
def test_secure_boot(lab: Lab, fleet: Fleet, secured: Subject) -> None:
    """It is in force after each move, with the keys of before: the firmware starts nothing else."""
    guest, words = secured.guest, {"instance": "web", "migrate_agent_timeout": PATIENCE}
    look = f"for name in SecureBoot-{GLOBAL} PK-{GLOBAL} KEK-{GLOBAL} db-{SIGNATURES} dbx-{SIGNATURES}; do sha256sum <{PLACE}/$name; done"

    def state() -> tuple[str, str, list[str], bool]:
        in_force = guest.wait().exec("sh", "-c", f"tail -c 1 {PLACE}/SecureBoot-{GLOBAL} | hexdump -e '\"%d\"'")
        return in_force, guest.exec("sh", "-c", look), variables(guest), "secure='yes'" in guest.host.virsh("dumpxml", "web")

    before = state()
    assert (before[0], before[2:]) == ("1", (["value of Before"], True))
    fleet.play("migrate", **words).ok()
    assert (secured.runs_once_with_its_data(), state()) == ("kvm2", before)
    fleet.play("revert", **words).ok()
    assert (secured.runs_once_with_its_data(), state(), files_of(lab["kvm2"])) == ("kvm1", before, [])
    fleet.play("migrate", **words).ok()
    fleet.play("confirm", **words).ok()
    assert (secured.runs_once_with_its_data(), state(), files_of(lab["kvm1"])) == ("kvm2", before, [])


@pytest.fixture
def project(lab: Lab, guests: Guests) -> Iterator[dict[str, Guest]]:
    """Two machines of a Vagrant project, both on the image of their box, as vagrant-libvirt names and lays them. One runs."""
    host, machines = lab["kvm1"], {}
    for name in ("project_db", "project_web"):
        machines[name] = guests.create(name, "kvm1", start=False)
        host.sh(f"[ -e {BOX} ] || cp {BASE} {BOX}; mv {machines[name].disk} {IMAGES}/{name}.img")
        host.run("qemu-img", "rebase", "-u", "-f", "qcow2", "-F", "qcow2", "-b", BOX, f"{IMAGES}/{name}.img")
        replace(host, name, machines[name].disk, f"{IMAGES}/{name}.img")
    host.virsh("start", "project_web")
    yield machines
    guests.delete_all()
    host.run("rm", "-f", BOX)


@pytest.mark.slow
def test_machines_of_a_vagrant_project(lab: Lab, fleet: Fleet, project: dict[str, Guest]) -> None:
    """The image of the box, which is the other machine's too, stays and is the base of both at the destination."""
    web, kvm1, kvm2 = project["project_web"], lab["kvm1"], lab["kvm2"]
    subject, box, base = Subject(lab, web, web.write()), kvm1.sha256(BOX), f"{IMAGES}/_base/{kvm1.sha256(BOX)}.qcow2"
    fleet.play("migrate", instance=web.name).ok()
    assert (subject.runs_once_with_its_data(), web.disk_paths, kvm2.sha256(base)) == ("kvm2", [f"{IMAGES}/project_web.img"], box)
    fleet.play("revert", instance=web.name).ok()
    assert (subject.runs_once_with_its_data(), web.disk_paths, kvm2.files()) == ("kvm1", [f"{IMAGES}/project_web.img"], [])
    for name in project:
        run = fleet.play("migrate", instance=name).ok()
        assert run.migration["base_bytes"] == 0
        fleet.play("confirm", instance=name).ok()
    assert (subject.runs_once_with_its_data(), kvm1.files(), kvm1.sha256(BOX)) == ("kvm2", [BOX], box)
    kvm2.virsh("start", "project_db")
    assert project["project_db"].look().vcpus == 1


@pytest.fixture
def node(lab: Lab, guests: Guests) -> Iterator[Guest]:
    """A node of a cluster as Terraform's provider makes it: volumes of a pool, one of them the base of another, and the seed beside them as a file."""
    host, guest = lab["kvm1"], guests.create("node", "kvm1", start=False)
    for one in (host, lab["kvm2"]):
        one.sh(f"mkdir -p {POOL} && virsh -q pool-define-as cluster dir --target {POOL} && virsh -q pool-start cluster")
    host.sh(f"cp {BASE} {POOL}/debian.qcow2 && mv {guest.disk} {POOL}/node.qcow2 && chmod 644 {POOL}/*")
    host.run("qemu-img", "rebase", "-u", "-f", "qcow2", "-F", "qcow2", "-b", f"{POOL}/debian.qcow2", f"{POOL}/node.qcow2")
    host.sh(f"cd {POOL} && truncate -s 16M node-etcd && printf seed >node-init.iso && truncate -s 1M node-init.iso && virsh -q pool-refresh cluster")
    with edited(host, "node") as root:
        devices = root.find("devices")
        assert devices is not None
        devices.remove(devices.find("disk"))
        add(devices, TERRAFORM)
    host.virsh("start", "node")
    guest.exec("sh", "-c", "dd if=/dev/urandom of=/dev/vdb bs=1M count=1 2>/dev/null && sync")
    yield guest
    guests.delete_all()
    for one in (host, lab["kvm2"]):
        one.sh(f"virsh -q pool-destroy cluster; virsh -q pool-undefine cluster; rm -rf {POOL}")


@pytest.mark.slow
def test_a_node_that_terraform_has_made(lab: Lab, fleet: Fleet, node: Guest) -> None:
    """Terraform finds its volumes by their names in the pool, wherever the node is; what other nodes stand on stays."""
    fleet.vars["kvmfleet_image_directories"] = [IMAGES, POOL]
    subject, seen, (kvm1, kvm2) = Subject(lab, node, node.write()), on_second_disk(node), (lab["kvm1"], lab["kvm2"])

    def volumes(host: Host) -> list[str]:
        return sorted(line.split()[0] for line in host.virsh("vol-list", "cluster").splitlines() if line.strip())

    every = ["debian.qcow2", "node-etcd", "node-init.iso", "node.qcow2"]
    fleet.play("migrate", instance="node").ok()
    assert (subject.runs_once_with_its_data(), on_second_disk(node), volumes(kvm2)) == ("kvm2", seen, every[1:])
    assert node.xml.count("<source pool='cluster' volume=") == 2
    fleet.play("revert", instance="node").ok()
    assert (subject.runs_once_with_its_data(), on_second_disk(node), volumes(kvm1), volumes(kvm2)) == ("kvm1", seen, every, [])
    fleet.play("migrate", instance="node").ok()
    fleet.play("confirm", instance="node").ok()
    assert (subject.runs_once_with_its_data(), on_second_disk(node), volumes(kvm1), volumes(kvm2)) == ("kvm2", seen, every[::2], every[1:])
