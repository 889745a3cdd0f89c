#!/usr/bin/python
# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: claim
short_description: Claim capacity of a host for an operation
version_added: 0.1.0
description:
  - Checks under the host's own lock, against its live state, that the host can take the instance, and reserves the capacity.
  - What counts are the rules of RamFilter, CoreFilter and DiskFilter, and whether the host already has such a domain or file, and offers the machine
    type, networks, bridges, firmware, tools and bytes that the instance needs.
  - Of some things a host can have one, such as a MAC address, a port or a vsock context id. What the instance needs of these nobody may have, neither a
    guest, nor the host itself, nor another claim.
  - The disks that the flavor adds (C(ephemeral), C(swap)) are made and formatted here, while the guest runs, and so are directories of the guest below
    those that the host has for images, with owner and mode as at the source.
  - A claim lasts until the operation is confirmed, reverted or undone. It is released by M(kvmfleet.compute.destination_copy),
    M(kvmfleet.compute.source_copy) or M(kvmfleet.compute.resize_in_place).
options:
  role:
    description: Whether the instance comes to this host, or grows on it.
    type: str
    choices: [destination, in_place]
    default: destination
  plan:
    description:
      - The plan, RV(kvmfleet.compute.plan_migration#filter:_value.plan), of which C(record) and what C(for) says of this host are read.
      - C(for) tells where each disk comes to lie and what bridges, networks, emulators and firmware are called here, what the guest needs, and how much of
        this host may be promised. The directory of a storage pool is asked of libvirt here again.
    type: dict
    required: true
  destination_host:
    description: Inventory name of this host.
    type: str
    required: true
  probes:
    description: RV(kvmfleet.compute.migration#module:probes) of the source, by which storage that both hosts share is recognised.
    type: dict
    default: {}
  secret_proofs:
    description:
      - RV(kvmfleet.compute.migration#module:secret_proofs) of the source, by which this host tells whether a secret that it has is the same.
    type: dict
    default: {}
  key:
    description: One-time key of the operation, under which O(secret_proofs) were made.
    type: str
  slot_timeout:
    description:
      - Ansible asks again where the host is V(busy), until none of the moves that it has in hand has got on for so many seconds. V(0) does not wait.
    type: float
    default: 0
  slot_patience:
    description: With O(slot_timeout), answer V(busy) after so many seconds of waiting, so that the caller can renew the lease at the source. V(0) goes on.
    type: float
    default: 0
  slot:
    description: RV(slot) of the answer before, with which the wait goes on.
    type: dict
    default: {}
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
  idempotent:
    support: none
    details:
      - A second claim for the same instance is refused.
  platform:
    support: full
    platforms: linux
extends_documentation_fragment:
  - kvmfleet.compute.attributes
  - kvmfleet.compute.hanging
  - kvmfleet.compute.operation
  - kvmfleet.compute.operation.connection
  - kvmfleet.compute.operation.audit
  - kvmfleet.compute.state
  - kvmfleet.compute.libvirt
author: kvmfleet contributors (@kvmfleet)
"""

EXAMPLES = r"""
- name: Claim kvm2 for the operation
  kvmfleet.compute.claim:
    migration_uuid: "{{ migration_uuid }}"
    owner: "{{ owner }}"
    plan: {record: "{{ planned.plan.record }}", for: {kvm2: "{{ planned.plan.for.kvm2 }}"}}
    destination_host: kvm2
"""

RETURN = r"""
claim:
  description: The claim. Its C(cpus) are those that the guest has to itself here, or will have.
  type: dict
  returned: when not in check mode
shared:
  description: Targets of the disks that lie on storage which both hosts share, as far as this one can tell.
  type: list
  elements: str
  returned: when not in check mode
probes:
  description: For each of their directories, as the source calls it, the name and content of a file that this host wrote there.
  type: dict
  returned: when not in check mode
secrets:
  description: UUIDs of the secrets that the instance needs and this host lacks.
  type: list
  elements: str
  returned: when not in check mode
directories:
  description:
    - The directories that were made here for files of the instance. In check mode those that would be made, each with owner and mode.
  type: list
  elements: str
  returned: success
namesakes:
  description: Files here that bear the name of a base image of the instance and have other content. They are left alone.
  type: list
  elements: str
  returned: in check mode
local_address:
  description: Address from which this host reaches the source at the address that the plan has for it. V(null) where it has no way there.
  type: str
  returned: when not in check mode
source_address:
  description: What that address means to this host, which it can reach as far as its routes tell. V(null) if RV(local_address) is.
  type: str
  returned: when not in check mode
slot:
  description: How far the wait for a busy host is.
  type: dict
  returned: failure, with O(slot_patience)
no_way:
  description: Why this host has no way to the source. The copy can travel through a tunnel then.
  type: str
  returned: when not in check mode
error_code:
  description: >-
    V(host_hangs), V(run_gone),
    V(claim_refused), with every reason and its numbers in RV(details), V(busy), V(unknown_user), V(pool_missing), V(pool_inactive),
    V(pool_unsupported), V(directory_missing), V(shared_growth), V(base_not_shared), V(handed_value), V(format_failed), V(path_taken),
    V(invalid_directory) or V(operation_in_progress).
  type: str
  returned: failure
details:
  description: >-
    For V(claim_refused), C(reasons) with C(code), C(reason), C(need) and C(have), and C(kind) where it is about a thing of which a host can have one.
  type: dict
  returned: failure
"""

import os

from ansible_collections.kvmfleet.compute.plugins.module_utils._channel.listening import found_way
from ansible_collections.kvmfleet.compute.plugins.module_utils._guest.belongings import registry as _belongings
from ansible_collections.kvmfleet.compute.plugins.module_utils._host.state import Reserved
from ansible_collections.kvmfleet.compute.plugins.module_utils._journal.records import Journal
from ansible_collections.kvmfleet.compute.plugins.module_utils._journal.state_dir import StateDir
from ansible_collections.kvmfleet.compute.plugins.module_utils._libvirt import connection as _connection
from ansible_collections.kvmfleet.compute.plugins.module_utils._module import LIBVIRT_ARGS, STATE_ARGS, run
from ansible_collections.kvmfleet.compute.plugins.module_utils._operation import admission as _admission, placing as _placing
from ansible_collections.kvmfleet.compute.plugins.module_utils._options import AUDIT_ARGS, OPERATION_ARGS
from ansible_collections.kvmfleet.compute.plugins.module_utils._rules import cpu_set as _cpu_set, handed_plan as _handed_plan
from ansible_collections.kvmfleet.compute.plugins.module_utils._storage import (
    shared_storage as _shared_storage,
)
from ansible_collections.kvmfleet.compute.plugins.module_utils._storage.kinds import registry as _kinds


def act(module):
    here = _handed_plan.here(module.params["plan"], module.params["destination_host"])
    params = {**module.params, **here, "plan": module.params["plan"]["record"]}
    journal = Journal(StateDir(params["state_path"]), params["lease"])
    way = {} if module.check_mode else found_way(params.get("source_address"))
    with _connection.connect(params["uri"]) as conn:
        record = _placing.new_record(conn, params)
        if module.check_mode:
            return _placing.foreseen(conn, journal, record, params["images_path"])
        claim = _admission.admit(
            conn,
            journal,
            record,
            requirements=params["requirements"],
            images_path=params["images_path"],
            reserved=Reserved(**params["reserved"]),
            ratios=params["ratios"],
            dedicated=_cpu_set.parse(params["cpu_dedicated_set"], "cpu_dedicated_set"),
            proofs=params["secret_proofs"],
            key=params["key"],
            most=params.get("max_moves", 0),
        )
        lacking = _belongings.lacking(conn, record)
        made = _placing.make(conn, journal, params).get("made_directories", {})
    _shared_storage.write(record["probes"])
    # The source looks for them in the directories as it calls them.
    there = {disk["target"]: disk["path"] for disk in params["plan"]["disks"]}
    shared = [disk for disk in record["disks"] if not _kinds.of(disk).travels]
    return {
        "changed": True,
        "claim": claim,
        "shared": [disk["target"] for disk in shared],
        "probes": {os.path.dirname(there[disk["target"]]): record["probes"][os.path.dirname(disk["path"])] for disk in shared},
        "secrets": lacking,
        "directories": sorted(made),
        **way,
    }


def main():
    run(
        act,
        dict(
            OPERATION_ARGS,
            **AUDIT_ARGS,
            **STATE_ARGS,
            **LIBVIRT_ARGS,
            role={"type": "str", "choices": ["destination", "in_place"], "default": "destination"},
            plan={"type": "dict", "required": True},
            destination_host={"type": "str", "required": True},
            probes={"type": "dict", "default": {}},
            secret_proofs={"type": "dict", "default": {}, "no_log": False},
            key={"type": "str", "no_log": True},
            slot_timeout={"type": "float", "default": 0.0},  # these for the action plugin
            slot_patience={"type": "float", "default": 0.0},
            slot={"type": "dict", "default": {}},
        ),
    )


if __name__ == "__main__":
    main()
