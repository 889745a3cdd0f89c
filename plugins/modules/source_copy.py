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
  - Seals the source copy (guest stopped and proven off, definition archived and undefined, disks renamed), restores it, or removes it for good.
  - Nothing of the source copy is deleted before O(state=absent).
options:
  state:
    description:
      - V(sealed) stops the guest, seals its copy and offers it through the channel that M(kvmfleet.compute.copy_channel) opened.
      - V(finished) notes that the destination has taken over, and closes the channel. The sealed copy stays.
      - V(restored) puts everything back as it was, running if it ran, and closes the record.
      - V(absent) removes the sealed copy for good and closes the record.
    type: str
    choices: [sealed, finished, restored, absent]
    required: true
  destination_host:
    description: Inventory name of the host that takes the instance. Required for O(state=sealed), since recovery must know whom to ask.
    type: str
  error:
    description: Why the operation is undone, for the audit trail. Makes O(state=restored) end with the status V(error) instead of V(reverted).
    type: str
extends_documentation_fragment:
  - kvmfleet.compute.attributes
  - kvmfleet.compute.attributes.operation_module
  - kvmfleet.compute.operation
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

- name: Remove the source copy once the move is confirmed
  kvmfleet.compute.source_copy:
    state: absent
    migration_uuid: "{{ migration_uuid }}"
    owner: "{{ owner }}"
"""

RETURN = r"""
stopped:
  description: How the guest was stopped.
  type: dict
  returned: when O(state=sealed) and not in check mode
  contains:
    was_running:
      description: Whether it ran.
      type: bool
    method:
      description: V(agent), V(acpi), V(destroy), V(already_off) or V(guest).
      type: str
    requested_at:
      description: When the shutdown was asked for first, in seconds since the epoch.
      type: float
    off_at:
      description: When libvirt reported it off, in seconds since the epoch.
      type: float
error_code:
  description:
    - V(shutdown_timeout), V(not_off), V(image_in_use), V(definition_changed), V(chain_changed), V(instance_vanished), V(channel_gone),
      V(sealed_path_taken), V(wrong_status), V(not_owner) or V(unknown_migration).
  type: str
  returned: failure
"""

from ansible_collections.kvmfleet.compute.plugins.module_utils import _pools, _sealing
from ansible_collections.kvmfleet.compute.plugins.module_utils._errors import KvmfleetError
from ansible_collections.kvmfleet.compute.plugins.module_utils._export import Server
from ansible_collections.kvmfleet.compute.plugins.module_utils._operation import run
from ansible_collections.kvmfleet.compute.plugins.module_utils._options import SHUTDOWN_ARGS, shutdown

_DONE = {"sealed": (), "finished": ("finished",), "restored": ("reverted", "error"), "absent": ("confirmed",)}


def seal(params, conn, journal, record):
    server = Server(journal.state, record["uuid"])
    if server.port is None:
        raise KvmfleetError("channel_gone", f"The channel of migration {record['uuid']} is not open any more; the guest was not touched.")
    record = journal.update(record, destination_host=params["destination_host"])
    handed = _sealing.hand_over(conn, journal, record, shutdown(params))
    for name, path in handed["files"].items():
        server.offer_file(name, path)
    server.offer_manifest(handed["manifest"])
    return {"changed": True, "stopped": handed["stopped"]}


def finish(params, conn, journal, record):
    Server(journal.state, record["uuid"]).close()
    journal.update(record, status="finished", step="finished")
    return {"changed": True}


def restore(params, conn, journal, record):
    Server(journal.state, record["uuid"]).close()
    if record["status"] == "finished":
        record = journal.update(record, status="reverting", step="reverting")
    status = "reverted" if record["status"] == "reverting" else "error"
    return {"changed": _sealing.restore(conn, journal, record, status=status, error=params["error"])}


def discard(params, conn, journal, record):
    Server(journal.state, record["uuid"]).close()
    changed = _sealing.discard(journal, record)
    _pools.sync(conn, record["disks"])
    return {"changed": changed}


ACTIONS = {"sealed": seal, "finished": finish, "restored": restore, "absent": discard}


def main():
    run(
        ACTIONS,
        _DONE,
        dict(SHUTDOWN_ARGS, destination_host={"type": "str"}, error={"type": "str"}),
        required_if=[("state", "sealed", ["destination_host"])],
    )


if __name__ == "__main__":
    main()
