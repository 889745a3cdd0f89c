# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Guests that run where libvirt gives no file to QEMU, which is another user.

A process has one libvirt with one configuration, so that the guests run from a process of its own. What its QEMU can do is found out by another one
before it, as root: libvirt takes a minute to learn that as a user who may not open /dev/kvm, which is hidden here from both.
"""

from __future__ import annotations

import json
import os
import pwd
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

import ansible_collections.kvmfleet.compute as collection

LEARN = r"""
import sys, threading
import libvirt

libvirt.registerErrorHandler(lambda context, error: None, None)
libvirt.virEventRegisterDefaultImpl()
threading.Thread(target=lambda: [libvirt.virEventRunDefaultImpl() for _turn in iter(int, 1)], daemon=True).start()
libvirt.open(f"qemu:///embed?root={sys.argv[1]}").getDomainCapabilities(None, None, None, "qemu", 0)
"""
COLLECTIONS = str(Path(next(iter(collection.__path__))).parents[2])
PROGRAM = r"""
import json, os, subprocess, sys, threading, uuid
import libvirt
from ansible_collections.kvmfleet.compute.plugins.module_utils._guest.facts import domain_facts
from ansible_collections.kvmfleet.compute.plugins.module_utils._journal.records import Journal
from ansible_collections.kvmfleet.compute.plugins.module_utils._journal.state_dir import StateDir
from ansible_collections.kvmfleet.compute.plugins.module_utils._libvirt import definitions as _definitions
from ansible_collections.kvmfleet.compute.plugins.module_utils._operation import in_place as _in_place, precopy as _precopy
from ansible_collections.kvmfleet.compute.plugins.module_utils._storage import qemu_access as _qemu_access, qemu_img as _qemu_img, qemu_user as _qemu_user

root = sys.argv[1]
libvirt.registerErrorHandler(lambda context, error: None, None)
libvirt.virEventRegisterDefaultImpl()

def turn():
    while True:
        libvirt.virEventRunDefaultImpl()

threading.Thread(target=turn, daemon=True).start()
conn = libvirt.open(f"qemu:///embed?root={root}")
process = _qemu_user.of_host(conn)
images = f"{root}/images"
os.mkdir(images)
os.chmod(images, 0o711)
state = StateDir(f"{root}/state")
journal = Journal(state)
flavor = {"name": "large", "vcpus": 1, "ram": 64, "disk": 1, "ephemeral": 0, "swap": 0, "extra_specs": {}}

def guest(name, role):
    # one that runs, and the record of an operation on it
    path = f"{images}/{name}.qcow2"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", path, "64M"], check=True)
    os.chown(path, process.uid, process.gid)
    os.chmod(path, 0o640)
    domain = conn.defineXML(
        f"<domain type='qemu'><name>{name}</name><uuid>{uuid.uuid4()}</uuid><memory unit='MiB'>32</memory><os><type machine='q35'>hvm</type></os><devices>"
        f"<disk type='file' device='disk'><driver name='qemu' type='qcow2'/><source file='{path}'/><target dev='vda' bus='virtio'/></disk></devices></domain>"
    )
    domain.create()
    facts = domain_facts(domain, state, image_directories=[images])
    layers = _qemu_img.chain(path, "qcow2", [images], force_share=True)
    disk = {"target": "vda", "kind": "disk", "path": path, "format": "qcow2", "allocated_bytes": 0, "virtual_size": layers[0].virtual_size,
            "grow_to": None, "base": None, "bases": [], "chain": [[layer.path, layer.format, layer.virtual_size] for layer in layers]}
    return domain, facts, journal.begin({
        "uuid": str(uuid.uuid4()), "owner": "o", "role": role, "instance_uuid": domain.UUIDString(), "instance_name": name, "migration_type": "resize",
        "source_host": "kvm1", "destination_host": "kvm1", "availability_zone": None, "old_flavor": flavor, "new_flavor": flavor,
        "xml_digest": _definitions.fingerprint(domain), "agent_expected": False, "disks": [disk], "nvram": None, "image_directories": [images], "tuning": None,
        "owners": facts["owners"], "new_disks": [], "dropped_disks": [], "flavor_disks": {},
    })

ahead, facts, record = guest("ahead", "source")
_record, frozen = _precopy.freeze(conn, journal, record, ahead, rate=0, downtime=1, max_rounds=1, quiesce=False)
grown, facts, record = guest("grown", "in_place")
chosen, obstacles = _qemu_access.looks(conn, record)
record = journal.update(record, looks=chosen)
shutdown = {"timeout": 0, "retry_interval": 1, "on_timeout": "destroy", "modes": ["acpi"]}
_in_place.resize(conn, journal, record, shutdown=shutdown, watch={"settle": 0.2, "agent_timeout": 0})
files = {name: [os.stat(f"{images}/{name}").st_uid, os.stat(f"{images}/{name}").st_mode & 0o777] for name in sorted(os.listdir(images))}
running = [bool(conn.lookupByName(name).isActive()) for name in ("ahead", "grown")]
told = {"owner": facts["owners"]["vda"], "frozen": frozen["frozen"], "obstacles": [str(found) for found in obstacles], "running": running, "files": files}
for name in ("ahead", "grown"):
    conn.lookupByName(name).destroy()
print(json.dumps(told))
"""


@pytest.fixture
def root() -> Iterator[str]:
    """Of a libvirt, where every user gets to, and whose sockets have short names."""
    if os.geteuid():
        pytest.skip("only root can start a guest as another user")
    with tempfile.TemporaryDirectory(prefix="kvmfleet-") as directory:
        Path(directory).chmod(0o755)
        for name in ("etc", "learning/etc", "cache"):
            (Path(directory) / name).mkdir(parents=True)
        (Path(directory) / "learning/cache").symlink_to(f"{directory}/cache")
        (Path(directory) / "learning/etc/qemu.conf").write_text('user = "root"\ngroup = "root"\n')
        lines = ('user = "nobody"', 'group = "nogroup"', "dynamic_ownership = 0", 'security_driver = "none"', 'stdio_handler = "file"', "namespaces = []")
        (Path(directory) / "etc/qemu.conf").write_text("".join(f"{line}\n" for line in lines))
        yield directory


def test_a_layer_that_a_guest_goes_on_in_belongs_to_whom_its_disk_belongs_to(root: str) -> None:
    """One of pre-copy, which libvirt makes, and one of a resize in place."""
    for name, program in (("learn.py", LEARN), ("run.py", PROGRAM)):
        (Path(root) / name).write_text(program)
    (Path(root) / "nothing").touch(mode=0o000)
    hiding = "if [ -e /dev/kvm ]; then mount --bind $1/nothing /dev/kvm; fi"
    script = f'set -e; {hiding}; "$0" $1/learn.py $1/learning; exec "$0" $1/run.py $1'
    command = ["unshare", "--mount", "sh", "-c", script, sys.executable, root]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=300, env={**os.environ, "PYTHONPATH": COLLECTIONS})
    assert done.returncode == 0, done.stderr[-3000:]
    told = json.loads(done.stdout)
    assert (told["owner"]["of_qemu"], told["owner"]["given"], told["obstacles"]) == ([True, True], False, [])
    assert (told["frozen"], told["running"]) == (True, [True, True])
    assert len(told["files"]) == 4
    assert set(map(tuple, told["files"].values())) == {(pwd.getpwnam("nobody").pw_uid, 0o640)}, told["files"]
