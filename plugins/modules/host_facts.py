#!/usr/bin/python
# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: host_facts
short_description: Gather capacity, usage and capabilities of a compute host
version_added: 0.1.0
author:
  - kvmfleet contributors (@kvmfleet)
description:
  - Returns the state of one libvirt host as the fact C(kvmfleet_host), one element of what the filter
    P(kvmfleet.compute.select_destinations#filter) decides from.
  - Usage is reserved capacity plus all defined domains (stopped ones too) plus claims of operations. An instance that is defined and claimed is
    charged once, the larger of both.
  - The usage of all domains is read with one libvirt call, however many there are. What they have to themselves (MAC addresses, ports, CPUs, PCI devices)
    is read from the files in which libvirt keeps their definitions.
extends_documentation_fragment:
  - kvmfleet.compute.attributes
  - kvmfleet.compute.hanging
  - kvmfleet.compute.attributes.info_module
  - kvmfleet.compute.libvirt
  - kvmfleet.compute.state
options:
  host:
    description: Name of the host in the inventory.
    type: str
    required: true
  availability_zone:
    description: Zone of the host. A host without one is in the scheduler's default zone.
    type: str
  aggregates:
    description: Host aggregates that the host belongs to.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: Name of the aggregate.
        type: str
        required: true
      metadata:
        description: Keys and values of the aggregate.
        type: dict
        default: {}
  enabled:
    description: Whether instances may be placed on the host.
    type: bool
    default: true
  maintenance:
    description: Why the host is drained. While it is set, instances may leave the host, never stay or come.
    type: str
  reserved_host_memory_mb:
    description: Memory in MiB that the host keeps for itself.
    type: int
    default: 512
  reserved_host_cpus:
    description: Logical CPUs that the host keeps for itself.
    type: int
    default: 0
  reserved_host_disk_mb:
    description: Disk space in MiB that the host keeps for itself.
    type: int
    default: 0
  cpu_dedicated_set:
    description:
      - CPUs that are set aside for guests whose flavor has C(hw:cpu_policy=dedicated), such as V(4-11,^8). Each of their vCPUs gets one of them to itself.
      - The host and the other guests must be kept off these CPUs by their own means (C(isolcpus), C(cpuset) of their definitions or slices).
    type: str
    default: ""
  cpu_allocation_ratio:
    description: Virtual CPUs promised for one logical CPU. Without it the fleet's ratio holds.
    type: float
  ram_allocation_ratio:
    description: Guest memory promised for one unit of host memory. Without it the fleet's ratio holds.
    type: float
  disk_allocation_ratio:
    description: Disk space promised for one unit of it. Without it the fleet's ratio holds.
    type: float
  images_path:
    description: Directory of the guests' disks. Its filesystem is what disk figures are about.
    type: path
    default: /var/lib/libvirt/images
  disk_directories:
    description:
      - Directories of this host for disks, by name. A disk in one of them comes to lie in the one of the same name when its guest moves to another
        host.
    type: dict
    default: {}
  mappings:
    description:
      - What this host calls something that other hosts may call otherwise, by the name that the fleet gives it. What bears a name at the source of a guest
        is at its destination what bears that name there.
    type: dict
    default: {}
    suboptions:
      bridges:
        description: Linux bridges.
        type: dict
        default: {}
      networks:
        description: Networks of libvirt.
        type: dict
        default: {}
      pools:
        description: Storage pools.
        type: dict
        default: {}
      emulators:
        description: Paths of emulators.
        type: dict
        default: {}
      firmware:
        description: Paths of firmware and of templates of its variables.
        type: dict
        default: {}
  gathered_at:
    description: The time, in seconds since the epoch by the clock of the controller, to tell later how old the facts are.
    type: float
  gathered_by:
    description: Whose clock O(gathered_at) was read from, as C(clock) of P(kvmfleet.compute.this_run#lookup). Times of different clocks are not compared.
    type: str
  run:
    description: The run of Ansible in which the facts are gathered, as C(name) of P(kvmfleet.compute.this_run#lookup), to tell them from those of a cache.
    type: str
"""

EXAMPLES = r"""
- name: Gather the state of every compute host
  kvmfleet.compute.host_facts:
    host: "{{ inventory_hostname }}"
    availability_zone: "{{ kvmfleet_zone | default(omit) }}"
    ram_allocation_ratio: 1.5

- name: Show how much memory is promised
  ansible.builtin.debug:
    msg: "{{ kvmfleet_host.memory_mb_used }} of {{ kvmfleet_host.memory_mb }} MiB"
"""

RETURN = r"""
ansible_facts:
  description: Facts about the host.
  returned: success
  type: dict
  contains:
    kvmfleet_host:
      description: The state of the host. All figures are numbers.
      type: dict
      returned: success
      contains:
        host:
          description: Name of the host in the inventory.
          type: str
          returned: success
        availability_zone:
          description: Zone of the host, or V(null).
          type: str
          returned: success
        aggregates:
          description: Host aggregates, each with C(name) and C(metadata).
          type: list
          elements: dict
          returned: success
        enabled:
          description: Whether instances may be placed on the host.
          type: bool
          returned: success
        maintenance:
          description:
            - What closes the host for guests that come, V(null) if nothing does. The O(maintenance) that was given is a text; the host's own record
              (M(kvmfleet.compute.host_maintenance)), which goes before it, has C(state), C(uuid), C(reason), C(by), C(guests) and so on.
          type: raw
          returned: success
        maintenance_told:
          description: The O(maintenance) that was given.
          type: str
          returned: success
        cpu_dedicated_set:
          description: The O(cpu_dedicated_set) that was given.
          type: str
          returned: success
        gathered_at:
          description: The O(gathered_at) that was given, or V(null).
          type: float
          returned: success
        gathered_by:
          description: The O(gathered_by) that was given, or V(null).
          type: str
          returned: success
        run:
          description: The O(run) that was given, or V(null).
          type: str
          returned: success
        now:
          description: The time by the clock of this host, in seconds since the epoch. What its journal notes is by that clock too.
          type: float
          returned: success
        up:
          description: Always V(true). A host that cannot answer fails instead.
          type: bool
          returned: success
        machine_id:
          description: UUID of the host according to libvirt, else C(/etc/machine-id). Tells one host under two names.
          type: str
          returned: success
        hostname:
          description: What the host calls itself.
          type: str
          returned: success
        libvirt_version:
          description: Version of libvirt as C(major * 1000000 + minor * 1000 + release).
          type: int
          returned: success
        hypervisor_version:
          description: Version of QEMU as C(major * 1000000 + minor * 1000 + release).
          type: int
          returned: success
        hypervisor_type:
          description: Name of the hypervisor.
          type: str
          returned: success
          sample: QEMU
        python_version:
          description: Version of the Python that the module ran under.
          type: str
          returned: success
        arch:
          description: Architecture of the host.
          type: str
          returned: success
        cpu_model:
          description: CPU model that libvirt recognises, or V(null).
          type: str
          returned: success
        capabilities:
          description: The CPU of the host, for flavor extra specs such as C(capabilities:cpu_info:vendor).
          type: dict
          returned: success
        emulators:
          description: Path of the emulator for each guest architecture.
          type: dict
          returned: success
        virt_types:
          description: Virtualization types.
          type: list
          elements: str
          returned: success
          sample: [kvm, qemu]
        supported_instances:
          description: Triples of architecture, virtualization type and guest type.
          type: list
          elements: list
          returned: success
          sample: [[x86_64, kvm, hvm]]
        host_ip:
          description: Address that the host uses to reach others, or V(null).
          type: str
          returned: success
        cgroup_version:
          description: V(2) for the unified hierarchy, V(1) for the older one, V(null) without cgroups.
          type: int
          returned: success
        numa_cells:
          description: >-
            C(id), C(cpus), C(cpu_list) (their numbers), C(pinned_cpus) and C(pinned_cpu_list) (those that a vCPU has to itself), C(memory_mb) and
            C(free_pages) (by size in KiB) of each NUMA cell.
          type: list
          elements: dict
          returned: success
        pci_devices:
          description: >-
            Devices that are bound to vfio-pci and that no domain has, running or not, by C(vendor_id), C(product_id) and C(numa_node), with their
            C(count).
          type: list
          elements: dict
          returned: success
        cpu:
          description:
            - The CPU that guests can have, for one C(virt_type). C(model) and C(features) are the host's own, C(models) those that QEMU can offer,
              C(unusable_models) those that it knows and whose features the host has not all.
            - V(null) where libvirt cannot tell.
          type: dict
          returned: success
        firmware:
          description: C(loaders) that libvirt knows, C(kinds) that it can choose by itself, and whether there is C(secure_boot).
          type: dict
          returned: success
        tpm:
          description: C(models), C(backends) and C(versions) of TPMs for guests.
          type: dict
          returned: success
        files:
          description: Names of emulators and of firmware, by directory.
          type: dict
          returned: success
        bases:
          description: SHA-256 of the images that the host is known to hold.
          type: list
          elements: str
          returned: success
        machine_types:
          description: Machine types of all emulators.
          type: list
          elements: str
          returned: success
        vcpus:
          description: Logical CPUs of the host.
          type: int
          returned: success
        vcpus_used:
          description: vCPUs promised, reserved ones included.
          type: int
          returned: success
        memory_mb:
          description: Memory of the host in MiB.
          type: int
          returned: success
        memory_mb_used:
          description: Memory promised in MiB, reserved memory included.
          type: int
          returned: success
        local_gb:
          description: Size in GiB of the filesystem that holds O(images_path).
          type: float
          returned: success
        local_gb_used:
          description: GiB promised there (virtual sizes), reserved space included.
          type: float
          returned: success
        disk_available_least:
          description: GiB that are left there if every disk fills up and every claim is used.
          type: float
          returned: success
        disk_total_mb:
          description: Size of that filesystem in MiB.
          type: int
          returned: success
        disk_free_mb:
          description: Free space of that filesystem in MiB, as of now.
          type: int
          returned: success
        images_path:
          description: Directory of the guests' disks.
          type: str
          returned: success
        qemu:
          description:
            - As whom QEMU runs, as C(user), C(group), C(uid) and C(gid). V(null) for a name that the host does not know.
            - Whether libvirt gives the files of guests to it (C(dynamic_ownership)), and notes whose they were (C(remember_owner)).
          type: dict
          returned: success
        reserved:
          description: What the host keeps for itself, as C(memory_mb), C(vcpus) and C(disk_mb).
          type: dict
          returned: success
        cpu_allocation_ratio:
          description: The host's own ratio, or V(null).
          type: float
          returned: success
        ram_allocation_ratio:
          description: The host's own ratio, or V(null).
          type: float
          returned: success
        disk_allocation_ratio:
          description: The host's own ratio, or V(null).
          type: float
          returned: success
        domains:
          description: >-
            Every defined domain with C(name), C(uuid), C(state) (running, paused, shutdown while it goes down, shutoff, crashed, pmsuspended, blocked),
            C(vcpus), C(memory_mb), C(disk_gb) promised on the filesystem of O(images_path), C(persistent) and C(autostart).
          type: list
          elements: dict
          returned: success
        num_instances:
          description: Number of instances that are defined or claimed.
          type: int
          returned: success
        instances:
          description: UUIDs of instances that are defined or claimed.
          type: list
          elements: str
          returned: success
        origins:
          description: By UUID of a guest that a drain took from another host, C(host), C(drain) (its UUID) and C(at) (UTC).
          type: dict
          returned: success
        macs:
          description: MAC addresses of all domains.
          type: list
          elements: str
          returned: success
        exclusive:
          description:
            - >-
              Of what else a host can have one, who has it, by kind (C(tcp_port), C(udp_port), C(vsock_cid), C(device), C(socket), C(log)) and value, such as
              V({"tcp_port": {"5911": "db2"}}). These are guests, operations of which guests are on their way or sealed here, and the host itself.
            - The value of a port at which a process of the host listens at one address only is C(PORT@ADDRESS).
          type: dict
          returned: success
        networks:
          description: Active libvirt networks.
          type: list
          elements: str
          returned: success
        bridges:
          description: Linux bridges.
          type: list
          elements: str
          returned: success
        nwfilters:
          description: libvirt network filters.
          type: list
          elements: str
          returned: success
        pools:
          description: Storage pools with C(name), C(active), C(type) and C(path).
          type: list
          elements: dict
          returned: success
        mappings:
          description: The O(mappings), without those that are empty.
          type: dict
          returned: success
        disk_directories:
          description: The O(disk_directories), each with C(name), C(path) and whether it C(exists).
          type: list
          elements: dict
          returned: success
        migrations:
          description: Open records of the journal, without domain definitions. While a copy runs, the one of its destination has C(progress).
          type: list
          elements: dict
          returned: success
        forced_migrations:
          description: Records of operations that were ended without a host that was given up as lost and has not been seen without anything of them since.
          type: list
          elements: dict
          returned: success
        claims:
          description: Capacity that operations have claimed on this host.
          type: list
          elements: dict
          returned: success
        num_io_ops:
          description: Number of operations that are at work on this host now.
          type: int
          returned: success
        failed_builds:
          description: Number of operations that ended in an error on this host as their destination since the last one that succeeded there.
          type: int
          returned: success
        copy_rates:
          description: Bytes a second of the latest copy from each host, known for copies of 8 MiB and more.
          type: dict
          returned: success
        metrics:
          description: Reserved for metrics, empty.
          type: dict
          returned: success
        tools:
          description: Versions of C(nbdkit), C(qemu_storage_daemon), C(nbdcopy) and C(qemu_img), V(null) where one is missing.
          type: dict
          returned: success
error_code:
  description: >-
    What went wrong, for machines: V(host_hangs), V(run_gone),
    V(libvirt_unavailable), V(unsupported_uri), V(images_path_missing), V(invalid_parameter), V(record_unreadable),
    V(schema_too_new), V(invalid_directory), V(libvirt_error) or V(os_error).
  returned: failure
  type: str
details:
  description: Values that belong to the error.
  returned: failure
  type: dict
"""

import os
import time
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.kvmfleet.compute.plugins.module_utils._host.state import Reserved, host_state
from ansible_collections.kvmfleet.compute.plugins.module_utils._journal.state_dir import StateDir
from ansible_collections.kvmfleet.compute.plugins.module_utils._libvirt import connection as _connection
from ansible_collections.kvmfleet.compute.plugins.module_utils._module import LIBVIRT_ARGS, STATE_ARGS, run
from ansible_collections.kvmfleet.compute.plugins.module_utils._rules import cpu_set as _cpu_set
from ansible_collections.kvmfleet.compute.plugins.module_utils._rules.errors import KvmfleetError

RATIOS = ("cpu_allocation_ratio", "ram_allocation_ratio", "disk_allocation_ratio")
RESERVED = ("reserved_host_memory_mb", "reserved_host_cpus", "reserved_host_disk_mb")
FROM_CONTROLLER = ("host", "availability_zone", "aggregates", "enabled", "maintenance", "cpu_dedicated_set", "gathered_at", "gathered_by", "run", *RATIOS)

ARGUMENT_SPEC: dict[str, Any] = {
    "host": {"type": "str", "required": True},
    "availability_zone": {"type": "str"},
    "aggregates": {
        "type": "list",
        "elements": "dict",
        "default": [],
        "options": {"name": {"type": "str", "required": True}, "metadata": {"type": "dict", "default": {}}},
    },
    "enabled": {"type": "bool", "default": True},
    "maintenance": {"type": "str"},
    "reserved_host_memory_mb": {"type": "int", "default": 512},
    "reserved_host_cpus": {"type": "int", "default": 0},
    "reserved_host_disk_mb": {"type": "int", "default": 0},
    "cpu_dedicated_set": {"type": "str", "default": ""},
    **{name: {"type": "float"} for name in RATIOS},
    "images_path": {"type": "path", "default": "/var/lib/libvirt/images"},
    "disk_directories": {"type": "dict", "default": {}},
    "mappings": {
        "type": "dict",
        "default": {},
        "options": {kind: {"type": "dict", "default": {}} for kind in ("bridges", "networks", "pools", "emulators", "firmware")},
    },
    "gathered_at": {"type": "float"},
    "gathered_by": {"type": "str"},
    "run": {"type": "str"},
    **LIBVIRT_ARGS,
    **STATE_ARGS,
}


def main(module: AnsibleModule) -> dict[str, Any]:
    params = module.params
    for name in RESERVED:
        if params[name] < 0:
            raise KvmfleetError("invalid_parameter", f"{name} is {params[name]}; it must not be negative.", parameter=name, value=params[name])
    for name in RATIOS:
        if params[name] is not None and not params[name] > 0:
            raise KvmfleetError("invalid_parameter", f"{name} is {params[name]}; it must be greater than 0.", parameter=name, value=params[name])
    try:
        _cpu_set.parse(params["cpu_dedicated_set"], "cpu_dedicated_set")
    except KvmfleetError as exc:
        raise KvmfleetError("invalid_parameter", exc.message, parameter="cpu_dedicated_set", value=params["cpu_dedicated_set"]) from None
    directories = [{"name": name, "path": path, "exists": os.path.isdir(path)} for name, path in _directories(params["disk_directories"])]
    mappings = {kind: _one_to_one(kind, named) for kind, named in params["mappings"].items() if named}
    reserved = Reserved(*(params[name] for name in RESERVED))
    with _connection.connect(params["uri"]) as connection:
        found = host_state(connection, StateDir(params["state_path"]), reserved=reserved, images_path=params["images_path"])
    told = {name: params[name] for name in FROM_CONTROLLER}
    # Either closes the host; its own record says more.
    closed = {"maintenance": found.pop("maintenance") or params["maintenance"], "maintenance_told": params["maintenance"]}
    return {"ansible_facts": {"kvmfleet_host": {**told, "now": time.time(), "disk_directories": directories, "mappings": mappings, **found, **closed}}}


def _one_to_one(kind: str, named: dict[str, Any]) -> dict[str, str]:
    """Where one thing bears two names, nobody could tell which one a guest means."""
    names: dict[str, str] = {}
    for name, local in sorted(named.items()):
        if not isinstance(local, str) or not local:
            raise KvmfleetError("invalid_parameter", f"mappings.{kind}.{name} is {local!r}; it must be what this host calls it.", parameter="mappings")
        if local in names:
            raise KvmfleetError("invalid_parameter", f"mappings.{kind}: {local} has two names, {names[local]} and {name}.", parameter="mappings", value=local)
        names[local] = str(name)
    return {name: local for local, name in names.items()}


def _directories(named: dict[str, Any]) -> list[tuple[str, str]]:
    for name, path in named.items():
        if not isinstance(path, str) or not os.path.isabs(path):
            raise KvmfleetError("invalid_parameter", f"disk_directories: {name} is {path!r}; it must be an absolute path.", parameter="disk_directories")
    return [(str(name), os.path.normpath(path)) for name, path in sorted(named.items())]


if __name__ == "__main__":
    run(main, ARGUMENT_SPEC)
