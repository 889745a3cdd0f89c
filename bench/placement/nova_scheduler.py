# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Nova's scheduler on the same hosts and requests: its HostState, HostManager, filters and weighers as they are installed.

Only the database is left out: what `HostManager` would load from it is handed over as the same objects, before the clock starts. Filters that
Nova has removed come from the release named in NOVA_REMOVED_FILTERS (an unpacked wheel) and run on today's base classes.
"""

from __future__ import annotations

import collections
import importlib.util
import logging
import os
import sys
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nova import context as nova_context, objects
from nova.conf import CONF
from nova.scheduler import host_manager
from oslo_utils import timeutils

REMOVED = ("ram_filter", "core_filter", "disk_filter", "retry_filter", "availability_zone_filter")
CELL = str(uuid.UUID(int=1))
HOST_KEYS = ("vcpus", "vcpus_used", "memory_mb", "memory_mb_used", "local_gb", "local_gb_used", "disk_available_least", "hypervisor_type", "hypervisor_version")
RATIOS = ("cpu_allocation_ratio", "ram_allocation_ratio", "disk_allocation_ratio")
MULTIPLIERS = {
    "RAMWeigher": "ram_weight_multiplier",
    "CPUWeigher": "cpu_weight_multiplier",
    "DiskWeigher": "disk_weight_multiplier",
    "IoOpsWeigher": "io_ops_weight_multiplier",
    "NumInstancesWeigher": "num_instances_weight_multiplier",
    "HypervisorVersionWeigher": "hypervisor_version_weight_multiplier",
    "BuildFailureWeigher": "build_failure_weight_multiplier",
    "ServerGroupSoftAffinityWeigher": "soft_affinity_weight_multiplier",
    "ServerGroupSoftAntiAffinityWeigher": "soft_anti_affinity_weight_multiplier",
}


def start() -> None:
    """Once per process: configuration without files, the objects, and no log, which would cost Nova time."""
    logging.disable(logging.CRITICAL)
    CONF([], project="nova", default_config_files=[])
    CONF.set_override("service_down_time", 10**6)
    objects.register_all()


def removed_filters() -> dict[str, type]:
    """The filters that today's Nova has no more, out of the older release's files."""
    directory = Path(os.environ["NOVA_REMOVED_FILTERS"]) / "nova" / "scheduler" / "filters"
    found = {}
    for name in REMOVED:
        module = sys.modules.get(f"removed_{name}")
        if module is None:
            spec = importlib.util.spec_from_file_location(f"removed_{name}", directory / f"{name}.py")
            module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(module)
        found |= {cls.__name__: cls for cls in vars(module).values() if isinstance(cls, type) and cls.__module__ == module.__name__}
    return found


class Manager(host_manager.HostManager):
    """Nova's manager without a database behind it."""

    def __init__(self, filters: Sequence[str], weighers: Mapping[str, float]) -> None:
        self.enabled_names = list(filters)
        chosen = [path for path in _weigher_paths() if path.rsplit(".", 1)[1] in weighers]
        CONF.set_override("weight_classes", chosen, group="filter_scheduler")
        for name, multiplier in weighers.items():
            CONF.set_override(MULTIPLIERS[name], multiplier, group="filter_scheduler")
        super().__init__()
        self.filter_cls_map |= removed_filters()
        self.enabled_filters = self._choose_host_filters(self.enabled_names)

    def refresh_cells_caches(self) -> None:
        self.cells = {}

    def _init_aggregates(self) -> None:
        pass

    def _init_instance_info(self, computes_by_cell: Any = None) -> None:
        pass

    def _load_filters(self) -> list[str]:
        return []

    def load(self, hosts: Sequence[Mapping[str, Any]]) -> None:
        """What the database would hold of the hosts."""
        aggregates: dict[tuple, objects.Aggregate] = {}
        for host in hosts:
            zone = {"name": f"zone-{host['availability_zone']}", "metadata": {"availability_zone": host["availability_zone"]}}
            for item in (zone, *host["aggregates"]):
                key = item["name"]
                if key not in aggregates:
                    aggregates[key] = objects.Aggregate(id=len(aggregates) + 1, name=key, metadata=dict(item["metadata"]), hosts=[])
                aggregates[key].hosts.append(host["host"])
            self._instance_info[host["host"]] = {"instances": {guest: objects.Instance(uuid=guest) for guest in host["instances"]}, "updated": True}
        self.host_aggregates_map = collections.defaultdict(set)
        for aggregate in aggregates.values():
            self.aggs_by_id[aggregate.id] = aggregate
            for name in aggregate.hosts:
                self.host_aggregates_map[name].add(aggregate.id)
        self.computes = {CELL: [_compute_node(index, host) for index, host in enumerate(hosts)]}
        self.services = {host["host"]: _service(index, host) for index, host in enumerate(hosts)}

    def states(self) -> list[host_manager.HostState]:
        """The host states that Nova makes anew for every request, in the order of the hosts (Nova's own is that of a set)."""
        made = {state.host: state for state in self._get_host_states(nova_context.get_admin_context(), self.computes, self.services)}
        return [made[compute.host] for compute in self.computes[CELL]]

    def decide(self, states: Sequence[host_manager.HostState], spec: objects.RequestSpec) -> list[Any]:
        """Filter and weigh."""
        return self.get_weighed_hosts(list(self.get_filtered_hosts(states, spec)), spec)

    def rejected(self, states: Sequence[host_manager.HostState], spec: objects.RequestSpec) -> dict[str, set[str]]:
        """What each filter refuses when it is asked about every host."""
        everyone = {state.host for state in states}
        return {type(item).__name__: everyone - {state.host for state in item.filter_all(states, spec)} for item in self.enabled_filters}


def request_spec(request: Mapping[str, Any], hosts: Sequence[Mapping[str, Any]]) -> objects.RequestSpec:
    """The request as Nova's API would hand it to the scheduler for a resize."""
    flavor, group = request["flavor"], request["server_group"]
    ignored = [*request["ignore_hosts"], *([] if request["allow_resize_to_same_host"] else [request["instance"]["host"]])]
    return objects.RequestSpec(
        instance_uuid=request["instance"]["uuid"],
        project_id="project",
        num_instances=1,
        is_bfv=False,
        flavor=objects.Flavor(
            name="new",
            vcpus=flavor["vcpus"],
            memory_mb=flavor["ram"],
            root_gb=flavor["disk"],
            ephemeral_gb=flavor["ephemeral"],
            swap=flavor["swap"],
            extra_specs=dict(flavor["extra_specs"]),
        ),
        image=objects.ImageMeta(properties=objects.ImageMetaProps.from_dict(request["image"]["properties"])),
        availability_zone=request["availability_zone"],
        retry=objects.SchedulerRetries(
            num_attempts=1, hosts=objects.ComputeNodeList(objects=[objects.ComputeNode(host=n, hypervisor_hostname=n) for n in request["retry"]["hosts"]])
        ),
        instance_group=_instance_group(group, hosts) if group else None,
        ignore_hosts=ignored,
        force_hosts=None,
        force_nodes=None,
        requested_destination=None,
        scheduler_hints={},
        limits=objects.SchedulerLimits(),
        numa_topology=None,
        pci_requests=None,
    )


def _instance_group(group: Mapping[str, Any], hosts: Sequence[Mapping[str, Any]]) -> objects.InstanceGroup:
    members = set(group["members"])
    return objects.InstanceGroup(
        uuid=CELL,
        policy=group["policy"],
        policies=[group["policy"]],
        rules={},
        members=list(group["members"]),
        hosts=[host["host"] for host in hosts if members.intersection(host["instances"])],
    )


def _compute_node(index: int, host: Mapping[str, Any]) -> objects.ComputeNode:
    return objects.ComputeNode(
        id=index + 1,
        uuid=str(uuid.UUID(int=index + 1)),
        host=host["host"],
        hypervisor_hostname=host["host"],
        free_ram_mb=host["memory_mb"] - host["memory_mb_used"],
        free_disk_gb=host["local_gb"] - host["local_gb_used"],
        cpu_info=None,
        supported_hv_specs=[objects.HVSpec.from_list(triple) for triple in host["supported_instances"]],
        stats={
            "num_instances": str(host["num_instances"]),
            "io_workload": str(host["num_io_ops"]),
            "failed_builds": str(host["failed_builds"]),
            **host["capabilities"],
        },
        host_ip=None,
        numa_topology=None,
        pci_device_pools=None,
        metrics="[]",
        updated_at=None,
        **{key: host[key] for key in (*HOST_KEYS, *RATIOS)},
    )


def _service(index: int, host: Mapping[str, Any]) -> objects.Service:
    return objects.Service(
        id=index + 1,
        host=host["host"],
        binary="nova-compute",
        topic="compute",
        disabled=not host["enabled"],
        forced_down=not host["up"],
        last_seen_up=timeutils.utcnow(),
        created_at=timeutils.utcnow(),
        updated_at=None,
    )


def _weigher_paths() -> list[str]:
    from nova.scheduler import weights

    return [f"{cls.__module__}.{cls.__name__}" for cls in weights.all_weighers() if isinstance(cls, type)]
