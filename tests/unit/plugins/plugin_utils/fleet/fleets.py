# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Small fleets as text: one line a host, one line a guest.

kvm1 zone=north ram=8 cpus=8
  web1 ram=2 off
"""

from __future__ import annotations

import json
import uuid
from typing import Any

from ansible_collections.kvmfleet.compute.plugins.filter.plan_drain import plan_drain
from ansible_collections.kvmfleet.compute.plugins.filter.plan_restore import plan_restore
from ansible_collections.kvmfleet.compute.plugins.plugin_utils import run

GIB = 1024**3
SCHEDULER = {"cpu_allocation_ratio": 16.0, "ram_allocation_ratio": 1.0, "disk_allocation_ratio": 1.0}


def uuid_of(name: str) -> str:
    """That of a guest, always the same."""
    return str(uuid.uuid5(uuid.NAMESPACE_DNS, name))


def domain(name: str, ram: float = 1, disk: int = 1, cpus: int = 1, running: bool = True, **changes: Any) -> dict[str, Any]:
    """As the module domain_info describes it."""
    path = f"/var/lib/libvirt/images/{name}.qcow2"
    return {
        "name": name,
        "uuid": uuid_of(name),
        "state": "running" if running else "shutoff",
        "persistent": True,
        "flavor": {"name": None, "vcpus": cpus, "ram": int(ram * 1024), "disk": disk},
        "machine": "pc-q35-7.2",
        "arch": "x86_64",
        "virt_type": "kvm",
        "emulator": "/usr/bin/qemu-system-x86_64",
        "disks": [
            {
                "target": "vda",
                "device": "disk",
                "readonly": False,
                "root": True,
                "path": path,
                "format": "qcow2",
                "virtual_size": disk * GIB,
                "allocated_bytes": disk * GIB // 4,
                "chain": [{"path": path, "format": "qcow2", "virtual_size": disk * GIB}],
            }
        ],
        "interfaces": [{"type": "bridge", "source": "br0", "mac": f"52:54:00:{uuid_of(name)[:2]}:{uuid_of(name)[2:4]}:{uuid_of(name)[4:6]}"}],
        "firmware": {"nvram": None, "loader": None, "nvram_template": None},
        "refusals": [],
        "agent": {"connected": True},
        "xml_digest": "cd",
        **changes,
    }


def host(name: str, ram: float = 16, cpus: int = 64, disk: int = 1000, zone: str = "north", **more: Any) -> dict[str, Any]:
    """A host without guests, as its facts tell it."""
    return {
        "host": name,
        "run": run.this().name,
        "up": True,
        "enabled": True,
        "availability_zone": zone,
        "aggregates": [],
        "vcpus": cpus,
        "vcpus_used": 0,
        "memory_mb": int(ram * 1024),
        "memory_mb_used": 0,
        "local_gb": disk,
        "local_gb_used": 0,
        "disk_available_least": None,
        "num_instances": 0,
        "num_io_ops": 0,
        "instances": [],
        "hypervisor_type": "QEMU",
        "hypervisor_version": 7002022,
        "supported_instances": [["x86_64", "kvm", "hvm"]],
        "domains": [],
        "migrations": [],
        "claims": [],
        **more,
    }


class Made:
    """A fleet: `facts` and what each host describes."""

    def __init__(self, *hosts: dict[str, Any]) -> None:
        self.facts = list(hosts)
        self.described: dict[str, list[dict[str, Any]]] = {each["host"]: [] for each in hosts}

    def host(self, name: str) -> dict[str, Any]:
        return next(each for each in self.facts if each["host"] == name)

    def guest(self, host_name: str, name: str, ram: float = 1, disk: int = 1, cpus: int = 1, running: bool = True, entry: Any = None, **changes: Any) -> Made:
        """One more guest."""
        made = domain(name, ram, disk, cpus, running, **changes)
        state = self.host(host_name)
        sizes = {"vcpus": cpus, "memory_mb": int(ram * 1024), "disk_gb": disk}
        state["domains"].append({"name": name, "uuid": made["uuid"], "state": made["state"], **sizes, **(entry or {})})
        self.charge(host_name, made["uuid"], sizes)
        self.described[host_name].append({"name": name, "uuid": made["uuid"], "domain": made, "error": None})
        return self

    def charge(self, host_name: str, uuid: str, sizes: dict[str, Any]) -> None:
        """What a guest takes of its host, or a claim."""
        state = self.host(host_name)
        state["instances"].append(uuid)
        for key, used in (("vcpus", "vcpus_used"), ("memory_mb", "memory_mb_used"), ("disk_gb", "local_gb_used")):
            state[used] += sizes[key]
        state["num_instances"] += 1

    def operation(self, name: str, source: str, destination: str, status: str = "finished", step: str = "finished", **more: Any) -> Made:
        """An open operation, whose guest is at its destination if it is finished, else at its source; both ends are charged."""
        finished = status == "finished"
        uuid = uuid_of(name)
        sizes = next(
            ({key: entry[key] for key in ("vcpus", "memory_mb", "disk_gb")} for state in self.facts for entry in state["domains"] if entry["uuid"] == uuid),
            {"vcpus": 1, "memory_mb": 1024, "disk_gb": 1},
        )
        for role, where, other in (("source", source, destination), ("destination", destination, source)):
            number = uuid_of(f"operation {name}")
            record = {
                "uuid": number, "instance_uuid": uuid, "instance_name": name, "role": role, "status": status, "step": step, "migration_type": "migration",
                "source_host": source, "destination_host": destination, "updated_at": 1000.0, "old_flavor": None, "new_flavor": None, "owner": "x", **more,
            }  # fmt: skip
            state = self.host(where)
            state["migrations"].append(record)
            claim = {"migration_uuid": number, "instance_uuid": uuid, "instance_name": name, "role": role, "vcpus": sizes["vcpus"], "ram": sizes["memory_mb"]}
            if uuid not in state["instances"]:
                self.charge(where, uuid, sizes)
            state["claims"].append({**claim, "disk_mb": sizes["disk_gb"] * 1024, "bytes": 0})
            assert finished or other
        return self

    def restore(self, host_name: str = "kvm1", back: Any = "all", **options: Any) -> Any:
        """The restore of a host."""
        described = [{"host": name, "guests": guests} for name, guests in self.described.items()]
        told = plan_restore(self.facts, host_name, described, back, options, SCHEDULER)
        assert json.loads(json.dumps(told)) == told
        return told

    def plan(self, *hosts: str, scheduler: dict[str, Any] | None = None, **options: Any) -> Any:
        """The drain of these hosts, kvm1 unless told."""
        described = [{"host": name, "guests": guests} for name, guests in self.described.items()]
        told = plan_drain(self.facts, list(hosts or ("kvm1",)), described, options, {**SCHEDULER, **(scheduler or {})})
        assert json.loads(json.dumps(told)) == told
        return told


def places(programme: Any) -> dict[str, str]:
    """Where each guest goes, by name."""
    return {move["instance"]: move["destination"] for move in programme["moves"]}
