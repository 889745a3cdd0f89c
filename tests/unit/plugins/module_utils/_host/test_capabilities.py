# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from pathlib import Path
from typing import Any

import libvirt
import pytest

from ansible_collections.kvmfleet.compute.plugins.module_utils._domain.definition import parse_document
from ansible_collections.kvmfleet.compute.plugins.module_utils._host import bindings as _bindings, capabilities as _capabilities
from ansible_collections.kvmfleet.compute.plugins.module_utils._journal.state_dir import StateDir
from ansible_collections.kvmfleet.compute.plugins.module_utils._libvirt import connection as _connection
from ansible_collections.kvmfleet.compute.plugins.module_utils._storage import identity as _identity

CAPABILITIES = parse_document("""
<capabilities><host><cpu><arch>x86_64</arch></cpu><topology><cells num='2'>
  <cell id='0'><memory unit='KiB'>2097152</memory><pages unit='KiB' size='4'>1</pages><cpus num='2'><cpu id='0'/><cpu id='1'/></cpus></cell>
  <cell id='2'><memory unit='KiB'>1048576</memory><cpus num='1'><cpu id='2'/></cpus></cell>
</cells></topology></host></capabilities>
""")
DOMAIN = parse_document("""
<domainCapabilities><domain>kvm</domain><arch>x86_64</arch>
  <os supported='yes'><enum name='firmware'><value>efi</value></enum>
    <loader supported='yes'><value>/usr/share/OVMF/OVMF_CODE.fd</value><enum name='secure'><value>yes</value><value>no</value></enum></loader></os>
  <cpu><mode name='host-model' supported='yes'><model>EPYC</model></mode>
    <mode name='custom' supported='yes'><model usable='yes'>EPYC</model><model usable='no'>Skylake</model><model usable='unknown'>power9</model></mode></cpu>
  <devices><tpm supported='yes'><enum name='model'><value>tpm-crb</value></enum><enum name='backendModel'><value>emulator</value></enum>
    <enum name='backendVersion'><value>2.0</value></enum></tpm></devices>
</domainCapabilities>
""")
PCI = """
<device><name>pci_{slot}</name><driver><name>{driver}</name></driver>
  <capability type='pci'><domain>0</domain><bus>193</bus><slot>{slot}</slot><function>0</function>
    <product id='0x20B0'>A100</product><vendor id='0x10de'>NVIDIA</vendor>{numa}</capability></device>
"""


def device(driver: str = "vfio-pci", numa: str = "<numa node='1'/>", slot: int = 0) -> Any:
    return parse_document(PCI.format(slot=slot, driver=driver, numa=numa))


def test_numa_cells() -> None:
    assert _capabilities.numa_cells(CAPABILITIES, {2: {"2048": 7}}, {1, 5}) == [
        {"id": 0, "cpus": 2, "cpu_list": "0-1", "pinned_cpus": 1, "pinned_cpu_list": "1", "memory_mb": 2048, "free_pages": {}},
        {"id": 2, "cpus": 1, "cpu_list": "2", "pinned_cpus": 0, "pinned_cpu_list": "", "memory_mb": 1024, "free_pages": {"2048": 7}},
    ]


def test_pci_devices_that_are_set_aside_are_counted_by_kind() -> None:
    devices = [device(), device(slot=1), device(slot=2), device(numa=""), device("nvidia"), parse_document("<device><capability type='system'/></device>")]
    kind = {"vendor_id": "10de", "product_id": "20b0"}
    assert _capabilities.pci_pools(devices, {(0, 193, 2, 0)}) == [{**kind, "numa_node": 1, "count": 2}, {**kind, "numa_node": None, "count": 1}]


def test_cpu_firmware_and_tpm() -> None:
    models = {"models": ["EPYC", "power9"], "unusable_models": ["Skylake"]}
    assert _capabilities.cpu(DOMAIN, ["aes"]) == {"virt_type": "kvm", "model": "EPYC", "features": ["aes"], **models}
    assert _capabilities.firmware(DOMAIN) == {"kinds": ["efi"], "loaders": ["/usr/share/OVMF/OVMF_CODE.fd"], "secure_boot": True}
    assert _capabilities.tpm(DOMAIN) == {"models": ["tpm-crb"], "backends": ["emulator"], "versions": ["2.0"]}


def test_capabilities_that_say_nothing() -> None:
    empty = parse_document("<domainCapabilities/>")
    assert _capabilities.cpu(empty, None) == {"virt_type": None, "model": None, "features": None, "models": [], "unusable_models": []}
    assert _capabilities.firmware(empty) == {"kinds": [], "loaders": [], "secure_boot": False}
    assert _capabilities.tpm(empty) == {"models": [], "backends": [], "versions": []}
    assert _capabilities.numa_cells(parse_document("<capabilities/>"), {}, ()) == []


@pytest.mark.parametrize(("entries", "version"), [(["cgroup.controllers"], 2), (["cpu/"], 1), ([], None)])
def test_cgroup_version(tmp_path: Path, entries: list[str], version: int | None) -> None:
    for entry in entries:
        (tmp_path / entry).mkdir() if entry.endswith("/") else (tmp_path / entry).touch()
    assert _capabilities.cgroup_version(str(tmp_path)) == version


def test_a_named_model_is_expanded_and_what_is_disabled_left_out(qemu: libvirt.virConnect) -> None:
    xml = "<cpu mode='custom' match='exact'><model>Nehalem</model><feature policy='require' name='aes'/><feature policy='disable' name='sse4.2'/></cpu>"
    features = _capabilities.expanded_features(qemu, xml, "qemu", "x86_64")
    assert {"aes", "sse4.1", "popcnt"} <= set(features)
    assert "sse4.2" not in features
    assert _capabilities.expanded_features(qemu, "<cpu><model>nonsense</model></cpu>", "qemu", "x86_64") is None


def test_a_host_offers_what_it_has(qemu: libvirt.virConnect, state: StateDir, tmp_path: Path) -> None:
    image = tmp_path / "base.raw"
    image.write_bytes(b"base")
    status = image.stat()
    record = {"path": str(image), "sha256": "aa", **_identity._stamp(status)}
    state.write("digests", "one", record)
    state.write("digests", "changed", {**record, "sha256": "bb", "size": 9})
    state.write("digests", "gone", {**record, "sha256": "cc", "path": str(tmp_path / "gone")})
    found = offers(qemu, state)
    assert found["bases"] == ["aa"]
    assert found["cpu"]["virt_type"] in ("kvm", "qemu")
    assert {"sse2", "fpu"} <= set(found["cpu"]["features"])
    assert found["numa_cells"][0]["cpus"] >= 1
    assert any(found["files"].values())


def test_a_driver_that_knows_little_leaves_it_open(state: StateDir) -> None:
    found = offers(libvirt.open("test:///default"), state)
    assert (found["cpu"], found["firmware"], found["tpm"], found["pci_devices"]) == (None, None, None, [])
    assert [cell["cpus"] for cell in found["numa_cells"]] == [8, 8]


def offers(connection: libvirt.virConnect, state: StateDir) -> dict[str, Any]:
    capabilities = parse_document(_connection.host_capabilities(connection))
    return _capabilities.offers(connection, state, capabilities, _bindings.of_guests(connection))
