# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What both journals hold of an operation, made from the facts of its guest."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible_collections.kvmfleet.compute.plugins.module_utils._rules.domain_facts import DomainFacts
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.planning import flavor_disks, storage


def begun(
    entry: Mapping[str, Any],
    domain: DomainFacts,
    host: str,
    old: dict[str, Any],
    new: dict[str, Any],
    root_size: int,
    disks: flavor_disks.Changes,
    *,
    tuning: dict[str, Any] | None,
    zone: str | None,
    live_differences: dict[str, Any],
    part_of: dict[str, Any] | None,
) -> dict[str, Any]:
    """What both journals hold of the operation, the first part of a `Record` (`_journal.record`)."""
    return {
        "instance_uuid": entry["uuid"],
        "instance_name": entry["name"],
        "migration_type": "migration" if new is old else "resize",
        "source_host": host,
        "old_flavor": old,
        "new_flavor": new,
        "tuning": tuning,
        "availability_zone": zone,
        "live_differences": live_differences,
        "part_of": part_of,
        "xml_digest": domain["xml_digest"],
        "agent_expected": bool(domain["agent"]["connected"]),
        "disks": [disk_of(disk, root_size, disks) for disk in storage.files(domain)],
        "new_disks": list(disks.new),
        "dropped_disks": disks.dropped,
        "left_out": [disk["target"] for disk in domain["disks"] if disk.get("left_out")],
        "flavor_disks": disks.known,
        "nvram": domain["firmware"].get("nvram"),
        "tpm": domain.get("tpm") is not None,
        "console_logs": domain.get("console_logs") or [],
        "owners": domain.get("owners") or {},
        "directories": domain.get("directories") or {},
        "secrets": [{key: value for key, value in secret.items() if key != "missing"} for secret in domain.get("secrets") or ()],
    }


def disk_of(disk: Mapping[str, Any], root_size: int, changes: flavor_disks.Changes) -> dict[str, Any]:
    """A disk of it.

    :param root_size: bytes that the root disk is to have at least.
    """
    chain, left_behind = disk["chain"], disk["target"] in changes.left_behind
    writable = disk["device"] == "disk" and not disk["readonly"]
    bases = _bases(chain) if writable and not left_behind else []
    grow_to = root_size if disk["root"] and root_size > disk["virtual_size"] else changes.grown.get(disk["target"])
    return {
        "target": disk["target"],
        "kind": "disk" if writable else "media",
        "pool": disk.get("pool"),
        "volume": disk.get("volume"),
        "path": disk["path"],
        "format": disk["format"],
        "chain": [[layer["path"], layer["format"], layer["virtual_size"]] for layer in chain],
        "allocated_bytes": disk["allocated_bytes"],
        "virtual_size": disk["virtual_size"],
        "encrypted": bool(disk.get("encrypted")),
        "base": bases[-1] if bases else None,
        "bases": bases,
        "grow_to": grow_to,
        **({"left_behind": True} if left_behind else {}),
    }


def _bases(chain: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Every layer that the guest only reads is a base image: the lowest first, since each `backing` is what the next one stands on."""
    found: list[dict[str, Any]] = []
    for layer in reversed(chain[1:]):
        below = {key: value for key, value in found[-1].items() if key != "backing"} if found else None
        found.append({**layer["identity"], "path": layer["path"], "backing": below})
    return found
