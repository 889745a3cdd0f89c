#!/usr/bin/python
# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: migration
short_description: Begin an operation on an instance, or take over one that was interrupted
version_added: 0.1.0
description:
  - Writes the first record of a resize or cold migration into the journal of the host on which the instance is.
  - An instance has at most one open operation. A second one is refused with the error code V(operation_in_progress).
  - Used by the role P(kvmfleet.compute.migrate#role), seldom alone.
options:
  state:
    description:
      - V(present) begins an operation.
      - V(taken_over) makes O(owner) the owner of an existing one, once no process works on it and its lease has expired.
    type: str
    choices: [present, taken_over]
    default: present
  role:
    description: The part of this host in the operation.
    type: str
    choices: [source, in_place]
    default: source
  plan:
    description: The key RV(kvmfleet.compute.plan_migration#filter:_value.plan.record) of the plan. Required for O(state=present).
    type: dict
  diff:
    description: The key RV(kvmfleet.compute.plan_migration#filter:_value.plan.diff) of the plan, shown in diff mode.
    type: dict
  image_directories:
    description: Directories in which disks and base images of guests may lie.
    type: list
    elements: path
    default: [/var/lib/libvirt/images]
  requested_by:
    description: Who asked, for the audit trail. For example C(user) and C(job).
    type: dict
    default: {}
  wait:
    description: Seconds to wait for another run's lease with O(state=taken_over).
    type: float
    default: 120.0
  settled:
    description: With O(state=taken_over), do not wait for the lease, since the operation is finished at both ends.
    type: bool
    default: false
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
  idempotent:
    support: full
  platform:
    support: full
    platforms: linux
extends_documentation_fragment:
  - kvmfleet.compute.attributes
  - kvmfleet.compute.operation
  - kvmfleet.compute.state
author: kvmfleet contributors (@kvmfleet)
"""

EXAMPLES = r"""
- name: Begin to resize web1
  kvmfleet.compute.migration:
    migration_uuid: 6f1c2f6e-6f0e-4f0e-8b5c-0a7f4c1f6a51
    owner: run-1
    plan: "{{ plan.plan.record }}"

- name: Continue where a run that died has stopped
  kvmfleet.compute.migration:
    state: taken_over
    migration_uuid: 6f1c2f6e-6f0e-4f0e-8b5c-0a7f4c1f6a51
    owner: run-2
"""

RETURN = r"""
migration:
  description: The public part of the record. V(null) in check mode for an operation that would begin.
  type: dict
  returned: success
error_code:
  description: V(operation_in_progress), V(operation_alive), V(unknown_migration), V(state_directory_unusable) or V(record_unreadable).
  type: str
  returned: failure
"""

from ansible_collections.kvmfleet.compute.plugins.module_utils._errors import KvmfleetError
from ansible_collections.kvmfleet.compute.plugins.module_utils._journal import CLOSED, Journal, summary
from ansible_collections.kvmfleet.compute.plugins.module_utils._module import STATE_ARGS, run
from ansible_collections.kvmfleet.compute.plugins.module_utils._options import OPERATION_ARGS
from ansible_collections.kvmfleet.compute.plugins.module_utils._state_dir import StateDir


def begin(module, journal):
    params = module.params
    existing = journal.find(params["migration_uuid"])
    if existing is not None and existing["status"] not in CLOSED:
        return {"changed": False, "migration": summary(existing)}
    result = {"changed": True, "diff": params["diff"] or {}, "migration": None}
    if module.check_mode:
        return result
    record = journal.begin(
        dict(
            params["plan"],
            uuid=params["migration_uuid"],
            owner=params["owner"],
            role=params["role"],
            destination_host=params["plan"]["source_host"] if params["role"] == "in_place" else None,
            image_directories=params["image_directories"],
            requested_by=params["requested_by"],
        )
    )
    return dict(result, migration=summary(record))


def take_over(module, journal):
    before = journal.get(module.params["migration_uuid"])
    if module.check_mode or before["owner"] == module.params["owner"]:
        return {"changed": False, "migration": summary(before)}
    return {"changed": False, "migration": summary(journal.take_over(before["uuid"], module.params["owner"], module.params["wait"], module.params["settled"]))}


def main():
    def act(module):
        if module.params["plan"] is not None and not {"instance_uuid", "instance_name", "source_host", "disks"} <= set(module.params["plan"]):
            raise KvmfleetError("invalid_value", "plan: expected the record of a plan made by the filter plan_migration.")
        journal = Journal(StateDir(module.params["state_path"]), module.params["lease"])
        return (begin if module.params["state"] == "present" else take_over)(module, journal)

    run(
        act,
        dict(
            OPERATION_ARGS,
            **STATE_ARGS,
            state={"type": "str", "choices": ["present", "taken_over"], "default": "present"},
            role={"type": "str", "choices": ["source", "in_place"], "default": "source"},
            plan={"type": "dict"},
            diff={"type": "dict"},
            image_directories={"type": "list", "elements": "path", "default": ["/var/lib/libvirt/images"]},
            requested_by={"type": "dict", "default": {}},
            wait={"type": "float", "default": 120.0},
            settled={"type": "bool", "default": False},
        ),
        needs_libvirt=False,
        required_if=[("state", "present", ["plan"])],
    )


if __name__ == "__main__":
    main()
