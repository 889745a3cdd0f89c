# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A plan as a destination is handed it, complete."""

from __future__ import annotations

from typing import Any

GIB = 1024**3


def disk(path: str, target: str = "vda", **changes: Any) -> dict[str, Any]:
    """A disk in a file that stands on nothing."""
    size = changes.get("virtual_size", GIB)
    found: dict[str, Any] = {
        "target": target,
        "kind": "disk",
        "pool": None,
        "volume": None,
        "path": path,
        "format": "qcow2",
        "allocated_bytes": 200704,
        "virtual_size": size,
        "encrypted": False,
        "base": None,
        "bases": [],
        "grow_to": None,
        **changes,
    }
    return {"chain": [[path, found["format"], size]], **found}


def plan(name: str, uuid: str, disks: list[dict[str, Any]], **changes: Any) -> dict[str, Any]:
    """The record of a plan."""
    flavor = {"name": "m1", "vcpus": 1, "ram": 256, "disk": 1, "ephemeral": 0, "swap": 0, "extra_specs": {}}
    return {
        "instance_uuid": uuid,
        "instance_name": name,
        "migration_type": "migration",
        "source_host": "kvm1",
        "old_flavor": flavor,
        "new_flavor": flavor,
        "xml_digest": "cd",
        "agent_expected": False,
        "disks": disks,
        "new_disks": [],
        "dropped_disks": [],
        "flavor_disks": {},
        "nvram": None,
        "tpm": False,
        "console_logs": [],
        "secrets": [],
        "tuning": None,
        "availability_zone": None,
        **changes,
    }
