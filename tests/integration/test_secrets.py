# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Secrets of libvirt: of disks that are encrypted with LUKS, in files and in network storage, and of an encrypted TPM."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator

import pytest
from support import tpm
from support.definition import add_devices
from support.faults import QUICK, SWITCH, Subject, play_to_death
from support.fleet import Fleet
from support.guest import Guest, Guests
from support.lab import IMAGES, STATE, Host, Lab

KEY, OTHER_KEY = "xyzzy-plugh-4711", "another-key"
SECRET, USAGE = "3f5d8f9c-2c1e-4f0a-9d35-3a2a5cf0a001", "disks of web"
OF_TPM = "3f5d8f9c-2c1e-4f0a-9d35-3a2a5cf0a002"
OF_DISKS = f"<usage type='volume'><volume>{USAGE}</volume></usage>"
FILES = {"vdb": (f"{IMAGES}/web.raw", "raw"), "vdc": (f"{IMAGES}/web.luks.qcow2", "qcow2")}
# qemu-img measures how fast the processor is, and gives up where the clock of its own processor time has not moved.
CREATE = "for try in $(seq 50); do qemu-img create -q --object secret,id=s,data={key} -f {options} {path} 64M && break; done; test -e {path}"
OPTIONS = {"raw": "luks -o key-secret=s,iter-time=10", "qcow2": "qcow2 -o encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=10"}
LOOK = ("sh", "-c", "for disk in vdb vdc vdd; do [ ! -b /dev/$disk ] || head -c 32M /dev/$disk | sha256sum; done")
FILL = ("sh", "-c", "for disk in vdb vdc vdd; do [ ! -b /dev/$disk ] || dd if=/dev/urandom of=/dev/$disk bs=1M count=3 2>/dev/null; done; sync")


def define_secret(host: Host, key: str = KEY, uuid: str = SECRET, usage: str = OF_DISKS) -> None:
    xml = f"<secret><uuid>{uuid}</uuid>{usage}</secret>"
    host.sh(f"cat >/tmp/secret.xml <<'END'\n{xml}\nEND\nvirsh -q secret-define /tmp/secret.xml && rm /tmp/secret.xml")
    host.sh(f"printf %s {key} >/tmp/value && virsh -q secret-set-value {uuid} --file /tmp/value --plain && rm /tmp/value")


def holders(lab: Lab, uuid: str = SECRET) -> list[str]:
    """The hosts that have the secret, with its value."""
    return [name for name, host in lab.hosts.items() if uuid in host.virsh("secret-list") and host.virsh("secret-get-value", uuid, check=False)]


def encrypted(target: str, kind: str, source: str, image_format: str = "raw", by: str = f"uuid='{SECRET}'", inner: str = "") -> str:
    secret = f"<encryption format='luks'><secret type='passphrase' {by}/></encryption>"
    place = f"<source {source}>{inner}{secret}</source><target dev='{target}' bus='virtio'/>"
    return f"<disk type='{kind}' device='disk'><driver name='qemu' type='{image_format}'/>{place}</disk>"


@pytest.fixture(autouse=True)
def no_secrets(lab: Lab) -> Iterator[None]:
    """Every host is without secrets after a test."""
    yield
    for host in lab.hosts.values():
        for line in host.virsh("secret-list").splitlines():
            host.virsh("secret-undefine", line.split()[0])


@pytest.fixture
def locked(lab: Lab, guests: Guests) -> Iterator[Guest]:
    """A guest that runs with two encrypted files."""
    guest, host = guests.create("web", "kvm1", start=False), lab["kvm1"]
    define_secret(host)
    for target, (path, image_format) in FILES.items():
        host.sh(CREATE.format(key=KEY, options=OPTIONS[image_format], path=path))
        add_devices(host, "web", encrypted(target, "file", f"file='{path}'", image_format))
    host.virsh("start", "web")
    yield guest.wait()
    guests.delete_all()


@pytest.mark.slow
def test_encrypted_disks_move_and_grow(lab: Lab, fleet: Fleet, locked: Guest) -> None:
    """With their secret, which is at the source until confirm, and at the destination no longer than the guest; its value is nowhere else."""
    locked.exec(*FILL)
    subject, seen = Subject(lab, locked, locked.write()), locked.exec(*LOOK)
    planned = fleet.play("plan", instance="web", target_host="kvm2").ok().said
    assert f"carry secret {SECRET} (its value travels, encrypted, where the destination lacks the secret)" in planned
    moved = fleet.play("migrate", "-vvv", instance="web", target_host="kvm2").ok()
    assert (subject.runs_once_with_its_data(), locked.exec(*LOOK), holders(lab)) == ("kvm2", seen, ["kvm1", "kvm2"])
    told = [moved.output, *(lab[name].sh(f"cat {STATE}/migrations/*") for name in ("kvm1", "kvm2"))]
    encoded = lab["kvm1"].virsh("secret-get-value", SECRET).strip()
    assert not [text for text in told if KEY in text or encoded in text]
    assert subprocess.run(["grep", "-rlE", f"{KEY}|{encoded}", str(fleet.directory)], capture_output=True, text=True, check=False).stdout == ""
    fleet.play("revert", instance="web").ok()
    assert (subject.runs_once_with_its_data(), locked.exec(*LOOK), holders(lab)) == ("kvm1", seen, ["kvm1"])

    error = fleet.play("resize", instance="web", flavor="medium", root_disk="vdb", target_host="kvm1").refused()
    assert "A resize in place would write over the encrypted disks vdb, vdc of web without encryption" in error
    fleet.resize("web", "medium", root_disk="vdb", target_host="kvm2").ok()
    fleet.play("confirm", instance="web").ok()
    assert (subject.runs_once_with_its_data(), locked.exec(*LOOK), holders(lab)) == ("kvm2", seen, ["kvm2"])
    sizes = [int(size) * 512 for size in locked.exec("cat", "/sys/block/vdb/size", "/sys/block/vdc/size").splitlines()]
    assert sizes == [fleet.flavors["medium"]["disk"] * 1024**3, 64 * 1024**2]


@pytest.mark.slow
def test_an_encrypted_qcow2_image_grows_after_a_run_that_died(lab: Lab, fleet: Fleet, locked: Guest) -> None:
    locked.exec(*FILL)
    subject, seen = Subject(lab, locked, locked.write()), locked.exec(*LOOK)
    words = {"root_disk": "vdc", "target_host": "kvm2", "resize_allow_resize_to_same_host": False, "instance": "web", "flavor": "medium"}
    assert play_to_death(fleet, SWITCH, "resize", **words, **QUICK)
    fleet.play("recover", instance="web", **QUICK).ok()
    assert (subject.runs_once_with_its_data(), locked.exec(*LOOK), holders(lab)) == ("kvm1", seen, ["kvm1"])
    fleet.play("resize", **words).ok()
    assert (subject.runs_once_with_its_data(), locked.exec(*LOOK), holders(lab)) == ("kvm2", seen, ["kvm1", "kvm2"])
    assert int(locked.exec("cat", "/sys/block/vdc/size")) * 512 == fleet.flavors["medium"]["disk"] * 1024**3
    fleet.play("confirm", instance="web").ok()


@pytest.mark.slow
def test_network_storage_that_is_encrypted(lab: Lab, fleet: Fleet, guests: Guests) -> None:
    """Its secret travels too, named by its usage; where another guest names it, it stays."""
    guest, other, host = guests.create("web", "kvm1", start=False), guests.create("other", "kvm1", start=False), lab["kvm1"]
    define_secret(host)
    server = f"<host name='{lab.inventory['compute']['hosts']['kvm3']['ansible_host']}' port='10810'/>"
    device = encrypted("vdd", "network", "protocol='nbd' name='data'", by=f"usage='{USAGE}'", inner=server)
    lab["kvm3"].sh(CREATE.format(key=KEY, options=OPTIONS["raw"], path="/root/data.luks"))
    lab["kvm3"].sh("nbdkit --pidfile /run/nbdkit.pid --port 10810 file /root/data.luks && sleep 0.5")
    try:
        for name in ("web", "other"):
            add_devices(host, name, device)
        host.virsh("start", "web")
        guest.wait().exec(*FILL)
        subject, seen = Subject(lab, guest, guest.write()), guest.exec(*LOOK)
        fleet.play("migrate", instance="web", target_host="kvm2").ok()
        fleet.play("confirm", instance="web").ok()
        assert (subject.runs_once_with_its_data(), guest.exec(*LOOK), holders(lab)) == ("kvm2", seen, ["kvm1", "kvm2"])
        fleet.play("migrate", instance="other", target_host="kvm2").ok()
        fleet.play("revert", instance="other").ok()
        assert (other.hosts, holders(lab)) == (["kvm1"], ["kvm1", "kvm2"])
    finally:
        guests.delete_all()
        lab["kvm3"].sh("kill $(cat /run/nbdkit.pid); rm /root/data.luks")


@pytest.mark.slow
def test_secrets_that_cannot_travel(lab: Lab, fleet: Fleet, guests: Guests) -> None:
    """Each is a refusal before the guest is touched; a private one has to be there, and is left there."""
    guest, host, destination = guests.create("web", "kvm1", start=False), lab["kvm1"], lab["kvm2"]
    host.sh(CREATE.format(key=KEY, options=OPTIONS["raw"], path=FILES["vdb"][0]))
    add_devices(host, "web", encrypted("vdb", "file", f"file='{FILES['vdb'][0]}'"))
    assert f"secret {SECRET}, which disk vdb needs, is not defined on this host" in fleet.play("migrate", instance="web").refused()
    define_secret(host)
    define_secret(destination, OTHER_KEY)
    error = fleet.play("migrate", instance="web", target_host="kvm2").refused()
    assert f"the volume secret {SECRET} of the usage {USAGE}, which disk vdb needs, has another value here than at the source" in error
    assert KEY not in error
    assert (guest.hosts, host.virsh("secret-get-value", SECRET) == destination.virsh("secret-get-value", SECRET)) == (["kvm1"], False)
    define_secret(destination)
    fleet.play("migrate", instance="web", target_host="kvm2").ok()
    fleet.play("confirm", instance="web").ok()
    assert (guest.hosts, holders(lab)) == (["kvm2"], ["kvm1", "kvm2"])


@pytest.mark.slow
def test_a_guest_unseals_what_an_encrypted_tpm_sealed_before(lab: Lab, fleet: Fleet, guests: Guests) -> None:
    guest, source = guests.create("web", "kvm1", start=False), lab["kvm1"]
    define_secret(source, uuid=OF_TPM, usage="<usage type='vtpm'><name>tpm of web</name></usage>")
    add_devices(source, "web", tpm.device(f"<encryption secret='{OF_TPM}'/>"))
    source.virsh("start", "web")
    subject = Subject(lab, guest.wait(), guest.write())
    sealed = tpm.Sealed(guest)
    for verb, name, left in (("revert", "kvm1", ["kvm1"]), ("confirm", "kvm2", ["kvm2"])):
        fleet.play("migrate", instance="web", target_host="kvm2").ok()
        assert (subject.runs_once_with_its_data(), sealed.opens(), holders(lab, OF_TPM)) == ("kvm2", True, ["kvm1", "kvm2"])
        fleet.play(verb, instance="web").ok()
        assert (subject.runs_once_with_its_data(), sealed.opens(), holders(lab, OF_TPM)) == (name, True, left)
