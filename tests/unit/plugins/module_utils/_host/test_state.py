# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import libvirt
import pytest

from ansible_collections.kvmfleet.compute.plugins.module_utils._host import state as _state
from ansible_collections.kvmfleet.compute.plugins.module_utils._host.state import Reserved, Usage, usage
from ansible_collections.kvmfleet.compute.plugins.module_utils._journal.state_dir import StateDir
from ansible_collections.kvmfleet.compute.plugins.module_utils._rules.errors import KvmfleetError
from ansible_collections.kvmfleet.compute.plugins.module_utils._storage import pools as _pools

QemuImg = Callable[[str], str]
UUID = "0f5d8f9c-2c1e-4f0a-9d35-{:012d}"
DISK = "<disk type='file' device='{1}'><driver name='qemu' type='{2}'/><source file='{0}'/><target dev='{3}'/></disk>"
GUEST = (
    "<domain type='qemu'><name>g{0}</name><uuid>{1}</uuid><memory unit='MiB'>{2}</memory><vcpu>{3}</vcpu>"
    "<os><type>hvm</type></os><devices>{4}</devices></domain>"
)
NOTHING = Reserved(memory_mb=0)


class Counting:
    """A connection that counts what it is asked."""

    def __init__(self, connection: libvirt.virConnect) -> None:
        self.connection, self.calls = connection, []

    def __getattr__(self, name: str) -> Any:
        self.calls.append(name)
        return getattr(self.connection, name)


def define(qemu: libvirt.virConnect, number: int, *disks: str, ram: int = 1024, vcpus: int = 1) -> str:
    devices = "".join(DISK.format(path, "disk", path.rpartition(".")[2], f"vd{'abc'[index]}") for index, path in enumerate(disks))
    qemu.defineXML(GUEST.format(number, UUID.format(number), ram, vcpus, devices))
    return UUID.format(number)


def claim(state: StateDir, instance: str, **changed: Any) -> None:
    record = {"migration_uuid": "m-" + instance, "instance_uuid": instance, "instance_name": "g", "role": "destination", "vcpus": 2, "ram": 2048}
    state.write("claims", "m-" + instance, {**record, "disk_mb": 10240, "bytes": 1024**2, "created_at": 0.0, **changed})


def migration(state: StateDir, uuid: str, status: str) -> None:
    record = {"uuid": uuid, "instance_uuid": UUID.format(0), "instance_name": "g", "status": status, "private": {"domain_xml": "<secret/>"}}
    state.write("migrations", uuid, {**record, "role": "destination", "step": "x", "updated_at": 0.0, "history": [], "disks": []})


@pytest.fixture
def ask(qemu: libvirt.virConnect, state: StateDir, images: Path) -> Callable[..., Usage]:
    def asking(reserved: Reserved = NOTHING, **more: Any) -> Usage:
        return usage(qemu, state, reserved=reserved, images_path=str(images), **more)

    return asking


def test_an_empty_host_uses_what_is_reserved(ask: Callable[..., Usage], images: Path) -> None:
    found = ask(Reserved(memory_mb=512, vcpus=1, disk_mb=2048))
    filesystem = os.statvfs(images)
    assert (found.vcpus_used, found.memory_mb_used, found.local_gb_used, found.num_instances) == (1, 512, 2.0, 0)
    assert found.vcpus == os.cpu_count()
    assert abs(found.memory_mb - os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 1024**2) <= 1
    assert found.local_gb == pytest.approx(filesystem.f_blocks * filesystem.f_frsize / 1024**3, abs=0.01)
    assert found.disk_available_least == pytest.approx(found.disk_free_mb / 1024, abs=0.01)


def test_stopped_domains_count_with_all_they_were_promised(qemu: libvirt.virConnect, ask: Callable[..., Usage], images: Path, qemu_img: QemuImg) -> None:
    qemu_img("create -q -f qcow2 a.qcow2 4G")
    qemu_img("create -q -f raw b.raw 1G")
    instance = define(qemu, 1, f"{images}/a.qcow2", f"{images}/b.raw", ram=1536, vcpus=3)
    found = ask()
    assert (found.vcpus_used, found.memory_mb_used, found.local_gb_used, found.instances) == (3, 1536, 5.0, [instance])
    assert found.disk_available_least == pytest.approx(found.disk_free_mb / 1024 - 5, abs=0.05)
    (domain,) = found.domains
    assert (domain.name, domain.state, domain.vcpus, domain.memory_mb, domain.disk_gb, domain.persistent, domain.autostart) == (
        "g1", "shutoff", 3, 1536, 5.0, True, False,
    )  # fmt: skip


def test_a_volume_of_a_stopped_domain_counts(
    qemu: libvirt.virConnect, ask: Callable[..., Usage], images: Path, qemu_img: QemuImg, monkeypatch: pytest.MonkeyPatch
) -> None:
    qemu_img("create -q -f qcow2 v 2G")
    volume = "<disk type='volume'><driver name='qemu' type='qcow2'/><source pool='vms' volume='v'/><target dev='vda'/></disk>"
    qemu.defineXML(GUEST.format(1, UUID.format(1), 64, 1, volume))
    assert ask().local_gb_used == 0, "a pool that is not there"
    monkeypatch.setattr(_pools, "volume_path", lambda conn, pool, name: f"{images}/{name}")
    assert ask().local_gb_used == 2.0


def test_an_image_that_guests_share_counts_once(qemu: libvirt.virConnect, ask: Callable[..., Usage], images: Path, qemu_img: QemuImg) -> None:
    qemu_img("create -q -f raw media.raw 1G")
    for number in (1, 2):
        define(qemu, number, f"{images}/media.raw")
    assert ask().local_gb_used == 1.0


def test_images_on_another_filesystem_and_missing_ones_take_no_space_here(
    qemu: libvirt.virConnect, ask: Callable[..., Usage], images: Path, qemu_img: QemuImg
) -> None:
    elsewhere = Path("/dev/shm") / f"kvmfleet-test-{os.getpid()}.raw"
    if os.stat("/dev/shm").st_dev == os.stat(images).st_dev:
        pytest.skip("there is no second filesystem")
    try:
        elsewhere.touch()
        os.truncate(elsewhere, 1024**3)
        define(qemu, 1, str(elsewhere), f"{images}/missing.qcow2")
        assert ask().local_gb_used == 0
    finally:
        elsewhere.unlink()


@pytest.mark.parametrize(
    ("claimed", "used"),
    [({}, (3, 2048, 10.0)), ({"vcpus": 8, "ram": 512, "disk_mb": 1024}, (8, 1536, 4.0)), ({"vcpus": 1, "ram": 1, "disk_mb": 1}, (3, 1536, 4.0))],
)
def test_a_domain_with_a_claim_is_charged_once_the_larger_of_both(
    qemu: libvirt.virConnect, state: StateDir, ask: Callable[..., Usage], images: Path, qemu_img: QemuImg, claimed: dict[str, int], used: tuple[float, ...]
) -> None:
    qemu_img("create -q -f qcow2 a.qcow2 4G")
    instance = define(qemu, 1, f"{images}/a.qcow2", ram=1536, vcpus=3)
    claim(state, instance, **claimed)
    found = ask()
    assert (found.vcpus_used, found.memory_mb_used, found.local_gb_used, found.num_instances) == (*used, 1)
    assert found.disk_available_least == pytest.approx(found.disk_free_mb / 1024 - used[2], abs=0.05)


@pytest.mark.parametrize(("changed", "growth"), [({}, 10.0), ({"bytes": 12 * 1024**3}, 12.0), ({"role": "source", "bytes": 4 * 1024**3}, 6.0)])
def test_a_claim_without_a_domain_is_charged_in_full(state: StateDir, ask: Callable[..., Usage], changed: dict[str, Any], growth: float) -> None:
    claim(state, UUID.format(7), **changed)
    found = ask()
    assert (found.vcpus_used, found.memory_mb_used, found.local_gb_used, found.instances) == (2, 2048, 10.0, [UUID.format(7)])
    assert found.disk_available_least == pytest.approx(found.disk_free_mb / 1024 - growth, abs=0.05)


def test_an_instance_can_be_left_out(qemu: libvirt.virConnect, state: StateDir, ask: Callable[..., Usage]) -> None:
    instance = define(qemu, 1, ram=1536)
    claim(state, instance)
    define(qemu, 2, ram=256)
    assert ask(without=instance).memory_mb_used == 256


def test_hundreds_of_domains_cost_as_many_calls_as_one(qemu: libvirt.virConnect, state: StateDir, images: Path, qemu_img: QemuImg) -> None:
    def calls() -> list[str]:
        connection = Counting(qemu)
        usage(connection, state, reserved=Reserved(), images_path=str(images))
        return connection.calls

    qemu_img("create -q -f qcow2 base.qcow2 1G")
    define(qemu, 0, f"{images}/base.qcow2")
    one = calls()
    for number in range(1, 200):
        (images / f"{number}.qcow2").write_bytes((images / "base.qcow2").read_bytes())
        define(qemu, number, f"{images}/{number}.qcow2")
    found = usage(qemu, state, reserved=NOTHING, images_path=str(images))
    assert (found.num_instances, found.memory_mb_used, found.vcpus_used, found.local_gb_used) == (200, 200 * 1024, 200, 200.0)
    assert calls() == one
    assert len(one) < 10


def test_a_driver_without_statistics_is_asked_one_by_one(tmp_path: Path, state: StateDir, images: Path, qemu_img: QemuImg) -> None:
    qemu_img("create -q -f qcow2 a.qcow2 2G")
    disk = DISK.format(f"{images}/a.qcow2", "disk", "qcow2", "vda")
    guests = "".join(GUEST.format(number, UUID.format(number), 512, 2, disk if number == 0 else "").replace("qemu'>", "test'>") for number in range(300))
    node = tmp_path / "node.xml"
    node.write_text(f"<node>{guests}<cpu><mhz>1</mhz><model>x</model><active>8</active></cpu><memory>65536</memory></node>")
    connection = libvirt.open(f"test://{node}")
    found = usage(connection, state, reserved=NOTHING, images_path=str(images))
    assert (found.num_instances, found.memory_mb_used, found.vcpus_used, found.local_gb_used) == (300, 300 * 512, 600, 2.0)


def test_a_missing_directory_for_images_is_named(qemu: libvirt.virConnect, state: StateDir) -> None:
    with pytest.raises(KvmfleetError, match="/nowhere") as caught:
        usage(qemu, state, reserved=Reserved(), images_path="/nowhere")
    assert caught.value.code == "images_path_missing"


def test_the_host_state_is_complete_and_plain(qemu: libvirt.virConnect, state: StateDir, images: Path) -> None:
    for status in ("pre-migrating", "migrating", "post-migrating", "reverting", "finished", "confirming", "confirmed", "reverted", "error", "error"):
        migration(state, f"{status}-{len(state.read_all('migrations'))}", status)
    found = _state.host_state(qemu, state, reserved=Reserved(), images_path=str(images))
    assert json.loads(json.dumps(found)) == found
    assert "secret" not in json.dumps(found)
    assert (found["num_io_ops"], found["failed_builds"], len(found["migrations"])) == (4, 2, 6)
    assert (found["hypervisor_type"], found["arch"]) == ("QEMU", os.uname().machine)
    assert [found["arch"], "qemu", "hvm"] in found["supported_instances"]
    assert "pc-q35-7.2" in found["machine_types"] or found["machine_types"]
    assert found["emulators"][found["arch"]].startswith("/")
    assert found["tools"]["qemu_img"] in subprocess.run(["qemu-img", "--version"], check=True, capture_output=True, text=True).stdout
    assert len(json.dumps({**found, "machine_types": [], "capabilities": {}})) < 8192


@pytest.mark.parametrize(("said", "version"), [("nbdkit 1.32.5 (nbdkit-1.32.5-1)", "1.32.5"), ("no version", None)])
def test_tools_tell_their_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: str, version: str | None) -> None:
    tool = tmp_path / "nbdkit"
    tool.write_text(f"#!/bin/sh\necho '{said}'\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin")
    assert _state._version("nbdkit") == version
    assert _state._version("nbdcopy-that-is-missing") is None
