#!/usr/bin/python
# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: domain_info
short_description: Describe a libvirt domain, or all of a host, with all that they refer to
version_added: 0.1.0
author:
  - kvmfleet contributors (@kvmfleet)
description:
  - Returns what a plan needs to know about a domain. That is its flavor in force, every disk with its complete backing chain, interfaces, firmware,
    state, and everything outside the definition that it refers to, each with the answer whether a move carries it, keeps it or refuses.
  - Nothing that libvirt considers a secret is returned.
extends_documentation_fragment:
  - kvmfleet.compute.attributes
  - kvmfleet.compute.hanging
  - kvmfleet.compute.attributes.info_module
  - kvmfleet.compute.libvirt
  - kvmfleet.compute.state
options:
  name:
    description: Name or UUID of the domain. Without it, all domains of the host are described.
    type: str
  image_directories:
    description: Directories that images may lie in. An image elsewhere, backing files included, is not opened.
    type: list
    elements: path
    default: [/var/lib/libvirt/images]
  digests:
    description:
      - Whether to identify the layers below the guest-writable one by their content, which reads them completely.
      - What was found is kept in O(state_path) and not computed again until the file changes.
      - Without it, those are identified of which that is kept, and nothing is written.
    type: bool
    default: false
  flavor:
    description:
      - A flavor that the domain is to get. What its definition cannot be given is listed in RV(domain.refusals), and RV(domain.cpu_shares),
        RV(domain.host_cpus) and RV(domain.huge_pages) are those that it will have.
      - Nothing is changed.
    type: dict
    suboptions:
      vcpus:
        description: Number of vCPUs.
        type: int
        required: true
      ram:
        description: Memory in MiB.
        type: int
        required: true
      tuning:
        description: What the extra specs of the flavor come to, as P(kvmfleet.compute.locate_instance#filter) returns it.
        type: dict
  live_differences:
    description:
      - With V(keep) the domain is described as it would be with all that it has now in its definition. What cannot be kept is a refusal.
    type: str
    choices: [keep, drop]
  root_disk:
    description:
      - Target of the root disk, such as V(vdb), where RV(domain.disks[].root) would be another one. It must be a disk that the guest writes to alone.
    type: str
  ephemeral_disk:
    description:
      - Target of the disk that the C(ephemeral) of a flavor is about, such as V(vdb), where the metadata of this collection names none or another one.
      - It must lie in a file or volume that the guest writes to alone, and must not be the root disk.
    type: str
  swap_disk:
    description: Target of the disk that the C(swap) of a flavor is about; else as O(ephemeral_disk).
    type: str
"""

EXAMPLES = r"""
- name: Describe a guest
  kvmfleet.compute.domain_info:
    name: vm1
  register: guest

- name: Show why it cannot be moved
  ansible.builtin.debug:
    var: guest.domain.refusals

- name: Describe all guests of the host
  kvmfleet.compute.domain_info:
  register: all_guests

- name: Describe a guest by UUID, base images by content
  kvmfleet.compute.domain_info:
    name: 8f1c9f54-6c1a-4a55-a5d5-b1a4f6f1f3a7
    digests: true
"""

RETURN = r"""
domain:
  description: The domain, or V(null) where none of this name or UUID is defined on the host.
  returned: with O(name)
  type: dict
  contains:
    name:
      description: Name of the domain.
      type: str
      returned: success
    uuid:
      description: UUID of the domain.
      type: str
      returned: success
    state:
      description: Running, paused, shutdown (while it goes down), shutoff, crashed, pmsuspended, blocked or nostate, in lower case.
      type: str
      returned: success
      sample: shutoff
    autostart:
      description: Whether the domain starts with the host.
      type: bool
      returned: success
    persistent:
      description: Whether the domain is defined, and not only running.
      type: bool
      returned: success
    origin:
      description: Where a drain took the guest from, as C(host), C(drain) (its UUID) and C(at) (UTC), until it is at home again. V(null) for any other guest.
      type: dict
      returned: success
    managed_save:
      description: Whether the guest's memory is saved, to be restored with the next start.
      type: bool
      returned: success
    snapshots:
      description: The snapshots that libvirt knows of the domain, parents first.
      type: list
      elements: dict
      returned: success
      contains:
        name:
          description: Name of the snapshot.
          type: str
          returned: success
        current:
          description: Whether the guest goes on from it.
          type: bool
          returned: success
        external:
          description: Whether a disk is written to a file of its own since.
          type: bool
          returned: success
    not_layered:
      description: Why no layer may come over the disks of the domain while it runs, so that they cannot be copied ahead; empty where it may.
      type: list
      elements: str
      returned: success
    not_in_place:
      description: C(code) and C(reason) of what keeps the domain from being resized where it is.
      type: list
      elements: dict
      returned: success
    checkpoints:
      description: C(name) of each of the checkpoints, parents first, and the C(disks) that it has a bitmap of.
      type: list
      elements: dict
      returned: success
    has_checkpoints:
      description: Whether libvirt knows checkpoints of the domain, from which incremental backups are made.
      type: bool
      returned: success
    flavor:
      description: What the guest has.
      type: dict
      returned: success
      contains:
        name:
          description: Name of the flavor, or V(null) unless this collection gave the guest a flavor and the guest still has this size.
          type: str
          returned: success
        vcpus:
          description: vCPUs online at boot.
          type: int
          returned: success
        ram:
          description: Memory in MiB.
          type: int
          returned: success
        disk:
          description: Virtual size of the root disk in GiB, rounded up.
          type: int
          returned: success
        ephemeral:
          description: Virtual size of the ephemeral disk in GiB, rounded up, V(0) without one.
          type: int
          returned: success
        swap:
          description: Virtual size of the swap disk in MiB, rounded up, V(0) without one.
          type: int
          returned: success
        extra_specs:
          description: Extra specs of that flavor; empty where RV(domain.flavor.name) is V(null).
          type: dict
          returned: success
    machine:
      description: Machine type.
      type: str
      returned: success
      sample: pc-q35-7.2
    arch:
      description: Architecture of the guest.
      type: str
      returned: success
      sample: x86_64
    virt_type:
      description: Virtualization type.
      type: str
      returned: success
      sample: kvm
    emulator:
      description: Path of the emulator.
      type: str
      returned: success
    cpu:
      description: >-
        CPU C(mode) and C(model) of the definition, V(null) where it names none; C(features) is everything that a named model gives the guest, V(null) where
        the host decides.
      type: dict
      returned: success
    cpu_shares:
      description: CPU shares that the definition asks for, or V(null).
      type: int
      returned: success
    host_cpus:
      description: >-
        The numbers of the C(cpus) and (NUMA) C(nodes) of the host that the definition names, but for CPUs that a flavor with C(hw:cpu_policy=dedicated)
        bound the vCPUs to, since those are chosen anew on each host.
      type: dict
      returned: success
    pinned_cpus:
      description: The numbers of the CPUs of the host that vCPUs of the guest have to themselves.
      type: list
      elements: int
      returned: success
    huge_pages:
      description: >-
        Huge pages that the guest's memory needs, as C(page_kib) (V(null) for the default size of the host), C(memory_mb) and C(nodes) (NUMA nodes of the
        host, V(null) for any); V(null) for a guest without.
      type: dict
      returned: success
    tpm:
      description: C(model) and C(version) of the guest's TPM, or V(null) without one.
      type: dict
      returned: success
    secure_boot:
      description: >-
        Whether the definition asks for firmware with secure boot; where it leaves the firmware to libvirt, whether a guest that runs has got such.
      type: bool
      returned: success
    disks:
      description: >-
        All disks. A disk in a file or a volume has C(chain), C(virtual_size), C(allocated_bytes) and C(file_bytes) (all in bytes), or an C(error) with C(code)
        and C(message).
      type: list
      elements: dict
      returned: success
      contains:
        target:
          description: Name in the guest's definition.
          type: str
          returned: success
          sample: vda
        device:
          description: Kind of drive.
          type: str
          returned: success
          sample: disk
        left_out:
          description:
            - Path of a medium that is gone and without which the guest starts (C(startupPolicy='optional')). A move leaves the drive empty, so that
              RV(domain.disks[].path) is V(null).
          type: str
          returned: for such drives
        source_type:
          description: What the disk lies in.
          type: str
          returned: success
          sample: file
        path:
          description: Path of the image, also of one that is a volume of a storage pool, or V(null) for an empty drive.
          type: str
          returned: success
        pool:
          description: Storage pool of a disk that is a volume, else V(null).
          type: str
          returned: success
        volume:
          description: Name of the volume, else V(null).
          type: str
          returned: success
        format:
          description: Format according to the definition. It is never probed.
          type: str
          returned: success
          sample: qcow2
        bus:
          description: Bus of the drive.
          type: str
          returned: success
          sample: virtio
        readonly:
          description: Whether the guest cannot write to it.
          type: bool
          returned: success
        shareable:
          description: Whether several guests may write to it at once.
          type: bool
          returned: success
        root:
          description: >-
            Whether it is the root disk. That is the writable, unshared disk with the lowest boot order, without boot orders the first one on a virtio,
            scsi, sata or ide bus.
          type: bool
          returned: success
        role:
          description: >-
            V(ephemeral) or V(swap) for the disk that this part of a flavor is about, by the metadata of this collection or by O(ephemeral_disk) and
            O(swap_disk), else V(null).
          type: str
          returned: success
        encrypted:
          description: Whether it is encrypted by a secret of libvirt, according to the definition.
          type: bool
          returned: success
        network:
          description: >-
            Of a disk in network storage C(protocol), C(name), C(hosts) (C(name), C(port)) and C(files) that it needs.
          type: dict
          returned: for disks in network storage
        virtual_size:
          description: Size that the guest sees, in bytes.
          type: int
          returned: if the image could be read; for network storage V(null) unless libvirt can tell
        allocated_bytes:
          description: Bytes that the topmost layer takes on the host.
          type: int
          returned: if the image could be read
        file_bytes:
          description: Apparent size of the topmost layer's file in bytes.
          type: int
          returned: if the image could be read
        chain:
          description: >-
            Layers, the guest-writable one first, each with C(path), C(format), C(virtual_size), C(allocated_bytes), C(file_bytes), C(encrypted),
            C(corrupt), C(dirty), C(snapshots), C(mode) (permissions, octal), and C(identity) (C(sha256), C(format), C(virtual_size), C(size_bytes)) on all but
            the first, without O(digests) where it is known.
          type: list
          elements: dict
          returned: if the image could be read
        error:
          description: Why the image could not be read, as C(code) and C(message).
          type: dict
          returned: if the image could not be read
    free_targets:
      description: Targets that further disks on the bus of the root disk would get, at most two.
      type: list
      elements: str
      returned: success
      sample: [vdb, vdc]
    boot_files:
      description: Files that QEMU itself loads (C(kernel), C(initrd), C(dtb), as RV(domain.disks[].target)), with the keys of RV(domain.disks).
      type: list
      elements: dict
      returned: success
    interfaces:
      description: Network interfaces with C(mac), C(type), C(source), C(model) and C(mtu) (bytes, of the definition or else of the bridge, or V(null)).
      type: list
      elements: dict
      returned: success
    exclusive:
      description:
        - What it wants to itself, since a host can have one of it, by kind (C(mac), C(tcp_port), C(udp_port), C(vsock_cid), C(device), C(socket), C(log)).
        - What libvirt chooses at each start is not listed. A port that is listened at one address only is C(PORT@ADDRESS).
      type: dict
      returned: success
    firmware:
      description: Firmware with C(kind) (V(bios) or V(uefi)), C(loader), C(loader_format), C(nvram), C(nvram_format) and C(nvram_template).
      type: dict
      returned: success
    console_logs:
      description: Files into which the console of the guest is written, with C(path), and C(append), whether libvirt leaves what is in it at a start.
      type: list
      elements: dict
      returned: success
    secrets:
      description:
        - Secrets of libvirt that the definition names, with C(uuid), C(usage_type), C(usage), C(by) (V(uuid) or V(usage), by which it is named), and
          C(needed_by). A value is never returned.
        - C(missing) tells why the guest has no use of one on its host, C(withheld) why its value does not travel.
      type: list
      elements: dict
      returned: success
    references:
      description: Everything outside the definition with C(kind), C(name), C(answer) (V(carry), V(keep) or V(refuse)), C(reason) and C(element).
      type: list
      elements: dict
      returned: success
    refusals:
      description: Every reason why the domain cannot be moved as it is, with C(code) and C(reason). Empty if it can.
      type: list
      elements: dict
      returned: success
    owners:
      description:
        - For each disk by its target, each file that the guest boots from by its element, and C(nvram), to whom the file belongs while the guest is off.
        - C(uid), C(gid), C(user), C(group) and C(mode), whether these are the user and group of QEMU (C(of_qemu)), whether libvirt gives the file to QEMU
          when the guest starts (C(given)), and what the definition says of that (C(relabel), C(label)).
      type: dict
      returned: success
    directories:
      description:
        - For each directory of the guest's own in which one of its files lies, below those that the host has for such files, to whom it belongs, as
          C(uid), C(gid), C(user), C(group) and C(mode), and whether these are the user and group of QEMU (C(of_qemu)).
      type: dict
      returned: success
    agent:
      description: Whether a guest agent is C(configured), and whether it is C(connected) now.
      type: dict
      returned: success
    live_differences:
      description:
        - What a running domain has now and its definition does not say, or the other way round, with C(what), what it is C(now), what by the definition
          (C(defined)), why the definition cannot be given it (C(unkeepable)), and all of that as C(text).
      type: list
      elements: dict
      returned: success
    xml_digest:
      description: The fingerprint of the definition, its SHA-256 without secrets, to tell whether somebody changed it.
      type: str
      returned: success
domains:
  description:
    - Every domain of the host with C(name), C(uuid), and what RV(domain) would be as C(domain), or why it could not be described as C(error) (C(code) and
      C(message)).
  returned: without O(name)
  type: list
  elements: dict
error_code:
  description: >-
    What went wrong, for machines, such as V(host_hangs), V(run_gone),
    V(libvirt_unavailable), V(unsupported_uri), V(invalid_domain_xml), V(invalid_root_disk),
    V(invalid_ephemeral_disk), V(invalid_swap_disk), V(invalid_directory), V(libvirt_error) or V(os_error).
  returned: failure
  type: str
details:
  description: Values that belong to the error.
  returned: failure
  type: dict
"""

from collections.abc import Callable
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.kvmfleet.compute.plugins.module_utils._guest.facts import domain_facts
from ansible_collections.kvmfleet.compute.plugins.module_utils._journal.state_dir import StateDir
from ansible_collections.kvmfleet.compute.plugins.module_utils._libvirt import connection as _connection, domains as _domains
from ansible_collections.kvmfleet.compute.plugins.module_utils._module import LIBVIRT_ARGS, STATE_ARGS, run, told_as_ours
from ansible_collections.kvmfleet.compute.plugins.module_utils._rules.errors import KvmfleetError
from ansible_collections.kvmfleet.compute.plugins.module_utils._storage.disk_use import DiskUses

ARGUMENT_SPEC: dict[str, Any] = {
    "name": {"type": "str"},
    "image_directories": {"type": "list", "elements": "path", "default": ["/var/lib/libvirt/images"]},
    "digests": {"type": "bool", "default": False},
    "flavor": {
        "type": "dict",
        "options": {"vcpus": {"type": "int", "required": True}, "ram": {"type": "int", "required": True}, "tuning": {"type": "dict"}},
    },
    "root_disk": {"type": "str"},
    "ephemeral_disk": {"type": "str"},
    "swap_disk": {"type": "str"},
    "live_differences": {"type": "str", "choices": ["keep", "drop"]},
    **LIBVIRT_ARGS,
    **STATE_ARGS,
}


def main(module: AnsibleModule) -> dict[str, Any]:
    params = module.params
    state = StateDir(params["state_path"])
    options = {name: params[name] for name in ("image_directories", "root_disk", "ephemeral_disk", "swap_disk", "live_differences")}
    options["identify"] = params["digests"]
    with _connection.connect(params["uri"]) as connection:
        if params["name"] is None:
            uses = DiskUses(connection, state)
            domains = _domains.all_domains(connection)
            return {"domains": [_described(domain, lambda each=domain: domain_facts(each, state, uses=uses, **options)) for domain in domains]}
        domain = _domains.find_domain(connection, params["name"])
        return {"domain": None if domain is None else domain_facts(domain, state, new_flavor=params["flavor"], **options)}


def _described(domain: Any, describe: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """One of many: what is wrong with it keeps the others from nothing."""
    told = {"name": domain.name(), "uuid": domain.UUIDString(), "domain": None, "error": None}
    try:
        return {**told, "domain": told_as_ours(describe)}
    except KvmfleetError as exc:
        return {**told, "error": {"code": exc.code, "message": exc.message}}


if __name__ == "__main__":
    run(main, ARGUMENT_SPEC)
