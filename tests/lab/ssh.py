# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The one key that opens every host, and the known keys of the hosts."""

from __future__ import annotations

from .host.files import OPERATOR
from .settings import HostDescription, Lab
from .shell import run

CONTROL_SOCKETS = "control"


def ensure_key(lab: Lab) -> None:
    """Make the lab's key."""
    (lab.ssh_directory / CONTROL_SOCKETS).mkdir(parents=True, exist_ok=True, mode=0o700)
    key = lab.ssh_directory / "id_ed25519"
    if not key.with_suffix(".pub").exists():
        key.unlink(missing_ok=True)
        run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "kvmfleet-lab", "-f", str(key)])


def write_known_hosts(lab: Lab) -> None:
    """Write down the public keys of the hosts."""
    lines = []
    for host in lab.hosts:
        public_key = (lab.host_directory(host.name) / "etc/ssh/ssh_host_ed25519_key.pub").read_text().strip()
        lines.append(f"{lab.address(host)} {public_key}\n")
    (lab.ssh_directory / "known_hosts").write_text("".join(lines))


def common_arguments(lab: Lab) -> str:
    """Options every ssh connection to the lab needs."""
    return f"-F none -o UserKnownHostsFile={lab.ssh_directory}/known_hosts -o StrictHostKeyChecking=yes -o IdentitiesOnly=yes"


def command(lab: Lab, host: HostDescription, remote: str) -> list[str]:
    """Return the command line that runs `remote` on a host the way Ansible would reach it."""
    options = ["-o", "BatchMode=yes", "-o", "ConnectTimeout=5", "-i", str(lab.ssh_directory / "id_ed25519")]
    return ["ssh", *common_arguments(lab).split(), *options, f"{OPERATOR}@{lab.address(host)}", remote]


def close_connections(lab: Lab) -> None:
    """End the connections that Ansible keeps open between its runs."""
    for socket in (lab.ssh_directory / CONTROL_SOCKETS).glob("*"):
        run(["ssh", "-F", "none", "-o", f"ControlPath={socket}", "-O", "exit", "lab"], check=False)
