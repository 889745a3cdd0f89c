#!/usr/bin/python
# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: migration_info
short_description: Read the journal of a host
version_added: 0.1.0
description:
  - Returns the records of operations in which this host takes or took part, oldest first.
options:
  open_only:
    description: Leave out records that are confirmed, reverted or ended in an error.
    type: bool
    default: true
  instance:
    description: Name or UUID of an instance. Without it, the records of all instances are returned.
    type: str
  migration_uuid:
    description: UUID of an operation. Without it, the records of all operations are returned.
    type: str
  history:
    description: Include the audit trail of each record.
    type: bool
    default: false
extends_documentation_fragment:
  - kvmfleet.compute.attributes
  - kvmfleet.compute.hanging
  - kvmfleet.compute.attributes.info_module
  - kvmfleet.compute.state
author: kvmfleet contributors (@kvmfleet)
"""

EXAMPLES = r"""
- name: What happened to web1 on this host
  kvmfleet.compute.migration_info:
    instance: web1
    open_only: false
    history: true
  register: journal
"""

RETURN = r"""
migrations:
  description:
    - The records without what only recovery needs.
    - C(uuid) is the same at all hosts of an operation. C(status) is confirmed, reverted or error once it has ended, with the C(error) that it ended in.
    - C(requested_by) has the C(user), the C(job), the C(schedule) and the C(workflow_job) that began it, C(reason) what for, and C(taken_over_by) the C(by) and
      the C(reason) of the latest run that confirmed, reverted or recovered it.
    - C(abandoned) says that the run which worked on it was seen to go, so that nobody has to wait for it.
    - With O(history), C(history) has each step with the time (C(at), in seconds since the epoch), C(status), C(step), a C(note), and, where a run began to
      act, C(by) and C(reason).
    - While a copy runs, the one of its destination has C(progress) with C(percent), C(bytes_done), C(bytes_total), C(rate) in bytes a second, C(eta) in
      seconds (V(null) while there is no rate), C(resumed) (how often it was mended) and C(updated_at).
  type: list
  elements: dict
  returned: success
  sample:
    - uuid: 6f1c2f6e-6f0e-4f0e-8b5c-0a7f4c1f6a51
      instance_name: web1
      status: finished
      step: finished
      source_host: kvm1
      destination_host: kvm2
      requested_by:
        user: alice
        job: "42"
      reason: CHG-1042, more memory
error_code:
  description: V(host_hangs), V(run_gone), V(record_unreadable), V(schema_too_new) or V(os_error).
  type: str
  returned: failure
"""

from ansible_collections.kvmfleet.compute.plugins.module_utils._journal.progress import added
from ansible_collections.kvmfleet.compute.plugins.module_utils._journal.records import CLOSED, Journal, public, summary
from ansible_collections.kvmfleet.compute.plugins.module_utils._journal.state_dir import StateDir
from ansible_collections.kvmfleet.compute.plugins.module_utils._module import STATE_ARGS, run


def main():
    def act(module):
        params = module.params
        state = StateDir(params["state_path"])
        wanted = [
            record
            for record in Journal(state).all()
            if not (params["open_only"] and record["status"] in CLOSED)
            and params["instance"] in (None, record["instance_name"], record["instance_uuid"])
            and params["migration_uuid"] in (None, record["uuid"])
        ]
        return {"changed": False, "migrations": [added(state, (public if params["history"] else summary)(record)) for record in wanted]}

    run(
        act,
        dict(
            STATE_ARGS,
            open_only={"type": "bool", "default": True},
            instance={"type": "str"},
            migration_uuid={"type": "str"},
            history={"type": "bool", "default": False},
        ),
        needs_libvirt=False,
    )


if __name__ == "__main__":
    main()
