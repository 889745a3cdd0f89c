#!/usr/bin/python
# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: guest_filesystem
short_description: Grow the filesystem on a disk from inside a running guest
version_added: 0.1.0
description:
  - Asks the QEMU guest agent for the mounted filesystem that lies nearest to the end of a disk. The partition that it lies on, and then the filesystem,
    are grown to the end of the disk by the guest's own programs, which are C(growpart) and C(resize2fs), C(xfs_growfs) or C(btrfs).
  - What cannot be grown is left alone and is a result with a reason, not an error. That is a guest that is off or has no agent, an agent that may not run
    programs, LVM and encrypted volumes, other filesystems, Windows, and a partition that has another one behind it.
  - A cloud-init that runs in the guest is waited for, since it may be about to do the same. Then there is nothing left to do.
  - Programs are run with an absolute path and without a shell.
options:
  name:
    description: Name or UUID of the domain.
    type: str
    required: true
  disk:
    description:
      - Target of the disk in the definition, such as V(vdb), whatever the guest calls it.
      - Without it, the root disk is meant, see RV(kvmfleet.compute.domain_info#module:domain.disks[].root).
    type: str
  timeout:
    description: Seconds that the guest has for all of it. A program that takes longer is left to itself, and the result says so.
    type: float
    default: 120.0
attributes:
  check_mode:
    support: full
    details:
      - The guest is looked into, and C(growpart --dry-run) says whether it would grow the partition. A filesystem is taken to be grown too if it is smaller
        than its partition by more than an eighth.
  diff_mode:
    support: none
  idempotent:
    support: full
  platform:
    support: full
    platforms: linux
extends_documentation_fragment:
  - kvmfleet.compute.attributes
  - kvmfleet.compute.hanging
  - kvmfleet.compute.libvirt
author: kvmfleet contributors (@kvmfleet)
"""

EXAMPLES = r"""
- name: Let the guest use all of its root disk
  kvmfleet.compute.guest_filesystem:
    name: web1
  register: grown

- name: Say what came of it
  ansible.builtin.debug:
    var: grown.filesystem.reason
"""

RETURN = r"""
filesystem:
  description: What was found in the guest, and what was done.
  type: dict
  returned: success
  contains:
    disk:
      description: Target of the disk.
      type: str
      sample: vda
    answer:
      description: V(grown), V(already_grown), V(not_grown), or in check mode V(would_grow).
      type: str
    code:
      description:
        - Why it was not grown, for machines. V(null) otherwise.
        - The guest is not up to it (V(not_running), V(no_agent), V(agent_command_disabled), V(no_program), V(unsupported_system)), its layout is not
          (V(no_filesystem), V(lvm), V(encrypted), V(unsupported_device), V(unsupported_filesystem), V(no_room_behind)), or it went wrong
          (V(program_failed), V(guest_timeout), V(agent_command_failed), V(invalid_agent_answer)).
      type: str
    reason:
      description: All of it in a sentence.
      type: str
      sample: /dev/vda2 (ext4 on /) was grown from 446 to 2929 MiB in the disk of 3072 MiB, by /usr/bin/growpart and /usr/sbin/resize2fs.
    mountpoint:
      description: Where the filesystem is mounted. V(null) if none was found.
      type: str
    type:
      description: Type of the filesystem. V(null) if none was found.
      type: str
    device:
      description: What the guest calls the device that it lies on. V(null) if none was found.
      type: str
    programs:
      description: The programs of the guest that grow it.
      type: list
      elements: str
    before:
      description: >-
        C(disk_bytes), C(partition_offset), C(partition_bytes) and C(filesystem_bytes) (without its metadata), as the guest says. V(null) where it was not
        asked.
      type: dict
    after:
      description: The same afterwards. V(null) in check mode and where nothing was tried.
      type: dict
error_code:
  description: >-
    V(host_hangs), V(run_gone), V(unknown_domain), V(unknown_disk), V(invalid_value) for a time that is not positive, V(libvirt_unavailable)
    or V(libvirt_error).
  returned: failure
  type: str
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.kvmfleet.compute.plugins.module_utils._guest.growth import grow
from ansible_collections.kvmfleet.compute.plugins.module_utils._libvirt import connection as _connection, domains as _domains
from ansible_collections.kvmfleet.compute.plugins.module_utils._module import LIBVIRT_ARGS, run
from ansible_collections.kvmfleet.compute.plugins.module_utils._rules.errors import KvmfleetError

ARGUMENT_SPEC: dict[str, Any] = {
    "name": {"type": "str", "required": True},
    "disk": {"type": "str"},
    "timeout": {"type": "float", "default": 120.0},
    **LIBVIRT_ARGS,
}


def main(module: AnsibleModule) -> dict[str, Any]:
    params = module.params
    if not params["timeout"] > 0:
        raise KvmfleetError("invalid_value", f"timeout: expected seconds > 0, got {params['timeout']:g}.")
    with _connection.connect(params["uri"]) as connection:
        domain = _domains.find_domain(connection, params["name"])
        if domain is None:
            raise KvmfleetError("unknown_domain", f"name: no domain {params['name']!r} is defined here.", need=params["name"])
        found = grow(domain, params["disk"], timeout=params["timeout"], dry_run=module.check_mode)
    return {"changed": found.pop("changed"), "filesystem": found}


if __name__ == "__main__":
    run(main, ARGUMENT_SPEC)
