# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lab as an Ansible inventory."""

from __future__ import annotations

import json
import os
from pathlib import Path

from . import ssh
from .host.files import OPERATOR
from .settings import Lab, fleet_flavors

MIB = 1024 * 1024
SHARE_OF_MACHINE = 0.9
"""A machine smaller than the roomiest host of the fleet file shrinks all of them, the roomiest to this share of itself."""


def render(lab: Lab) -> str:
    """Return the inventory in YAML."""
    hosts = {
        host.name: {
            "ansible_host": lab.address(host),
            "kvmfleet_zone": host.zone,
            "kvmfleet_reserved_host_memory_mb": _reserved_memory(lab, host.memory_mb),
        }
        for host in lab.hosts
    }
    variables = {
        "ansible_user": OPERATOR,
        "ansible_ssh_private_key_file": f"{lab.ssh_directory}/id_ed25519",
        "ansible_ssh_common_args": ssh.common_arguments(lab),
        "ansible_control_path_dir": f"{lab.ssh_directory}/{ssh.CONTROL_SOCKETS}",
        "ansible_ssh_pipelining": True,
        "ansible_python_interpreter": "/usr/bin/python3",
        "kvmfleet_flavors": fleet_flavors(),
    }
    return "---\n" + _yaml({"compute": {"hosts": hosts, "vars": variables}})


def write(lab: Lab, path: Path) -> None:
    """Write the inventory to a file."""
    path.write_text(render(lab))


def _reserved_memory(lab: Lab, memory_mb: int) -> int:
    """All hosts see the machine's whole memory: reserve what is beyond the size a host shall seem to have."""
    machine = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // MIB
    roomiest = max(host.memory_mb for host in lab.hosts)
    scale = min(1.0, machine * SHARE_OF_MACHINE / roomiest)
    return machine - int(memory_mb * scale)


def _yaml(value: dict, indent: str = "") -> str:
    lines = []
    for key, item in value.items():
        nested = isinstance(item, dict)
        lines.append(f"{indent}{key}:\n{_yaml(item, indent + '  ')}" if nested else f"{indent}{key}: {json.dumps(item)}\n")
    return "".join(lines)
