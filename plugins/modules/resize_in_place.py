#!/usr/bin/python
# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: resize_in_place
short_description: Resize an instance on the host where it is
version_added: 0.1.0
description:
  - Gives a guest another flavor without moving it. Nothing is copied.
  - Its disks are frozen under new, empty layers until the resize is confirmed, so that a revert brings back the disks as they were at the switch.
options:
  state:
    description:
      - V(finished) stops the guest, layers its disks, grows those that the flavor has larger, redefines the guest with the new flavor and the disks that were
        made for it, and starts it if it ran. A guest that an earlier run has started, or may have, is not started again, whatever it does now.
      - V(restored) goes back to the old flavor and the old disks, and removes those that were made. Before the operation is finished it is refused with the
        error code V(guest_has_run) if the guest may have written with the new flavor.
      - V(confirmed) merges the layers back into the disks, and removes a swap disk that the guest has no more. A running guest goes on running. A guest that
        ran before has to run, and its agent to answer if it answered before (O(agent_timeout), O(without_agent)).
    type: str
    choices: [finished, restored, confirmed]
    required: true
  interrupted:
    description:
      - With O(state=restored), that only an operation which was interrupted is to be undone. One that is finished, perhaps since that was decided, is left
        as it is with the error code V(guest_has_run).
    type: bool
    default: false
  error:
    description: Why the operation is undone, for the audit trail.
    type: str
  merge_timeout:
    description: Seconds without progress after which merging a layer is given up. It can be repeated.
    type: float
    default: 120.0
extends_documentation_fragment:
  - kvmfleet.compute.attributes
  - kvmfleet.compute.hanging
  - kvmfleet.compute.attributes.operation_module
  - kvmfleet.compute.operation
  - kvmfleet.compute.operation.connection
  - kvmfleet.compute.operation.history
  - kvmfleet.compute.operation.proof
  - kvmfleet.compute.operation.shutdown
  - kvmfleet.compute.operation.watch
  - kvmfleet.compute.state
  - kvmfleet.compute.libvirt
author: kvmfleet contributors (@kvmfleet)
"""

EXAMPLES = r"""
- name: Switch the guest to the flavor that the operation was begun with
  kvmfleet.compute.resize_in_place:
    state: finished
    migration_uuid: "{{ migration_uuid }}"
    owner: "{{ owner }}"

- name: Keep it
  kvmfleet.compute.resize_in_place:
    state: confirmed
    migration_uuid: "{{ migration_uuid }}"
    owner: "{{ owner }}"
"""

RETURN = r"""
stopped:
  description: How the guest was stopped, as in M(kvmfleet.compute.source_copy).
  type: dict
  returned: when O(state=finished) and not in check mode
timings:
  description: When libvirt had started the guest, in seconds since the epoch. V(null) if it was off.
  type: dict
  returned: when O(state=finished) and not in check mode
came_up:
  description: Whether the guest runs after O(settle_time). V(null) for a guest that was off.
  type: bool
  returned: when O(state=finished) and not in check mode
agent_answered:
  description: Whether the guest agent answered within O(agent_timeout). V(null) where it was not waited for.
  type: bool
  returned: when O(state=finished) and not in check mode
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
      V(disk_in_use_by), V(block_job_active), V(has_checkpoints), V(checkpoint_broken), V(layer_covered), V(unsupported_state), V(shutdown_timeout),
      V(shutdown_pending), V(poweroff_restarts), V(image_dirty), V(image_corrupt), V(not_off), V(image_in_use),
      V(live_differences), V(definition_differs),
      V(definition_changed), V(chain_changed), V(definition_not_taken), V(did_not_come_up), V(guest_has_run), V(destination_not_proven),
      V(commit_failed), V(commit_stalled), V(layer_has_snapshots), V(kept_copy_broken), V(copy_differs), V(link_not_followed), V(no_space),
      V(wrong_status), V(not_owner) or V(unknown_migration).
  type: str
  returned: failure
"""

from ansible_collections.kvmfleet.compute.plugins.module_utils._guest import power as _power
from ansible_collections.kvmfleet.compute.plugins.module_utils._libvirt import domains as _domains
from ansible_collections.kvmfleet.compute.plugins.module_utils._operation import in_place as _in_place
from ansible_collections.kvmfleet.compute.plugins.module_utils._operation.frame import run
from ansible_collections.kvmfleet.compute.plugins.module_utils._options import PROOF_ARGS, SHUTDOWN_ARGS, WATCH_ARGS, shutdown, watch
from ansible_collections.kvmfleet.compute.plugins.module_utils._storage import run_evidence as _run_evidence
from ansible_collections.kvmfleet.compute.plugins.module_utils._system import watchdog as _watchdog

_DONE = {"finished": ("finished",), "restored": ("reverted", "error"), "confirmed": ("confirmed",)}


def resize(params, conn, journal, record):
    return dict(_in_place.resize(conn, journal, record, shutdown=shutdown(params), watch=watch(params)), changed=True)


def take_back(params, conn, journal, record):
    """The run has gone: unless the guest may have written with the new flavor, it runs again with the old one. Otherwise recover goes on from there."""
    error = "its run went before the guest was started with the new flavor, so this host took it back by itself"
    if _run_evidence.has_run(_domains.find_domain(conn, record["instance_uuid"]), record) is None:
        _in_place.restore(conn, journal, record, status="error", shutdown=shutdown(params), error=error)


def restore(params, conn, journal, record):
    if params["interrupted"]:
        _run_evidence.require_interrupted(record)
    status = "reverted" if record["status"] in ("finished", "reverting") else "error"
    with _watchdog.finishing():
        changed = _in_place.restore(conn, journal, record, status=status, shutdown=shutdown(params), error=params["error"])
    if params["interrupted"]:
        _power.await_agent(conn, record, params["agent_timeout"])
    return {"changed": changed}


def confirm(params, conn, journal, record):
    proof = {name: params[name] for name in ("agent_timeout", "without_agent")}
    return {"changed": _in_place.confirm(conn, journal, record, timeout=params["merge_timeout"], **proof)}


TAKEN_BACK = {"finished": take_back}
ACTIONS = {"finished": resize, "restored": restore, "confirmed": confirm}


def main():
    run(
        ACTIONS,
        _DONE,
        dict(
            SHUTDOWN_ARGS,
            **PROOF_ARGS,
            **WATCH_ARGS,
            interrupted={"type": "bool", "default": False},
            error={"type": "str"},
            merge_timeout={"type": "float", "default": 120.0},
        ),
        taken_back=TAKEN_BACK,
    )


if __name__ == "__main__":
    main()
