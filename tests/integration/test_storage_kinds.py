# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Disks in several directories, in storage pools and in network storage."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from support.definition import add_devices
from support.faults import SWITCH, Subject, play_to_death
from support.fleet import Fleet
from support.guest import Guest, Guests
from support.lab import IMAGES, Host, Lab

FAST = {"kvm1": "/var/opt/fast", "kvm2": "/var/local/quick"}
POOLS = {"kvm1": "/var/opt/pool", "kvm2": "/var/local/store"}
DATA = "qemu-io -f {0} -c 'write -q -P {1} 3M 2M' {2} && chown libvirt-qemu: {2}"


def disk(target: str, source: str, kind: str = "file", image_format: str = "qcow2", device: str = "disk", bus: str = "virtio", inner: str = "") -> str:
    place = f"<source {source}>{inner}</source><target dev='{target}' bus='{bus}'/>{'<readonly/>' if device == 'cdrom' else ''}"
    return f"<disk type='{kind}' device='{device}'><driver name='qemu' type='{image_format}'/>{place}</disk>"


def make_directories(lab: Lab, directories: dict[str, str]) -> None:
    for name, directory in directories.items():
        lab[name].sh(f"mkdir -p {directory}")


@pytest.fixture
def scattered(lab: Lab, guests: Guests) -> Iterator[Guest]:
    """A guest that runs with an overlay, a flat qcow2 image, a raw image and a seed ISO, each in another directory."""
    guest, host = guests.create("web", "kvm1", start=False), lab["kvm1"]
    make_directories(lab, FAST)
    flat, raw, seed = f"{FAST['kvm1']}/flat.qcow2", f"{IMAGES}/deep/web.raw", f"{FAST['kvm1']}/iso/seed.iso"
    host.sh(f"mkdir -p {IMAGES}/deep {FAST['kvm1']}/iso && printf 'seed of web' >{seed} && truncate -s 1M {seed}")
    host.sh(f"qemu-img create -q -f qcow2 {flat} 64M && {DATA.format('qcow2', 7, flat)}")
    host.sh(f"qemu-img create -q -f raw {raw} 64M && {DATA.format('raw', 8, raw)}")
    add_devices(host, "web", disk("vdb", f"file='{flat}'"))
    add_devices(host, "web", disk("vdc", f"file='{raw}'", image_format="raw"))
    add_devices(host, "web", disk("sda", f"file='{seed}'", image_format="raw", device="cdrom", bus="sata"))
    host.virsh("start", "web")
    yield guest.wait()
    guests.delete_all()
    for host in lab.hosts.values():
        host.sh(f"rm -rf {FAST['kvm1']} {FAST['kvm2']} {IMAGES}/deep")


def inside(guest: Guest) -> str:
    """Digests of what the guest sees on its further disks."""
    return guest.wait().exec("sh", "-c", "for disk in vdb vdc; do sha256sum </dev/$disk; done")


@pytest.mark.slow
def test_disks_in_several_directories(lab: Lab, fleet: Fleet, scattered: Guest) -> None:
    """Each comes to lie in the directory of the same name; a host without that name does not get the guest; revert brings the old paths back."""
    subject = Subject(lab, scattered, scattered.write())
    seen, before, source = inside(scattered), scattered.disk_paths, lab["kvm1"]
    fleet.hosts["kvm1"]["kvmfleet_disk_directories"] = {"fast": FAST["kvm1"]}
    error = fleet.play("migrate", instance="web").refused()
    assert "kvm2: StorageFilter: has no directory fast in kvmfleet_disk_directories (it has none)" in error

    fleet.hosts["kvm2"]["kvmfleet_disk_directories"] = {"fast": "/var/local/absent"}
    assert "its directory fast, /var/local/absent, does not exist" in fleet.play("migrate", instance="web").refused()

    fleet.hosts["kvm2"]["kvmfleet_disk_directories"] = {"fast": FAST["kvm2"]}
    lab["kvm2"].sh(f"mkdir -p {IMAGES}/deep {FAST['kvm2']}/iso")
    planned = fleet.play("plan", instance="web").ok().said
    assert f"vdb: copied from {FAST['kvm1']}/flat.qcow2 to {FAST['kvm2']}/flat.qcow2 (directory fast of kvmfleet_disk_directories)" in planned
    seed = source.sha256(f"{FAST['kvm1']}/iso/seed.iso")
    fleet.play("migrate", instance="web").ok()
    moved = [path.replace(FAST["kvm1"], FAST["kvm2"]) for path in before]
    assert (subject.runs_once_with_its_data(), scattered.disk_paths, inside(scattered)) == ("kvm2", moved, seen)
    assert lab["kvm2"].sha256(f"{FAST['kvm2']}/iso/seed.iso") == seed

    fleet.play("revert", instance="web").ok()
    assert (subject.runs_once_with_its_data(), scattered.disk_paths, inside(scattered)) == ("kvm1", before, seen)
    assert lab["kvm2"].sh(f"find {FAST['kvm2']} {IMAGES}/deep -type f") == ""


def test_a_directory_without_a_name_keeps_its_path(lab: Lab, fleet: Fleet, scattered: Guest) -> None:
    """It has to exist at the destination; else the guest is left as it is."""
    boot_id = Subject(lab, scattered, "").boot_id
    fleet.vars["kvmfleet_image_directories"] = [IMAGES, FAST["kvm1"]]
    error = fleet.play("migrate", instance="web").refused()
    assert f"the directory {FAST['kvm1']} does not exist here" in error
    assert (scattered.hosts, scattered.exec("cat", "/proc/sys/kernel/random/boot_id")) == (["kvm1"], boot_id)


@pytest.fixture
def pooled(lab: Lab, guests: Guests) -> Iterator[Guest]:
    """A guest that runs on volumes of a storage pool, its root disk and a seed ISO among them; kvm2 has no such pool yet."""
    guest, host = guests.create("web", "kvm1", start=False), lab["kvm1"]
    make_directories(lab, POOLS)
    make_pool(host)
    host.sh(f"mv {IMAGES}/web.qcow2 {POOLS['kvm1']}/root && printf 'seed of web' >{POOLS['kvm1']}/seed.iso && truncate -s 1M {POOLS['kvm1']}/seed.iso")
    host.virsh("detach-disk", "web", "vda", "--config")
    host.virsh("vol-create-as", "vms", "data", "64M", "--format", "qcow2")
    host.virsh("pool-refresh", "vms")
    add_devices(host, "web", disk("vda", "pool='vms' volume='root'", "volume"))
    add_devices(host, "web", disk("vdb", "pool='vms' volume='data'", "volume"))
    add_devices(host, "web", disk("sda", "pool='vms' volume='seed.iso'", "volume", "raw", "cdrom", "sata"))
    host.virsh("start", "web")
    yield guest.wait()
    guests.delete_all()
    for host in lab.hosts.values():
        host.sh(f"virsh -q pool-destroy vms; virsh -q pool-undefine vms; rm -rf {POOLS['kvm1']} {POOLS['kvm2']}", check=False)


def make_pool(host: Host) -> None:
    host.virsh("pool-define-as", "vms", "dir", "--target", POOLS[host.name])
    host.virsh("pool-start", "vms")


def volumes(guest: Guest) -> list[str]:
    """Pool and volume of each disk in the definition."""
    return [line.split("<source ")[1].rstrip("/>") for line in guest.xml.splitlines() if "<source pool=" in line]


IN_POOL = ["pool='vms' volume='root'", "pool='vms' volume='data'", "pool='vms' volume='seed.iso'"]


def test_volumes_of_a_storage_pool(lab: Lab, fleet: Fleet, pooled: Guest) -> None:
    """The definition goes on naming them, wherever the pool is; without the pool a host is no destination; confirm, and revert."""
    subject, destination = Subject(lab, pooled, pooled.write()), lab["kvm2"]
    fleet.vars["kvmfleet_image_directories"] = [IMAGES, *POOLS.values()]
    assert volumes(pooled) == IN_POOL
    error = fleet.play("migrate", instance="web").refused()
    assert "kvm2: StorageFilter: has no storage pool vms (it has none)" in error
    make_pool(destination)
    destination.virsh("pool-destroy", "vms")
    assert "its storage pool vms is not active" in fleet.play("migrate", instance="web").refused()
    destination.virsh("pool-start", "vms")

    planned = fleet.play("plan", instance="web").ok().said
    assert f"vdb: copied from {POOLS['kvm1']}/data to {POOLS['kvm2']}/data (volume data of the storage pool vms)" in planned
    fleet.play("migrate", instance="web").ok()
    assert (subject.runs_once_with_its_data(), volumes(pooled)) == ("kvm2", IN_POOL)
    fleet.play("revert", instance="web").ok()
    assert (subject.runs_once_with_its_data(), volumes(pooled)) == ("kvm1", IN_POOL)
    assert (destination.virsh("vol-list", "vms"), destination.files(POOLS["kvm2"])) == ("", [])

    fleet.play("migrate", instance="web").ok()
    fleet.play("confirm", instance="web").ok()
    assert (subject.runs_once_with_its_data(), volumes(pooled)) == ("kvm2", IN_POOL)
    assert lab["kvm1"].files(POOLS["kvm1"]) == [f"{POOLS['kvm1']}/seed.iso"]
    assert [line.split()[0] for line in lab["kvm1"].virsh("vol-list", "vms").splitlines()] == ["seed.iso"]


@pytest.mark.slow
def test_volumes_are_resized_in_place(lab: Lab, fleet: Fleet, pooled: Guest) -> None:
    """The layer is a file; after confirm, and after revert, the definition names the volume again and the guest starts from it."""
    subject, host = Subject(lab, pooled, pooled.write()), lab["kvm1"]
    fleet.vars["kvmfleet_image_directories"] = [IMAGES, POOLS["kvm1"]]
    look = ("sh", "-c", "sha256sum </dev/vdb")
    pooled.exec("sh", "-c", "dd if=/dev/urandom of=/dev/vdb bs=1M count=3 2>/dev/null && sync")
    seen = pooled.exec(*look)
    assert fleet.play("resize", instance="web", flavor="medium").ok().migration["in_place"]
    fleet.play("revert", instance="web").ok()
    assert (subject.runs_once_with_its_data(), volumes(pooled)) == ("kvm1", IN_POOL)
    fleet.play("resize", instance="web", flavor="medium").ok()
    assert pooled.look().is_flavor(fleet.flavors["medium"])
    fleet.play("confirm", instance="web").ok()
    assert volumes(pooled) == IN_POOL
    assert fleet.play("resize", instance="web", flavor="large").ok().migration["in_place"]
    fleet.play("confirm", instance="web").ok()
    host.virsh("destroy", "web")
    host.virsh("start", "web")
    assert pooled.look().is_flavor(fleet.flavors["large"])
    assert pooled.exec(*look) == seen
    assert (subject.runs_once_with_its_data(), volumes(pooled)) == ("kvm1", IN_POOL)


def swaps(fleet: Fleet) -> None:
    """Flavors of the same size with another swap disk each."""
    sizes = fleet.flavors["small"]
    fleet.vars["kvmfleet_flavors"] = {"dry": sizes, **{f"swap{mib}": {**sizes, "swap": mib} for mib in (64, 128)}}


def swap_mib(guest: Guest, device: str) -> int:
    return int(guest.wait().exec("cat", f"/sys/block/{device}/size")) // 2048


@pytest.mark.slow
def test_a_swap_disk_is_a_volume_beside_the_root_disk(lab: Lab, fleet: Fleet, pooled: Guest) -> None:
    """The pool knows it where it was made, and does not where it was removed; on another host, and in place."""
    subject, in_place = Subject(lab, pooled, pooled.write()), {"instance": "web", "target_host": "kvm1"}
    fleet.vars["kvmfleet_image_directories"] = [IMAGES, *POOLS.values()]
    swaps(fleet)
    make_pool(lab["kvm2"])
    swap = "pool='vms' volume='web-swap.qcow2'"
    fleet.resize("web", "swap64", target_host="kvm2").ok()
    assert (subject.runs_once_with_its_data(), sorted(volumes(pooled)), swap_mib(pooled, "vdc")) == ("kvm2", sorted([*IN_POOL, swap]), 64)
    assert "web-swap.qcow2" in lab["kvm2"].virsh("vol-list", "vms")
    fleet.play("revert", instance="web").ok()
    assert (subject.runs_once_with_its_data(), volumes(pooled)) == ("kvm1", IN_POOL)
    assert (lab["kvm2"].virsh("vol-list", "vms"), lab["kvm2"].files(POOLS["kvm2"])) == ("", [])

    fleet.play("resize", flavor="swap64", **in_place).ok()
    assert "web-swap.qcow2" in lab["kvm1"].virsh("vol-list", "vms")
    fleet.play("confirm", instance="web").ok()
    assert (sorted(volumes(pooled)), swap_mib(pooled, "vdc")) == (sorted([*IN_POOL, swap]), 64)
    fleet.play("resize", flavor="dry", **in_place).ok()
    fleet.play("confirm", instance="web").ok()
    assert (subject.runs_once_with_its_data(), volumes(pooled)) == ("kvm1", IN_POOL)
    assert "web-swap" not in lab["kvm1"].virsh("vol-list", "vms")


@pytest.fixture
def served(lab: Lab, guests: Guests) -> Iterator[str]:
    """The server of a disk that kvm3 serves by NBD, once `nbdkit` runs there."""
    yield f"<host name='{lab.inventory['compute']['hosts']['kvm3']['ansible_host']}' port='10810'/>"
    guests.delete_all()
    lab["kvm3"].sh("kill $(cat /run/nbdkit.pid)")


@pytest.mark.slow
def test_network_storage_is_left_alone(lab: Lab, fleet: Fleet, guests: Guests, served: str) -> None:
    """A host that does not reach it is no destination; one that does takes the guest, with it or with nothing else; nothing is ever copied of it."""
    guest, plain = guests.create("web", "kvm1", start=False), guests.create("plain", "kvm1", start=False)
    device = disk("vdb", "protocol='nbd' name='data'", "network", "raw", inner=served)
    add_devices(lab["kvm1"], "web", device)
    plain.host.virsh("detach-disk", "plain", "vda", "--config")
    lab["kvm1"].run("rm", plain.disk)
    add_devices(lab["kvm1"], "plain", device.replace("vdb", "vda"))
    error = fleet.play("migrate", instance="web").refused()
    assert "no server of disk vdb (nbd data) takes a connection from here: 10." in error
    assert guest.hosts == ["kvm1"]

    lab["kvm3"].sh("nbdkit --pidfile /run/nbdkit.pid --port 10810 memory 64M && sleep 0.5")
    lab["kvm1"].virsh("start", "web")
    subject = Subject(lab, guest.wait(), guest.write())
    guest.exec("sh", "-c", "dd if=/dev/urandom of=/dev/vdb bs=1M count=3 2>/dev/null && sync")
    look = ("sh", "-c", "sha256sum </dev/vdb")
    seen, xml = guest.exec(*look), [line for line in guest.xml.splitlines() if "nbd" in line]
    assert "vdb: left (nbd storage stays as it is" in fleet.play("plan", instance="web").ok().said
    fleet.play("migrate", instance="web").ok()
    assert (subject.runs_once_with_its_data(), guest.exec(*look)) == ("kvm2", seen)
    assert [line for line in guest.xml.splitlines() if "nbd" in line] == xml
    fleet.play("revert", instance="web").ok()
    assert (subject.runs_once_with_its_data(), guest.exec(*look)) == ("kvm1", seen)

    assert fleet.play("migrate", instance="plain").ok().migration["overlay_bytes"] == 0
    fleet.play("confirm", instance="plain").ok()
    assert plain.hosts == ["kvm2"]


def test_storage_that_the_destination_cannot_use(lab: Lab, fleet: Fleet, guests: Guests) -> None:
    """A driver and a secret that it lacks, a block device: each is named, with what to do, before the guest is touched."""
    guest, host = guests.create("web", "kvm1", start=False), lab["kvm1"]
    login = "<auth username='u'><secret type='ceph' usage='ceph-web'/></auth>"
    add_devices(host, "web", disk("vdb", "protocol='rbd' name='p/i'", "network", "raw", inner=login))
    error = fleet.play("migrate", instance="web").refused()
    assert "The ceph secret of the usage ceph-web, which disk vdb needs, is not defined on this host" in error
    definition = "<secret private='yes'><usage type='ceph'><name>ceph-web</name></usage></secret>"
    host.sh(f'echo "{definition}" >/tmp/secret.xml && virsh -q secret-define /tmp/secret.xml; rm /tmp/secret.xml')
    error = fleet.play("migrate", instance="web").refused()
    host.sh("virsh -q secret-undefine $(virsh -q secret-list | awk '{ print $1 }')")
    assert "QEMU here has no driver rbd, which disk vdb (rbd p/i) needs" in error
    assert "of the usage ceph-web, which disk vdb needs, is not defined here and does not travel, since it is private: define it" in error

    host.virsh("detach-disk", "web", "vdb", "--config")
    add_devices(host, "web", disk("vdb", "dev='/dev/null'", "block", "raw"))
    error = fleet.play("migrate", instance="web").refused()
    assert "Disk vdb, /dev/null: a block device (LVM volume, partition, LUN) of this host; copy it into a file" in error
    assert guest.hosts == ["kvm1"]


@pytest.fixture
def shared(lab: Lab) -> Iterator[str]:
    """A directory that all hosts of the lab have in common, with each other and with this machine."""
    directory = f"/srv/kvmfleet-shared-{lab.prefix}"
    host = lab["kvm1"]
    host.sh(f"rm -rf {directory} && mkdir {directory}")
    yield directory
    host.run("rm", "-rf", directory)


@pytest.fixture
def on_shared(lab: Lab, guests: Guests, shared: str) -> Iterator[Guest]:
    """A guest that runs on an overlay and a base image in that directory."""
    guest, host = guests.create("web", "kvm1", start=False), lab["kvm1"]
    host.sh(f"cp {IMAGES}/base/kvmfleet-guest.qcow2 {shared}/base.qcow2 && mv {guest.disk} {shared}/web.qcow2")
    host.sh(f"qemu-img rebase -u -f qcow2 -F qcow2 -b {shared}/base.qcow2 {shared}/web.qcow2")
    host.virsh("detach-disk", "web", "vda", "--config")
    add_devices(host, "web", disk("vda", f"file='{shared}/web.qcow2'"))
    host.virsh("start", "web")
    yield guest.wait()
    guests.delete_all()


def test_storage_that_both_hosts_share(lab: Lab, fleet: Fleet, shared: str, on_shared: Guest) -> None:
    """Nothing is copied, renamed or deleted; a disk there is not grown; confirm and revert leave it where it is."""
    subject, host = Subject(lab, on_shared, on_shared.write()), lab["kvm1"]
    fleet.vars["kvmfleet_image_directories"] = [IMAGES, shared]
    files, inode = host.sh(f"ls -A {shared}"), host.run("stat", "--format=%i", f"{shared}/web.qcow2")
    boot_id = subject.boot_id
    error = fleet.resize("web", "large").refused()
    assert f"vda, {shared}/web.qcow2, lies on storage that the source shares with this host; growing it" in error
    assert (host.sh(f"ls -A {shared}"), subject.boot_id, on_shared.hosts) == (files, boot_id, ["kvm1"])

    for verb, where in (("revert", "kvm1"), ("confirm", "kvm2")):
        moved = fleet.play("migrate", instance="web").ok().migration
        assert (moved["shared_disks"], moved["overlay_bytes"], moved["base_bytes"]) == (["vda"], 0, 0)
        assert subject.runs_once_with_its_data() == "kvm2"
        assert (host.sh(f"ls -A {shared}"), host.run("stat", "--format=%i", f"{shared}/web.qcow2")) == (files, inode)
        fleet.play(verb, instance="web").ok()
        assert subject.runs_once_with_its_data() == where
        assert (host.sh(f"ls -A {shared}"), host.run("stat", "--format=%i", f"{shared}/web.qcow2")) == (files, inode)


def test_a_run_that_dies_between_the_hosts_of_shared_storage(lab: Lab, fleet: Fleet, shared: str, on_shared: Guest) -> None:
    """The source is sealed although its disk keeps its name: it does not start the guest until recover says so, and nothing is left."""
    subject, host = Subject(lab, on_shared, on_shared.write()), lab["kvm1"]
    fleet.vars["kvmfleet_image_directories"] = [IMAGES, shared]
    files = host.sh(f"ls -A {shared}")
    assert play_to_death(fleet, SWITCH, "migrate", instance="web", migrate_lease=3)
    assert (on_shared.hosts, subject.running_on) == ([], [])
    assert host.sh(f"ls -A {shared}") == files
    fleet.play("recover", instance="web", migrate_lease=3).ok()
    assert subject.runs_once_with_its_data() == "kvm1"
    assert host.sh(f"ls -A {shared}") == files


@pytest.mark.slow
def test_a_swap_disk_on_storage_that_both_hosts_share(lab: Lab, fleet: Fleet, shared: str, on_shared: Guest) -> None:
    """Unlike the other disks there it is made anew: the old one is sealed, comes back with a revert, and is removed by confirm."""
    subject, host = Subject(lab, on_shared, on_shared.write()), lab["kvm1"]
    fleet.vars["kvmfleet_image_directories"] = [IMAGES, shared]
    swaps(fleet)
    listing = f"ls -A {shared}"
    before = host.sh(listing).split()
    run = fleet.resize("web", "swap64", target_host="kvm2").ok()
    assert (run.migration["shared_disks"], subject.runs_once_with_its_data(), swap_mib(on_shared, "vdb")) == (["vda"], "kvm2", 64)
    fleet.play("confirm", instance="web").ok()
    on_shared.exec("sh", "-c", "printf old >/dev/vdb && sync")
    assert host.sh(listing).split() == sorted([*before, "web-swap.qcow2"])

    for ending in ("revert", "confirm"):
        run = fleet.resize("web", "swap128", target_host="kvm1").ok()
        assert (run.migration["shared_disks"], subject.runs_once_with_its_data(), swap_mib(on_shared, "vdb")) == (["vda"], "kvm1", 128)
        fleet.play(ending, instance="web").ok()
        if ending == "revert":
            assert (subject.runs_once_with_its_data(), swap_mib(on_shared, "vdb")) == ("kvm2", 64)
            assert on_shared.exec("head", "-c", "3", "/dev/vdb") == "old"
            assert host.sh(listing).split() == sorted([*before, "web-swap.qcow2"])
    assert subject.runs_once_with_its_data() == "kvm1"
    assert host.sh(listing).split() == sorted([*before, "web-swap-2.qcow2"])


@pytest.mark.slow
def test_a_base_that_a_guest_of_another_host_stands_on_is_not_removed(lab: Lab, guests: Guests, fleet: Fleet, shared: str) -> None:
    """kvm1 fetches its base images into a directory that kvm2 sees too, where a guest has its own disk over one of them."""
    guest, host = guests.create("web", "kvm2", start=False), lab["kvm2"]
    base = f"{shared}/_base/{host.sha256(f'{IMAGES}/base/kvmfleet-guest.qcow2')}.qcow2"
    host.sh(f"mkdir {shared}/_base && cp {IMAGES}/base/kvmfleet-guest.qcow2 {base}")
    host.sh(f"qemu-img rebase -u -f qcow2 -F qcow2 -b {base} {guest.disk}")
    fleet.hosts["kvm1"]["kvmfleet_images_path"] = shared
    kept = fleet.play("images", keep_bytes="0").ok()
    assert kept.changed == 0
    assert "guest web on kvm2" in kept.said
    assert "The limit 'kvm1' of this run leaves out localhost, kvm2" in fleet.play("images", "--limit", "kvm1", keep_bytes="0").refused()
    fleet.hosts["kvm2"]["ansible_port"] = 9
    assert "Nothing is removed, since kvm2 did not say" in fleet.play("images", keep_bytes="0").refused()
    del fleet.hosts["kvm2"]["ansible_port"]
    guests.delete_all()
    assert host.exists(base)
    assert fleet.play("images", keep_bytes="0").ok().recap["kvm1"]["changed"] == 1
    assert not host.exists(base)
