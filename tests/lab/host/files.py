# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A host's private files: its own /etc, /var, /home and /root, kept below the lab's directory."""

from __future__ import annotations

import os
import shutil
import uuid
from pathlib import Path

from ..errors import LabError
from ..settings import HostDescription, Lab, fleet_hosts
from ..shell import run

OPERATOR = "operator"
OPERATOR_UID = 4700
LIBVIRT_QEMU = "libvirt-qemu"
SWTPM = "tss"
SHARED_VAR = ("lib/apt", "lib/dpkg", "cache/apt")
"""Parts of /var that a host takes from where its /usr is, since they tell what is there."""
DEFAULT_NETWORK = "usr/share/libvirt/networks/default.xml"
FLEET_NETWORK = "<network><name>fleet</name><uuid>{uuid}</uuid><forward mode='bridge'/><bridge name='br0'/></network>\n"

LIBVIRTD_CONF = """\
auth_unix_ro = "none"
auth_unix_rw = "none"
unix_sock_group = "libvirt"
unix_sock_rw_perms = "0770"
host_uuid = "{uuid}"
log_outputs = "3:file:/var/log/libvirt/libvirtd.log"
"""

QEMU_CONF = """\
# No AppArmor profile fits these hosts; the machine's control groups are not theirs.
security_driver = "none"
cgroup_controllers = [ ]
"""

SSHD_CONFIG = """\
ListenAddress {address}
HostKey /etc/ssh/ssh_host_ed25519_key
PidFile /run/sshd.pid
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin no
UsePAM no
UseDNS no
MaxStartups 100
MaxSessions 100
Subsystem sftp internal-sftp
"""


def ensure_files(lab: Lab, host: HostDescription) -> Path:
    """Make the host's tree unless it is complete; return it."""
    tree = lab.host_directory(host.name)
    if not tree.exists():
        unfinished = tree.with_name(f"{tree.name}.new")
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(parents=True)
        operator_gid = _make_etc(lab, host, unfinished / "etc")
        _make_var(unfinished / "var", unfinished / "etc")
        _make_homes(lab, unfinished, operator_gid)
        unfinished.rename(tree)
    return tree


def _make_etc(lab: Lab, host: HostDescription, etc: Path) -> str:
    """Make /etc; return the operator's group id."""
    identity = uuid.uuid4()
    root = lab.root(host.name)
    run(["cp", "--archive", "--one-file-system", str(root / "etc"), str(etc)])
    _write(etc / "hostname", f"{host.name}\n")
    _write(etc / "machine-id", f"{identity.hex}\n")
    names = "".join(f"{lab.address(other)} {other.name}\n" for other in fleet_hosts())
    _write(etc / "hosts", f"127.0.0.1 localhost\n{names}")
    _make_libvirt_configuration(root, etc / "libvirt", identity)
    _make_ssh_configuration(etc / "ssh", lab.address(host), host.name)
    return _add_operator(etc)


def _add_operator(etc: Path) -> str:
    groups = [line.split(":") for line in (etc / "group").read_text().splitlines()]
    gid = next((fields[2] for fields in groups if fields[0] == OPERATOR), None)
    if gid is None:
        gid = str(OPERATOR_UID)
        _append(etc / "group", f"{OPERATOR}:x:{gid}:\n")
    _append(etc / "passwd", f"{OPERATOR}:x:{OPERATOR_UID}:{gid}:lab operator:/home/{OPERATOR}:/bin/bash\n")
    _append(etc / "shadow", f"{OPERATOR}:*:19000:0:99999:7:::\n")
    (etc / "sudoers.d").mkdir(exist_ok=True)
    _write(etc / "sudoers.d" / OPERATOR, f"{OPERATOR} ALL=(ALL:ALL) NOPASSWD: ALL\n", 0o440)
    return gid


def _make_libvirt_configuration(root: Path, libvirt: Path, identity: uuid.UUID) -> None:
    for name in ("qemu", "secrets", "storage"):
        shutil.rmtree(libvirt / name, ignore_errors=True)
    networks = libvirt / "qemu/networks"
    (networks / "autostart").mkdir(parents=True)
    if (root / DEFAULT_NETWORK).exists():
        shutil.copy(root / DEFAULT_NETWORK, networks / "default.xml")
    _write(networks / "fleet.xml", FLEET_NETWORK.format(uuid=uuid.uuid4()))
    (networks / "autostart/fleet.xml").symlink_to("/etc/libvirt/qemu/networks/fleet.xml")
    _write(libvirt / "libvirtd.conf", LIBVIRTD_CONF.format(uuid=identity))
    _write(libvirt / "qemu.conf", QEMU_CONF, 0o600)


def _make_ssh_configuration(ssh: Path, address: str, name: str) -> None:
    for old in ssh.glob("ssh_host_*"):
        old.unlink()
    shutil.rmtree(ssh / "sshd_config.d", ignore_errors=True)
    _write(ssh / "sshd_config", SSHD_CONFIG.format(address=address))
    run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", str(ssh / "ssh_host_ed25519_key")])


def _make_var(var: Path, etc: Path) -> None:
    for name in (*SHARED_VAR, "backups", "lib/libvirt/images/base", "lib/libvirt/boot", "log/libvirt/qemu", "cache/libvirt/qemu", "opt", "local", "spool"):
        (var / name).mkdir(parents=True, exist_ok=True)
    # As the package swtpm-tools makes it, for the certificates of TPMs.
    _make_directory(var / "lib/swtpm-localca", _ids(etc, SWTPM)[0], 0)
    (var / "tmp").mkdir()
    (var / "tmp").chmod(0o1777)
    (var / "run").symlink_to("/run")
    (var / "lock").symlink_to("/run/lock")
    _make_directory(var / "lib/libvirt/qemu", *_ids(etc, LIBVIRT_QEMU))


def _make_directory(path: Path, uid: int, gid: int) -> None:
    path.mkdir(mode=0o750)
    os.chown(path, uid, gid)


def _ids(etc: Path, user: str) -> tuple[int, int]:
    """Ids of a user of the host and of his group."""
    for line in (etc / "passwd").read_text().splitlines():
        name, _password, uid, gid, _rest = line.split(":", 4)
        if name == user:
            return int(uid), int(gid)
    raise LabError(f"{etc}/passwd knows no user {user}")


def _make_homes(lab: Lab, tree: Path, operator_gid: str) -> None:
    (tree / "root").mkdir(mode=0o700)
    home = tree / "home" / OPERATOR
    (home / ".ssh").mkdir(parents=True, mode=0o700)
    shutil.copy(lab.ssh_directory / "id_ed25519.pub", home / ".ssh/authorized_keys")
    home.chmod(0o700)
    run(["chown", "--recursive", f"{OPERATOR_UID}:{operator_gid}", str(home)])


def _write(path: Path, text: str, mode: int = 0o644) -> None:
    path.unlink(missing_ok=True)
    path.write_text(text)
    path.chmod(mode)


def _append(path: Path, text: str) -> None:
    with path.open("a") as file:
        file.write(text)
