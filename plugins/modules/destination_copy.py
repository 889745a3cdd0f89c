#!/usr/bin/python
# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: destination_copy
short_description: The copy of an instance at the destination of an operation
version_added: 0.1.0
description:
  - Pulls the sealed copy through the channel, verifies it, rebases it onto this host's base image, grows the disks that the flavor has larger, defines
    the domain with the new flavor and the disks that were made for it, starts it if it ran and watches it come up.
  - Also proves, confirms and withdraws that copy.
options:
  state:
    description:
      - V(reached) looks whether this host reaches the channel at O(address) and O(port), and changes nothing.
      - V(tried) finds out whether libvirt here takes the definition that the guest is to have, with its new flavor, and leaves nothing of it. The channel
        must show it (O(kvmfleet.compute.copy_channel#module:definition)). An older libvirt gets it without what a newer one adds by itself, such as the
        watchdog of q35, if it does not take it with that; the record then says so.
      - V(precopied) receives what M(kvmfleet.compute.source_copy) has frozen while the guest runs at its source, and merges it into what came before.
      - V(started) receives and starts the guest (a guest that was off is only defined). It goes on where an earlier run stopped after the copy was
        complete. A guest that an earlier run has started, or may have, is not started again, whatever it does now.
      - V(proven) checks that this host runs the guest (or holds it, if it was off) and notes that the confirm has begun. A guest that is paused, crashed or
        suspended does not run, and one whose agent answered before has to answer (O(agent_timeout), O(without_agent)).
      - V(confirmed) closes the record after the source copy was removed.
      - V(undefined) stops and undefines the guest, so that this host cannot start it any more. Its files stay.
      - V(absent) does the same, removes the files that the operation created, releases the claim and closes the record. Unless the operation is being
        reverted (V(undefined) begins that), a copy that the guest may have written to stays, and one that is finished, with the error code
        V(guest_has_run) (see O(discard_started)).
    type: str
    choices: [reached, tried, precopied, started, proven, confirmed, undefined, absent]
    required: true
  address:
    description: Address of the source at which the channel is served.
    type: str
  port:
    description: TCP port of the channel.
    type: int
  key:
    description: One-time key of the channel. Required with O(address), except for O(state=reached).
    type: str
  connect_timeout:
    description: Seconds that the channel has to answer for O(state=reached).
    type: float
    default: 5.0
  bases:
    description: SHA-256 of each base image of the operation, and its path on this host.
    type: dict
    default: {}
  stall_timeout:
    description:
      - Seconds without progress after which a copy is given up, however long it takes in all.
      - A copy that breaks goes on within them, and only segments that differ from the source travel again, and small gaps between them.
    type: float
    default: 60.0
  verify:
    description:
      - How the copy is compared with the source before the source is given up.
      - V(extents) compares checksums of all data. The copy is read as the kernel has it, mostly from memory.
      - V(full) reads the copy back from the disk, holes too, so it also proves what the disk took.
      - V(none) compares nothing. TLS still proves that what travelled was not changed on the way.
      - C(qemu-img check) and the walk of the complete chain are always done.
    type: str
    choices: [extents, full, none]
    default: extents
  bandwidth_limit:
    description: Bytes a second that the channel sends at most, V(0) for no limit. It is noted with how fast the copy was, and limits nothing here.
    type: bytes
    default: "0"
  progress_interval:
    description: While the copy runs, Ansible says after each of so many seconds how far it is. V(0) says nothing. Shorter copies cost no further round trip.
    type: float
    default: 10.0
  keep_partial:
    description:
      - Seconds for which O(state=absent) keeps the disks of a copy that is not complete, so that the next operation that brings the instance to this host
        goes on with them. V(0) keeps nothing.
      - They go earlier if anything else needs the room, and are shortened where they leave the filesystem less than 5 percent.
    type: float
    default: 0
  discard_started:
    description:
      - Lets O(state=undefined) and O(state=absent) stop and discard a copy that the guest has run on, though nobody has asked to revert. Meant for a host
        that comes back after it had been given up as lost.
    type: bool
    default: false
  error:
    description: Why the operation is undone, for the audit trail. Makes O(state=absent) end with the status V(error) instead of V(reverted).
    type: str
extends_documentation_fragment:
  - kvmfleet.compute.attributes
  - kvmfleet.compute.hanging
  - kvmfleet.compute.attributes.operation_module
  - kvmfleet.compute.operation
  - kvmfleet.compute.operation.connection
  - kvmfleet.compute.operation.history
  - kvmfleet.compute.operation.lost
  - kvmfleet.compute.operation.proof
  - kvmfleet.compute.operation.shutdown
  - kvmfleet.compute.operation.watch
  - kvmfleet.compute.state
  - kvmfleet.compute.libvirt
author: kvmfleet contributors (@kvmfleet)
"""

EXAMPLES = r"""
- name: Receive what the running guest has written so far
  kvmfleet.compute.destination_copy:
    state: precopied
    migration_uuid: "{{ migration_uuid }}"
    owner: "{{ owner }}"
    address: 192.0.2.11
    port: "{{ channel.port }}"
    key: "{{ one_time_key }}"
    bases: "{{ {base.sha256: base.path} }}"

- name: Does this host reach the channel?
  kvmfleet.compute.destination_copy:
    state: reached
    migration_uuid: "{{ migration_uuid }}"
    owner: "{{ owner }}"
    address: 192.0.2.11
    port: "{{ channel.port }}"
  register: way

- name: Receive and start the guest
  kvmfleet.compute.destination_copy:
    state: started
    migration_uuid: "{{ migration_uuid }}"
    owner: "{{ owner }}"
    address: 192.0.2.11
    port: "{{ channel.port }}"
    key: "{{ one_time_key }}"
    bases: "{{ {base.sha256: base.path} }}"
    agent_timeout: 60

- name: Give it up again
  kvmfleet.compute.destination_copy:
    state: absent
    migration_uuid: "{{ migration_uuid }}"
    owner: "{{ owner }}"
    error: the operator changed his mind
"""

RETURN = r"""
reachable:
  description: Whether the channel answered.
  type: bool
  returned: when O(state=reached) and not in check mode
reason:
  description: Why it did not. V(null) if it did.
  type: str
  returned: when O(state=reached) and not in check mode
bytes:
  description: Bytes of data that travelled in this round.
  type: int
  returned: when O(state=precopied) and not in check mode
rate:
  description: Bytes a second of the fastest round so far.
  type: int
  returned: when O(state=precopied) and not in check mode
bytes_transferred:
  description: Bytes of data that travelled through the channel for the guest's own files, all rounds together. Base images are not among them.
  type: int
  returned: when O(state=started) and not in check mode
resumed_bytes:
  description: Bytes of data that did not travel, since an earlier operation that was undone had brought them. RV(bytes_transferred) does not count them.
  type: int
  returned: when O(state=started) and not in check mode
copied_by:
  description: The program that pulled the files, C(nbdcopy), or C(qemu-img) where that is not installed. It is in the record of the destination too.
  type: str
  returned: when O(state=started) and not in check mode
timings:
  description: When the copy began, was complete, was verified, and when libvirt had started the guest (V(null) if it was off), in seconds since the epoch.
  type: dict
  returned: when O(state=started) and not in check mode
came_up:
  description: Whether the guest runs after O(settle_time). V(null) for a guest that was off.
  type: bool
  returned: when O(state=started) and not in check mode
agent_answered:
  description: Whether the guest agent answered within O(agent_timeout). V(null) where it was not waited for.
  type: bool
  returned: when O(state=started) and not in check mode
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
      V(copy_failed), V(copy_stalled), V(copy_incomplete), V(verification_failed), V(manifest_invalid), V(no_space), V(path_taken), V(link_not_followed),
      V(base_missing), V(base_differs), V(chain_changed), V(definition_not_taken), V(definition_refused), V(handed_value), V(image_outside_directories),
      V(image_is_symlink), V(qemu_cannot_open), V(unknown_user), V(did_not_come_up), V(guest_has_run), V(host_restarted), V(destination_not_proven),
      V(foreign_definition), V(disk_covered), V(disk_in_use_by), V(image_in_use), V(secret_missing), V(secret_differs), V(shutdown_timeout),
      V(unsupported_state), V(shutdown_pending), V(poweroff_restarts), V(checkpoint_broken),
      V(wrong_status), V(not_owner) or V(unknown_migration).
  type: str
  returned: failure
"""

from ansible_collections.kvmfleet.compute.plugins.module_utils._channel.protocol import unreachable
from ansible_collections.kvmfleet.compute.plugins.module_utils._journal.records import require_same_boot
from ansible_collections.kvmfleet.compute.plugins.module_utils._operation import receiving as _receiving, withdrawing as _withdrawing
from ansible_collections.kvmfleet.compute.plugins.module_utils._operation.frame import run
from ansible_collections.kvmfleet.compute.plugins.module_utils._options import LOST_ARGS, PROOF_ARGS, SHUTDOWN_ARGS, WATCH_ARGS, shutdown, watch
from ansible_collections.kvmfleet.compute.plugins.module_utils._rules.errors import KvmfleetError
from ansible_collections.kvmfleet.compute.plugins.module_utils._storage import incoming as _incoming, run_evidence as _run_evidence
from ansible_collections.kvmfleet.compute.plugins.module_utils._storage.kinds import registry as _kinds

_DONE = {
    "reached": (),
    "tried": (),
    "precopied": (),
    "started": ("finished",),
    "proven": ("confirming", "confirmed"),
    "confirmed": ("confirmed",),
    "undefined": ("reverted", "error"),
    "absent": ("reverted", "error"),
}


def channel(params):
    return {key: params[key] for key in ("address", "port", "key", "stall_timeout")}


def copying(params):
    return {key: params[key] for key in ("bases", "verify", "bandwidth_limit")}


def reach(params, conn, journal, record):
    reason = unreachable(params["address"], params["port"], params["connect_timeout"])
    return {"changed": False, "reachable": reason is None, "reason": reason}


def try_definition(params, conn, journal, record):
    _receiving.try_definition(conn, journal, record, channel=channel(params), bases=params["bases"])
    return {"changed": False}


def precopy(params, conn, journal, record):
    return dict(_receiving.receive_round(journal, record, channel=channel(params), **copying(params)), changed=True)


def start(params, conn, journal, record):
    require_same_boot(record)
    if params["key"] is None and record["step"] in _incoming.UNCOPIED:
        raise KvmfleetError("copy_incomplete", f"The copy of {record['instance_name']} is not complete here; it needs a channel, or has to be taken back.")
    received = _receiving.receive(conn, journal, record, channel=channel(params), watch=watch(params), **copying(params))
    record = journal.get(record["uuid"])
    told = {key: record.get(key) for key in ("bytes_transferred", "resumed_bytes", "copied_by")}
    return dict(received, changed=True, **told)


def prove(params, conn, journal, record):
    _receiving.prove(conn, record, agent_timeout=params["agent_timeout"], without_agent=params["without_agent"])
    journal.update(record, status="confirming", step="confirming")
    return {"changed": True}


def confirm(params, conn, journal, record):
    return {"changed": _receiving.confirm(journal, record)}


def undefine(params, conn, journal, record):
    return {"changed": _withdrawing.undefine(conn, journal, record, shutdown(params), discard_started=params["discard_started"])}


def withdraw(params, conn, journal, record):
    if not params["discard_started"]:
        _run_evidence.require_interrupted(record)
    undefined = _withdrawing.undefine(conn, journal, record, shutdown(params), discard_started=params["discard_started"])
    status = "reverted" if record["status"] == "reverting" else "error"
    withdrawn = _withdrawing.withdraw(conn, journal, record, status=status, error=params["error"], keep_partial=params["keep_partial"])
    _kinds.sync(conn, _incoming.all_files(record))
    return {"changed": withdrawn or undefined}


ACTIONS = {
    "reached": reach,
    "tried": try_definition,
    "precopied": precopy,
    "started": start,
    "proven": prove,
    "confirmed": confirm,
    "undefined": undefine,
    "absent": withdraw,
}


def main():
    run(
        ACTIONS,
        _DONE,
        dict(
            SHUTDOWN_ARGS,
            **LOST_ARGS,
            **PROOF_ARGS,
            **WATCH_ARGS,
            address={"type": "str"},
            port={"type": "int"},
            key={"type": "str", "no_log": True},
            connect_timeout={"type": "float", "default": 5.0},
            bases={"type": "dict", "default": {}},
            stall_timeout={"type": "float", "default": 60.0},
            verify={"type": "str", "choices": ["extents", "full", "none"], "default": "extents"},
            bandwidth_limit={"type": "bytes", "default": "0"},
            progress_interval={"type": "float", "default": 10.0},  # for the action plugin
            keep_partial={"type": "float", "default": 0},
            discard_started={"type": "bool", "default": False},
            error={"type": "str"},
        ),
        required_together=[("address", "port")],
        required_by={"key": ["address"]},
        required_if=[("state", "reached", ["address"]), *(("state", state, ["address", "key"]) for state in ("tried", "precopied"))],
        changes_nothing=("reached", "tried"),
    )


if __name__ == "__main__":
    main()
