# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a guest needs of a host: all of it for the claim, and what facts can answer for the scheduler."""

from __future__ import annotations

from typing import Any

from ansible_collections.kvmfleet.compute.plugins.module_utils._rules.domain_facts import DomainFacts
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.planning import flavor_disks, guest, mapping, record, storage

_FOR_THE_CLAIM = ("network_disks", "mtus")
"""Requirements that no fact answers."""


def of_destination(domain: DomainFacts, translation: mapping.Names) -> dict[str, Any]:
    """What a destination must have, as it calls it itself, checked there under the lock of the claim."""
    kinds = {"network": "networks", "bridge": "bridges"}
    interfaces = [{**nic, "source": mapping.of(translation, kinds.get(nic["type"], ""), nic["source"])} for nic in domain["interfaces"]]
    return {
        "arch": domain["arch"],
        "virt_type": domain["virt_type"],
        "machine": domain["machine"],
        "emulator": mapping.of(translation, "emulators", domain["emulator"]),
        "networks": sorted({nic["source"] for nic in interfaces if nic["type"] == "network" and nic["source"]}),
        "bridges": sorted({nic["source"] for nic in interfaces if nic["type"] == "bridge" and nic["source"]}),
        "mtus": [{key: nic[key] for key in ("type", "source", "mtu")} for nic in interfaces if nic["source"] and nic.get("mtu")],
        "macs": sorted({nic["mac"] for nic in interfaces if nic["mac"]}),
        "exclusive": domain.get("exclusive") or {},
        "loader": mapping.of(translation, "firmware", domain["firmware"].get("loader")),
        "nvram_template": mapping.of(translation, "firmware", domain["firmware"].get("nvram_template")),
        "host_cpus": domain.get("host_cpus"),
        "pinned_cpus": domain.get("pinned_cpus"),
        "huge_pages": domain.get("huge_pages"),
        "network_disks": list(filter(None, (disk.get("network") for disk in domain["disks"]))),
    }


def for_scheduler(domain: DomainFacts, flavor: dict[str, Any] | None, root_size: int, changes: flavor_disks.Changes) -> dict[str, Any]:
    """The requirements as far as the facts of a host can answer them, for the scheduler."""
    disks = [disk for disk in storage.files(domain) if disk["target"] not in changes.left_behind]
    firmware, cpu = domain["firmware"], domain.get("cpu")
    bases = {base["sha256"]: base["size_bytes"] for disk in disks for base in record.disk_of(disk, 0, changes)["bases"]}
    root = guest.root_of_movable(domain)
    growth = max(0, root_size - (root["virtual_size"] or 0)) if root_size and root["path"] else 0
    return {
        **{key: value for key, value in of_destination(domain, {}).items() if key not in _FOR_THE_CLAIM},
        "firmware": "efi" if firmware.get("kind") == "uefi" and not firmware.get("loader") else None,
        "secure_boot": domain.get("secure_boot"),
        "tpm": domain.get("tpm"),
        "cpu": cpu if cpu and cpu.get("mode") else None,
        "cpu_shares": domain.get("cpu_shares"),
        "nwfilters": sorted({reference["name"] for reference in domain.get("references") or () if reference["kind"] == "nwfilter"}),
        "overlay_bytes": sum(disk["allocated_bytes"] for disk in disks),
        "growth_bytes": growth + (flavor_disks.bytes_to_come(domain, flavor) if flavor else 0),
        "bases": [{"sha256": sha256, "size_bytes": size} for sha256, size in bases.items()],
    }
