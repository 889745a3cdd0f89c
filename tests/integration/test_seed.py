# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A seed for cloud-init (NoCloud): a guest that sees another one than at its first boot takes itself for a new instance."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from support.definition import add, edited
from support.faults import Subject, eventually
from support.fleet import Fleet
from support.guest import Guest, Guests
from support.lab import IMAGES, Lab

SEED = f"{IMAGES}/web-seed.iso"
DRIVE = f"""
<controller type='scsi' model='virtio-scsi'/>
<disk type='file' device='cdrom'><driver name='qemu' type='raw'/><source file='{SEED}'/><target dev='sda' bus='scsi'/><readonly/></disk>
"""
SERIAL = "<sysinfo type='smbios'><system><entry name='serial'>web-0001</entry></system></sysinfo>"
# What cloud-init takes for the identity of an instance: the seed with its label and its instance-id, and what the firmware says.
_IDENTITY = """
sha256sum </dev/sr0
dd if=/dev/sr0 bs=1 skip=32808 count=6 2>/dev/null && echo
mkdir -p /run/seed && mount -t iso9660 -o ro /dev/sr0 /run/seed && cat /run/seed/meta-data && umount /run/seed
cat /sys/class/dmi/id/product_uuid /sys/class/dmi/id/product_serial
find /var/lib/cloud -type f -exec sha256sum {} +
"""
BASE = "debian"
# Seconds that a guest with systemd and cloud-init may take to boot without KVM while others use the processors.
SLOWNESS = 900
USER_DATA = """hostname: web
bootcmd: ['echo boot >>/var/log/boots']
runcmd: ['cat /var/lib/cloud/data/instance-id >>/var/log/first-boots']"""
# What cloud-init did when it saw the instance for the first time, and when.
_FIRST_TIME = """
cat /var/lib/cloud/data/instance-id /var/log/first-boots /etc/hostname /etc/ssh/ssh_host_ed25519_key.pub
find /var/lib/cloud/instances/*/sem -type f -printf '%p %T@\\n' | sort
"""
_FIRST_BOOT = """
mkdir -p /var/lib/cloud/data /var/lib/cloud/instances/iid-web-1/sem
echo iid-web-1 >/var/lib/cloud/data/instance-id
date >/var/lib/cloud/instances/iid-web-1/sem/config_ssh
sync
"""


def make_seed(lab: Lab, user_data: str) -> None:
    """Put a seed on kvm1."""
    files = "printf 'instance-id: iid-web-1\nlocal-hostname: web\n' >meta-data"
    script = f"mkdir /tmp/seed && cd /tmp/seed && {files} && cat >user-data <<'END'\n#cloud-config\n{user_data}\nEND"
    lab["kvm1"].sh(f"{script}\ngenisoimage -quiet -output {SEED} -volid cidata -joliet -rock user-data meta-data && rm -r /tmp/seed")


def add_seed(lab: Lab) -> None:
    """Let the guest have it."""
    with edited(lab["kvm1"], "web") as root:
        add(root, SERIAL)
        add(root.find("os"), "<smbios mode='sysinfo'/>")
        add(root.find("devices"), DRIVE)


@pytest.fixture
def seeded(lab: Lab, guests: Guests) -> Iterator[Guest]:
    """A guest with a seed, whose cloud-init (which it has not) has seen it."""
    guest = guests.create("web", "kvm1", start=False)
    make_seed(lab, "hostname: web")
    add_seed(lab)
    lab["kvm1"].virsh("start", "web")
    guest.exec("sh", "-c", _FIRST_BOOT)
    yield guest
    guests.delete_all()
    for host in lab.hosts.values():
        host.run("rm", "-f", SEED)


@pytest.mark.slow
def test_a_seed_travels_byte_for_byte(lab: Lab, fleet: Fleet, seeded: Guest) -> None:
    """All that cloud-init goes by is the same; the source keeps the file, since other guests may have it too."""
    subject = Subject(lab, seeded, seeded.write())
    before, seed = seeded.exec("sh", "-c", _IDENTITY), lab["kvm1"].sha256(SEED)
    assert [seed in before, "\ncidata\ninstance-id: iid-web-1\n" in before, "\nweb-0001\n" in before] == [True] * 3
    fleet.resize("web", "medium", target_host="kvm2").ok()
    assert subject.runs_once_with_its_data() == "kvm2"
    assert seeded.exec("sh", "-c", _IDENTITY) == before
    fleet.play("confirm", instance="web").ok()
    assert (lab["kvm1"].sha256(SEED), lab["kvm2"].sha256(SEED)) == (seed, seed)


@pytest.fixture
def debian(lab: Lab, guests: Guests) -> Iterator[Guest]:
    """A guest that has cloud-init, and a seed."""
    for host in ("kvm1", "kvm2"):
        lab.call("base", "put", BASE, "--host", host, "--debian", timeout=SLOWNESS)
    guest = guests.create("web", "kvm1", "--base", BASE, start=False)
    make_seed(lab, USER_DATA)
    add_seed(lab)
    lab["kvm1"].virsh("start", "web")
    yield guest
    guests.delete_all()
    for host in lab.hosts.values():
        host.run("rm", "-f", SEED)
    for name in ("kvm1", "kvm2"):
        lab.call("base", "remove", BASE, "--host", name)


def boots(guest: Guest, count: int) -> None:
    """Wait until cloud-init has done what it had to do in this boot of the guest."""
    script = "[ -e /run/cloud-init/result.json ] && wc -l </var/log/boots || true"
    eventually(lambda: guest.exec("sh", "-c", script) == str(count), f"cloud-init has seen {count} boots", SLOWNESS)
    result = guest.exec("cat", "/run/cloud-init/result.json")
    assert ["[seed=/dev/sr0]" in result, '"errors": []' in result] == [True, True], result


@pytest.mark.slow
@pytest.mark.timeout(4 * SLOWNESS)
def test_cloud_init_knows_the_instance_after_a_move(lab: Lab, fleet: Fleet, debian: Guest) -> None:
    """It runs at each boot, and does not do again what it does for a new instance: keys of the host, commands of the user."""
    boots(debian, 1)
    subject, first = Subject(lab, debian, debian.write()), debian.exec("sh", "-c", _FIRST_TIME)
    assert first.startswith("iid-web-1\niid-web-1\nweb\nssh-ed25519 ")
    assert "/iid-web-1/sem/config_ssh " in first
    fleet.resize("web", "medium", target_host="kvm2").ok()
    boots(debian, 2)
    assert subject.runs_once_with_its_data() == "kvm2"
    assert debian.exec("sh", "-c", _FIRST_TIME) == first
    assert debian.exec("cat", "/var/lib/cloud/data/previous-instance-id") == "iid-web-1"
    fleet.play("confirm", instance="web").ok()
