# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Random fleets and requests, the same for every scheduler that is asked: plain dicts of the `select_destinations` contract, drawn from a seed."""

from __future__ import annotations

import json
import random
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

ZONES = ("az1", "az2", "az3")
X86 = [["x86_64", "kvm", "hvm"], ["x86_64", "qemu", "hvm"], ["i686", "kvm", "hvm"]]
ARM = [["aarch64", "kvm", "hvm"]]

ARTICLE_FILTERS = (
    "RetryFilter",
    "AvailabilityZoneFilter",
    "RamFilter",
    "ComputeFilter",
    "ComputeCapabilitiesFilter",
    "ImagePropertiesFilter",
    "ServerGroupAntiAffinityFilter",
    "ServerGroupAffinityFilter",
)
PROFILES: dict[str, tuple[tuple[str, ...], dict[str, float]]] = {
    "13+6": (
        (*ARTICLE_FILTERS, "CoreFilter", "DiskFilter", "IoOpsFilter", "NumInstancesFilter", "AggregateInstanceExtraSpecsFilter"),
        {"RAMWeigher": 1.0, "CPUWeigher": 1.0, "DiskWeigher": 1.0, "IoOpsWeigher": -1.0, "HypervisorVersionWeigher": 1.0, "BuildFailureWeigher": 1000000.0},
    ),
    "article": (ARTICLE_FILTERS, {"RAMWeigher": 1.0}),
}


def fleet(count: int, seed: int, *, roomy: bool = False) -> list[dict[str, Any]]:
    """`count` hosts; `roomy` leaves out most of what makes a host unfit, so that most of them reach the weighers."""
    draw = random.Random(seed)  # noqa: S311 (repeatable, guards nothing)
    aggregates = [_aggregate(draw, index) for index in range(6)]
    return [_host(draw, index, aggregates, roomy) for index in range(count)]


def request(hosts: Sequence[Mapping[str, Any]], seed: int, *, roomy: bool = False) -> dict[str, Any]:
    """A guest on one of the hosts, which may not stay there, and a flavor to find room for."""
    draw = random.Random(seed)  # noqa: S311 (repeatable, guards nothing)
    current = draw.choice(hosts)
    return {
        "instance": {"name": "web1", "uuid": (current["instances"] or [_uuid(draw)])[0], "host": current["host"]},
        "flavor": _flavor(draw, roomy),
        "image": {"properties": {} if draw.random() < 0.3 else {"hw_architecture": "x86_64", "img_hv_type": "kvm", "hw_vm_mode": "hvm"}},
        "availability_zone": current["availability_zone"] if roomy or draw.random() < 0.7 else draw.choice(ZONES),
        "ignore_hosts": [host["host"] for host in draw.sample(hosts, min(len(hosts), draw.choice((0, 0, 2))))],
        "retry": {"hosts": [host["host"] for host in draw.sample(hosts, min(len(hosts), draw.choice((0, 1, 3))))]},
        "server_group": _server_group(draw, hosts, current),
        "allow_resize_to_same_host": False,
    }


def _host(draw: random.Random, index: int, aggregates: Sequence[dict[str, Any]], roomy: bool) -> dict[str, Any]:
    rare = 0.02 if roomy else 0.15
    vcpus, memory_mb, local_gb = draw.choice((8, 16, 64)), draw.choice((16384, 65536, 262144)), draw.choice((200, 1000, 4000))
    fill = 0.7 if roomy else 1.1
    used = int(local_gb * draw.random() * fill)
    instances = [_uuid(draw) for _guest in range(draw.randrange(6 if roomy else 12))]
    return {
        "host": f"kvm{index:05}",
        "availability_zone": draw.choice(ZONES),
        "aggregates": draw.sample(aggregates, draw.randrange(3)),
        "enabled": draw.random() >= rare / 2,
        "up": draw.random() >= rare / 2,
        "vcpus": vcpus,
        "vcpus_used": int(vcpus * draw.random() * (4 if roomy else 18)),
        "memory_mb": memory_mb,
        "memory_mb_used": int(512 + memory_mb * draw.random() * fill * 1.5),
        "local_gb": local_gb,
        "local_gb_used": used,
        "disk_available_least": draw.choice((None, local_gb - used - draw.randrange(20))),
        "cpu_allocation_ratio": draw.choice((4.0, 16.0)),
        "ram_allocation_ratio": draw.choice((1.0, 1.5)),
        "disk_allocation_ratio": draw.choice((1.0, 1.25)),
        "num_instances": len(instances),
        "num_io_ops": draw.randrange(3) if draw.random() >= rare else 8,
        "instances": instances,
        "hypervisor_type": "QEMU",
        "hypervisor_version": draw.choice((7002000, 8002000, 9000000)),
        "supported_instances": ARM if draw.random() < rare else X86,
        "capabilities": {"ssd": draw.choice(("true", "false")), "site": json.dumps({"row": draw.randrange(4), "power": ["a", "b"]})},
        "failed_builds": draw.choice((0, 0, 0, 1, 3)),
    }


def _aggregate(draw: random.Random, index: int) -> dict[str, Any]:
    metadata = {"tier": draw.choice(("gold", "silver", "gold,silver"))}
    if draw.random() < 0.3:
        metadata["ram_allocation_ratio"] = draw.choice(("1.25", "2", "10.0"))
    if draw.random() < 0.3:
        metadata["max_instances_per_host"] = draw.choice(("3", "10"))
    if draw.random() < 0.3:
        metadata["ram_weight_multiplier"] = draw.choice(("0.5", "2.0", "-1.0"))
    return {"name": f"group{index}", "metadata": metadata}


def _flavor(draw: random.Random, roomy: bool) -> dict[str, Any]:
    specs = {}
    if draw.random() < (0.2 if roomy else 0.4):
        specs["capabilities:ssd"] = draw.choice(("true", "s== false", "<or> true <or> maybe"))
    if draw.random() < 0.2:
        specs["capabilities:hypervisor_version"] = draw.choice((">= 8002000", "= 8000000", "!= 9000000"))
    if draw.random() < 0.1:
        specs["capabilities:site:row"] = draw.choice(("<or> 1 <or> 2", ">= 2", "s> 0"))
    if draw.random() < 0.1:
        specs["capabilities:site:power"] = draw.choice(("<in> a", "<all-in> a b", "<in> c"))
    if draw.random() < 0.2:
        specs["aggregate_instance_extra_specs:tier"] = draw.choice(("gold", "silver"))
    sizes = (1, 2, 4) if roomy else (1, 4, 12, 32)
    return {
        "vcpus": draw.choice(sizes),
        "ram": draw.choice(sizes) * 2048,
        "disk": draw.choice(sizes) * 20,
        "ephemeral": draw.choice((0, 0, 10)),
        "swap": draw.choice((0, 0, 512)),
        "extra_specs": specs,
    }


def _server_group(draw: random.Random, hosts: Sequence[Mapping[str, Any]], current: Mapping[str, Any]) -> dict[str, Any]:
    policy = draw.choice((None, None, "anti-affinity", "affinity", "soft-anti-affinity", "soft-affinity"))
    if policy is None:
        return {}
    crowd = [guest for host in draw.sample(hosts, min(len(hosts), 5)) if host is not current for guest in host["instances"]]
    return {"policy": policy, "members": crowd[:4]}


def _uuid(draw: random.Random) -> str:
    return str(uuid.UUID(int=draw.getrandbits(128), version=4))
