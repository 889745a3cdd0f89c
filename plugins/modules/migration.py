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
      - V(present) begins an operation, or renews the lease of one that O(owner) has begun.
      - V(shared) proves that this host sees what the destination wrote into directories that it shares with it, and notes which disks are there.
      - V(idle) waits until V(taken_over) would not have to wait, and changes nothing. A run that lives renews only the lease of the host on which it
        works, so both hosts have to be idle together before the operation is taken from it anywhere.
      - V(taken_over) makes O(owner) the owner of an existing one, once no process works on it and its lease has expired.
      - V(released) notes that the host without which an operation was ended has come back and holds nothing of it.
      - V(pruned) removes the records of operations that ended more than O(history_days) ago, and lock files that nobody has used since. It is about no single
        operation.
    type: str
    choices: [present, shared, idle, taken_over, released, pruned]
    default: present
  migration_uuid:
    description: UUID of the operation, the same in the journals of both hosts. Required unless O(state=pruned).
    type: str
    required: false
  owner:
    description:
      - Identity of the run that carries out the operation. Required unless O(state=pruned).
      - A run whose operation was taken over by another one is refused with the error code V(not_owner).
    type: str
    required: false
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
  key:
    description: One-time key of the operation. With it, RV(secret_proofs) are made for O(state=present) and O(role=source).
    type: str
  shared:
    description: Targets of the disks that the destination found on shared storage. Required for O(state=shared).
    type: list
    elements: str
  probes:
    description:
      - RV(kvmfleet.compute.claim#module:probes) of the destination's claim. Required for O(state=shared).
    type: dict
  image_directories:
    description: Directories in which disks and base images of guests may lie.
    type: list
    elements: path
    default: [/var/lib/libvirt/images]
  wait:
    description: Seconds to wait for another run's lease with O(state=idle) and O(state=taken_over).
    type: float
    default: 120.0
  settled:
    description: With O(state=taken_over), do not wait for the lease, since the operation is finished at both ends.
    type: bool
    default: false
  gone:
    description:
      - With O(state=idle) and O(state=taken_over), the owner that the other host has seen go (RV(migration) with C(abandoned) and C(owner)). Its lease is not
        waited for here either.
    type: str
  max_moves:
    description:
      - With O(state=present) and O(role=source), how many guests leave this host at once. One more is refused with the error code V(busy) until one of
        them has left. V(0) for no limit.
    type: int
    default: 2
  slot_timeout:
    description:
      - Ansible asks again where the host is V(busy), until none of the moves that it has in hand has got on for so many seconds. V(0) does not wait.
    type: float
    default: 0
  progress_interval:
    description: While another run is waited for, Ansible says after each of so many seconds how long, and how far its copy is. V(0) says nothing.
    type: float
    default: 10.0
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
  - kvmfleet.compute.hanging
  - kvmfleet.compute.operation
  - kvmfleet.compute.operation.connection
  - kvmfleet.compute.operation.audit
  - kvmfleet.compute.operation.history
  - kvmfleet.compute.state
  - kvmfleet.compute.libvirt
author: kvmfleet contributors (@kvmfleet)
"""

EXAMPLES = r"""
- name: Begin to resize web1
  kvmfleet.compute.migration:
    migration_uuid: 6f1c2f6e-6f0e-4f0e-8b5c-0a7f4c1f6a51
    owner: run-1
    plan: "{{ plan.plan.record }}"

- name: Prove that this host sees what the destination wrote
  kvmfleet.compute.migration:
    state: shared
    migration_uuid: 6f1c2f6e-6f0e-4f0e-8b5c-0a7f4c1f6a51
    owner: run-1
    shared: "{{ claim.shared }}"
    probes: "{{ claim.probes }}"

- name: Continue where a run that died has stopped
  kvmfleet.compute.migration:
    state: taken_over
    migration_uuid: 6f1c2f6e-6f0e-4f0e-8b5c-0a7f4c1f6a51
    owner: run-2

- name: Say what would be forgotten
  kvmfleet.compute.migration:
    state: pruned
    history_days: 30
  check_mode: true
"""

RETURN = r"""
migration:
  description: The public part of the record. V(null) in check mode for an operation that would begin.
  type: dict
  returned: unless O(state=pruned)
waited:
  description: Whether another run had to be waited for, so that the other host has to be asked again.
  type: bool
  returned: when O(state=idle)
pruned:
  description: C(records), the UUIDs of the operations that this host has forgotten, and C(locks), the names of the locks whose files it has removed.
  type: dict
  returned: when O(state=pruned)
probes:
  description: For each directory of a disk or base image the name and content of a file that this host wrote there, for the destination to find.
  type: dict
  returned: when O(state=present) begins an operation with O(role=source), and not in check mode
secret_proofs:
  description: For the UUID of each secret of the instance that may travel, a proof of its value under O(key), for the destination to compare.
  type: dict
  returned: when O(state=present) begins an operation with O(role=source), and not in check mode
error_code:
  description:
    - V(host_hangs), V(run_gone), V(busy), V(drain_paused), V(not_drained), V(maintenance_alive),
      V(operation_in_progress), V(secret_missing), V(storage_not_shared), V(operation_alive), V(unknown_migration), V(state_directory_unusable),
      V(live_differences), V(definition_not_taken), V(definition_changed), V(instance_vanished), V(not_persistent),
      V(invalid_directory) or V(record_unreadable).
  type: str
  returned: failure
"""

import os

from ansible_collections.kvmfleet.compute.plugins.module_utils._guest import keeping as _keeping
from ansible_collections.kvmfleet.compute.plugins.module_utils._guest.belongings import registry as _belongings
from ansible_collections.kvmfleet.compute.plugins.module_utils._journal import retention as _retention
from ansible_collections.kvmfleet.compute.plugins.module_utils._journal.records import CLOSED, Journal, may_be_needed, summary
from ansible_collections.kvmfleet.compute.plugins.module_utils._journal.state_dir import StateDir
from ansible_collections.kvmfleet.compute.plugins.module_utils._libvirt import connection as _connection
from ansible_collections.kvmfleet.compute.plugins.module_utils._module import LIBVIRT_ARGS, STATE_ARGS, run
from ansible_collections.kvmfleet.compute.plugins.module_utils._operation import sealing as _sealing, slots as _slots
from ansible_collections.kvmfleet.compute.plugins.module_utils._options import AUDIT_ARGS, HISTORY_ARGS, OPERATION_ARGS
from ansible_collections.kvmfleet.compute.plugins.module_utils._rules import differences as _differences
from ansible_collections.kvmfleet.compute.plugins.module_utils._rules.errors import KvmfleetError
from ansible_collections.kvmfleet.compute.plugins.module_utils._storage import directories as _directories, shared_storage as _shared_storage
from ansible_collections.kvmfleet.compute.plugins.module_utils._storage.kinds import registry as _kinds


def begin(module, journal):
    params = module.params
    existing = journal.find(params["migration_uuid"])
    if existing is not None and existing["status"] not in CLOSED:
        if existing["owner"] == params["owner"] and not module.check_mode:
            with journal.working(params["migration_uuid"], params["owner"]) as record:
                existing = journal.renew(record)
        return {"changed": False, "migration": summary(existing)}
    result = {"changed": True, "diff": params["diff"] or {}, "migration": None}
    if module.check_mode:
        return result
    paths = [disk["path"] for disk in params["plan"]["disks"]] + [base["path"] for disk in params["plan"]["disks"] for base in disk["bases"]]
    moves = params["role"] == "source"
    probes = _shared_storage.draw(map(os.path.dirname, paths)) if moves else {}
    proofs = prove(params) if moves and params["key"] else {}
    record = dict(
        params["plan"],
        probes=probes,
        uuid=params["migration_uuid"],
        owner=params["owner"],
        role=params["role"],
        destination_host=params["plan"]["source_host"] if params["role"] == "in_place" else None,
        image_directories=params["image_directories"],
        requested_by=params["requested_by"],
        reason=params["reason"],
    )
    record = dict(record, own_directories=_directories.own(journal.state, record) if moves else {})
    record = _slots.begin(journal, record, params["max_moves"]) if moves else journal.begin(record)
    _shared_storage.write(probes)
    if record.get("live_differences"):
        keep_live(params, journal)
    return dict(result, migration=summary(record), probes=probes, secret_proofs=proofs)


def keep_live(params, journal):
    with _connection.connect(params["uri"]) as conn, journal.working(params["migration_uuid"], params["owner"]) as record:
        if (record["live_differences"].get("answer"), bool(record["live_differences"]["found"])) == (_differences.KEEP, True):
            _keeping.keep(conn, journal, record, _sealing.require_unchanged(conn, record))


def prove(params):
    with _connection.connect(params["uri"]) as conn:
        return _belongings.proofs(conn, params["plan"], params["key"])


def share(module, journal):
    params = module.params
    with journal.working(params["migration_uuid"], params["owner"]) as record:
        disks = [dict(disk, shared=True) if disk["target"] in params["shared"] else disk for disk in record["disks"]]
        seen = {directory: params["probes"].get(directory) for directory in {os.path.dirname(disk["path"]) for disk in disks if not _kinds.of(disk).travels}}
        for directory, probe in seen.items():
            if not _shared_storage.sees(directory, probe):
                raise KvmfleetError(
                    "storage_not_shared",
                    f"{directory} is seen by the destination, but this host does not see what the destination writes there; nothing was changed.",
                    path=directory,
                )
        if module.check_mode:
            return {"changed": True, "migration": summary(dict(record, disks=disks))}
        # Nobody needs them any more, and the guest is about to stop.
        _shared_storage.remove({"probes": seen})
        _shared_storage.remove(record)
        return {"changed": True, "migration": summary(journal.update(record, disks=disks, note="disks on shared storage: " + ", ".join(params["shared"])))}


def take_over(module, journal):
    params = module.params
    before = journal.get(params["migration_uuid"])
    if module.check_mode or before["owner"] == params["owner"]:
        return {"changed": False, "migration": summary(before)}
    who = {"by": params["requested_by"], "reason": params["reason"]}
    taken = journal.take_over(before["uuid"], params["owner"], params["wait"], params["settled"], gone=params["gone"], **who)
    return {"changed": False, "migration": summary(taken)}


def await_idle(module, journal):
    params = module.params
    waited = False if module.check_mode else journal.await_idle(params["migration_uuid"], params["owner"], params["wait"], params["gone"])
    return {"changed": False, "waited": waited, "migration": summary(journal.get(params["migration_uuid"]))}


def release(module, journal):
    uuid = module.params["migration_uuid"]
    if module.check_mode:
        record = journal.get(uuid)
        return {"changed": record["status"] in CLOSED and may_be_needed(record), "migration": summary(record)}
    return {"changed": journal.release(uuid), "migration": summary(journal.get(uuid))}


def prune(module, journal):
    found = _retention.prune(journal.state, module.params["history_days"], dry_run=module.check_mode)
    names = [f"{kind}/{name}" for kind, named in (("migrations", found["records"]), ("locks", found["locks"])) for name in named]
    return {"changed": bool(names), "pruned": found, "diff": {"before": "".join(f"{name}\n" for name in names), "after": ""}}


STATES = {"present": begin, "shared": share, "idle": await_idle, "taken_over": take_over, "released": release, "pruned": prune}


def main():
    def act(module):
        if module.params["plan"] is not None and not {"instance_uuid", "instance_name", "source_host", "disks"} <= set(module.params["plan"]):
            raise KvmfleetError("invalid_value", "plan: expected the record of a plan made by the filter plan_migration.")
        journal = Journal(StateDir(module.params["state_path"]), module.params["lease"])
        return STATES[module.params["state"]](module, journal)

    run(
        act,
        dict(
            {**OPERATION_ARGS, **AUDIT_ARGS, **HISTORY_ARGS, **STATE_ARGS, **LIBVIRT_ARGS},
            migration_uuid={"type": "str"},
            owner={"type": "str"},
            state={"type": "str", "choices": list(STATES), "default": "present"},
            role={"type": "str", "choices": ["source", "in_place"], "default": "source"},
            plan={"type": "dict"},
            diff={"type": "dict"},
            key={"type": "str", "no_log": True},
            shared={"type": "list", "elements": "str"},
            probes={"type": "dict"},
            image_directories={"type": "list", "elements": "path", "default": ["/var/lib/libvirt/images"]},
            wait={"type": "float", "default": 120.0},
            settled={"type": "bool", "default": False},
            gone={"type": "str"},
            max_moves={"type": "int", "default": 2},
            progress_interval={"type": "float", "default": 10.0},  # for the action plugin
            slot_timeout={"type": "float", "default": 0.0},
        ),
        required_if=[
            ("state", "present", ["migration_uuid", "owner", "plan"]),
            ("state", "shared", ["migration_uuid", "owner", "shared", "probes"]),
            ("state", "idle", ["migration_uuid", "owner"]),
            ("state", "taken_over", ["migration_uuid", "owner"]),
            ("state", "released", ["migration_uuid"]),
        ],
    )


if __name__ == "__main__":
    main()
