#!/usr/bin/python
# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: source_copy
short_description: The copy of an instance at the source of an operation
version_added: 0.1.0
description:
  - Freezes the disks of the running guest round by round, so that they can travel before it is stopped (pre-copy).
  - Seals the source copy (guest stopped and proven off, definition archived and undefined, disks renamed), restores it, or removes it for good.
  - Nothing of the source copy is deleted before O(state=absent).
options:
  state:
    description:
      - V(frozen) lets the running guest go on in a new layer on each of its disks, and offers what is frozen through the channel. It changes nothing
        when another round is not worth it any more.
      - V(sealed) stops the guest, seals its copy and offers it through the channel that M(kvmfleet.compute.copy_channel) opened.
      - V(finished) notes that the destination has taken over, and closes the channel. The sealed copy stays.
      - V(restorable) only asks whether V(restored) could be done, so that a guest is not stopped elsewhere for nothing. It fails where another guest has
        taken the name of this one meanwhile, or the name of one of its files.
      - V(restored) puts everything back as it was, running if it ran, and closes the record.
      - V(absent) removes the sealed copy for good and closes the record.
    type: str
    choices: [frozen, sealed, finished, restorable, restored, absent]
    required: true
  destination_host:
    description: Inventory name of the host that takes the instance. Required for O(state=sealed), since recovery must know whom to ask.
    type: str
  secrets:
    description:
      - UUIDs of the secrets that the destination lacks, RV(kvmfleet.compute.claim#module:secrets), for O(state=sealed).
      - Only their values travel, and only they are undefined by O(state=absent), unless something else on this host refers to them.
    type: list
    elements: str
    default: []
  rate:
    description: Bytes a second of the fastest round so far, for O(state=frozen). V(0) before the first one.
    type: float
    default: 0.0
  downtime:
    description: Seconds that copying what is left may take while the guest is down, for O(state=frozen). As soon as it takes no longer, nothing is frozen.
    type: float
    default: 1.0
  max_rounds:
    description: Rounds after which nothing is frozen any more, for O(state=frozen).
    type: int
    default: 5
  quiesce:
    description:
      - Let the guest agent, where one answers, freeze the filesystems while the layers are made, so that what the guest holds in memory travels too. For
        O(state=frozen).
    type: bool
    default: true
  agent_timeout:
    description: Seconds for which O(state=restored) waits for the agent of a guest that had one, if the guest is to be asked something next.
    type: float
    default: 0.0
  error:
    description: Why the operation is undone, for the audit trail. Makes O(state=restored) end with the status V(error) instead of V(reverted).
    type: str
extends_documentation_fragment:
  - kvmfleet.compute.attributes
  - kvmfleet.compute.hanging
  - kvmfleet.compute.attributes.operation_module
  - kvmfleet.compute.operation
  - kvmfleet.compute.operation.connection
  - kvmfleet.compute.operation.history
  - kvmfleet.compute.operation.lost
  - kvmfleet.compute.operation.shutdown
  - kvmfleet.compute.state
  - kvmfleet.compute.libvirt
author: kvmfleet contributors (@kvmfleet)
"""

EXAMPLES = r"""
- name: Stop and seal the guest
  kvmfleet.compute.source_copy:
    state: sealed
    migration_uuid: "{{ migration_uuid }}"
    owner: "{{ owner }}"
    destination_host: kvm2
    shutdown_timeout: 120

- name: Freeze what the guest has written so far
  kvmfleet.compute.source_copy:
    state: frozen
    migration_uuid: "{{ migration_uuid }}"
    owner: "{{ owner }}"
    rate: 100000000

- name: Remove the source copy once the move is confirmed
  kvmfleet.compute.source_copy:
    state: absent
    migration_uuid: "{{ migration_uuid }}"
    owner: "{{ owner }}"
"""

RETURN = r"""
frozen:
  description: Whether a round was begun, so that there is something to copy.
  type: bool
  returned: when O(state=frozen) and not in check mode
reason:
  description: Why no round was begun. V(null) if one was.
  type: str
  returned: when O(state=frozen) and not in check mode
round:
  description: Number of the round, from 0.
  type: int
  returned: when O(state=frozen) and not in check mode
bytes:
  description: Bytes of data that are frozen, or that are left to copy.
  type: int
  returned: when O(state=frozen) and not in check mode
quiesced:
  description: Whether the guest agent froze the filesystems for it. V(null) if no round was begun.
  type: bool
  returned: when O(state=frozen) and not in check mode
stopped:
  description: How the guest was stopped.
  type: dict
  returned: when O(state=sealed) and not in check mode
  contains:
    was_running:
      description: Whether it ran.
      type: bool
    method:
      description: V(agent) or V(acpi), whichever the guest took first; V(destroy), V(already_off) or V(guest).
      type: str
    requested_at:
      description: When the shutdown was asked for first, in seconds since the epoch.
      type: float
    off_at:
      description: When libvirt reported it off, in seconds since the epoch.
      type: float
answered_at:
  description: The time by the clock of this host when it answered, in seconds since the epoch.
  type: float
  returned: when something was done
received_at:
  description: When the controller had the answer, in seconds by a clock of its own that has no epoch. For times between the answers of several hosts.
  type: float
  returned: always
error_code:
  description:
    - V(host_hangs), V(run_gone),
      V(not_running), V(disk_in_use_by), V(block_job_active), V(has_checkpoints), V(checkpoint_broken), V(layer_covered), V(shutdown_timeout),
      V(shutdown_pending), V(unsupported_state), V(poweroff_restarts), V(image_dirty), V(image_corrupt),
      V(live_differences), V(definition_differs),
      V(guest_frozen), V(not_off), V(image_in_use), V(definition_changed), V(chain_changed), V(instance_vanished), V(not_persistent), V(channel_gone),
      V(sealed_path_taken), V(name_taken),
      V(link_not_followed), V(snapshot_memory), V(snapshot_elsewhere), V(layer_has_snapshots), V(secret_missing), V(wrong_status), V(not_owner)
      or V(unknown_migration).
  type: str
  returned: failure
"""

from ansible_collections.kvmfleet.compute.plugins.module_utils._channel.export import Server
from ansible_collections.kvmfleet.compute.plugins.module_utils._guest import power as _power
from ansible_collections.kvmfleet.compute.plugins.module_utils._operation import precopy as _precopy, sealing as _sealing
from ansible_collections.kvmfleet.compute.plugins.module_utils._operation.frame import run
from ansible_collections.kvmfleet.compute.plugins.module_utils._options import LOST_ARGS, SHUTDOWN_ARGS, shutdown
from ansible_collections.kvmfleet.compute.plugins.module_utils._rules.errors import KvmfleetError
from ansible_collections.kvmfleet.compute.plugins.module_utils._storage.disk_use import DiskUses
from ansible_collections.kvmfleet.compute.plugins.module_utils._storage.kinds import registry as _kinds
from ansible_collections.kvmfleet.compute.plugins.module_utils._system import watchdog as _watchdog

_DONE = {
    "frozen": (),
    "sealed": (),
    "finished": ("finished",),
    "restorable": ("reverted", "error"),
    "restored": ("reverted", "error"),
    "absent": ("confirmed",),
}


def open_server(journal, record):
    server = Server(journal.state, record["uuid"])
    if server.port is None:
        raise KvmfleetError("channel_gone", f"The channel of migration {record['uuid']} is not open any more; the guest was not touched.")
    return server


def freeze(params, conn, journal, record):
    server = open_server(journal, record)
    domain = _sealing.require_unchanged(conn, record)
    _precopy.require_running(domain, record)
    _sealing.require_free(DiskUses(conn, journal.state), record, domain, layered=True)
    options = {name: params[name] for name in ("rate", "downtime", "max_rounds", "quiesce")}
    record, done = _precopy.freeze(conn, journal, record, domain, **options)
    if done["frozen"]:
        files = _precopy.frozen_files(record, done["round"])
        for name, path in files.items():
            server.offer_file(name, path)
        server.offer_manifest({"migration_uuid": record["uuid"], "round": done["round"], **_sealing.measured(record, files)})
    return dict(done, changed=done["frozen"])


def seal(params, conn, journal, record):
    server = open_server(journal, record)
    record = journal.update(record, destination_host=params["destination_host"], carried_secrets=params["secrets"])
    handed = _sealing.hand_over(conn, journal, record, shutdown(params))
    for name, path in handed["files"].items():
        server.offer_file(name, path, held=name in handed["held"])
    server.offer_manifest(handed["manifest"])
    return {"changed": True, "stopped": handed["stopped"]}


def finish(params, conn, journal, record):
    Server(journal.state, record["uuid"]).close()
    journal.update(record, status="finished", step="finished")
    return {"changed": True}


def ask(params, conn, journal, record):
    _sealing.require_restorable(conn, journal, record)
    return {"changed": False}


def take_back(params, conn, journal, record):
    """The run has gone without the answer that the copy is sealed, so it has not begun to start the guest elsewhere, and nobody else may before it."""
    Server(journal.state, record["uuid"]).close()
    _sealing.restore(conn, journal, record, status="error", error="its run went before the guest was handed over, so this host took it back by itself")


def restore(params, conn, journal, record):
    Server(journal.state, record["uuid"]).close()
    with _watchdog.finishing():
        if record["status"] == "finished":
            record = journal.update(record, status="reverting", step="reverting")
        status = "reverted" if record["status"] == "reverting" else "error"
        changed = _sealing.restore(conn, journal, record, status=status, error=params["error"])
    _power.await_agent(conn, record, params["agent_timeout"])
    return {"changed": changed}


def discard(params, conn, journal, record):
    Server(journal.state, record["uuid"]).close()
    if (record["status"], record["step"]) == ("migrating", "sealed"):  # this host was lost before it could note that the destination had taken over
        record = journal.update(record, status="finished", step="finished")
    changed = _sealing.discard(conn, journal, record)
    _kinds.sync(conn, record["disks"])
    return {"changed": changed}


TAKEN_BACK = {"sealed": take_back}
ACTIONS = {"frozen": freeze, "sealed": seal, "finished": finish, "restorable": ask, "restored": restore, "absent": discard}


def main():
    run(
        ACTIONS,
        _DONE,
        dict(
            SHUTDOWN_ARGS,
            **LOST_ARGS,
            destination_host={"type": "str"},
            secrets={"type": "list", "elements": "str", "default": [], "no_log": False},
            rate={"type": "float", "default": 0.0},
            downtime={"type": "float", "default": 1.0},
            max_rounds={"type": "int", "default": 5},
            quiesce={"type": "bool", "default": True},
            agent_timeout={"type": "float", "default": 0.0},
            error={"type": "str"},
        ),
        changes_nothing=("restorable",),
        taken_back=TAKEN_BACK,
        required_if=[("state", "sealed", ["destination_host"])],
    )


if __name__ == "__main__":
    main()
