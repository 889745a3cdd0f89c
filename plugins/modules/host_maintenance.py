#!/usr/bin/python
# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: host_maintenance
short_description: Close a host for guests, and tell what its maintenance has come to
version_added: 0.1.0
author: kvmfleet contributors (@kvmfleet)
description:
  - Keeps the host's own record of its maintenance, under the lock by which it takes claims. While the record is in force no guest comes to the host or
    grows on it, whatever facts or inventory its controller has. Guests may leave, and what an operation undoes or reverts may come back.
  - The playbooks C(kvmfleet.compute.drain) and C(kvmfleet.compute.restore) use it. Alone it closes a host that is emptied by hand.
  - M(kvmfleet.compute.host_facts) returns the record as C(maintenance).
options:
  state:
    description:
      - V(draining) closes the host, or goes on with what was paused or interrupted.
      - V(paused) lets no move of the drain begin any more. What is at work ends. Any run may pause.
      - V(evacuated) says that nothing can start on the host, so that it may be rebooted. The host looks first, and refuses where that is not so.
      - V(empty) says that nothing of any guest is left, no copy that a revert would need and no claim. The host looks first. What the journals of other hosts
        say is for the caller to ask.
      - V(restoring) lets guests come home whose move is part of the restore. Nothing else gets in.
      - V(in_service) opens the host again, after V(restoring).
    type: str
    required: true
    choices: [draining, paused, evacuated, empty, restoring, in_service]
  maintenance_uuid:
    description: UUID of the drain. Where one is in force already, that goes on, and this is not used.
    type: str
    required: true
  owner:
    description:
      - The run that acts. Another one is refused with the error code V(maintenance_alive) as long as this is at work, or was heard of within O(lease).
    type: str
    required: true
  lease:
    description:
      - Seconds for which the record belongs to O(owner) without a sign of life. Each move that is part of the drain renews it when it begins and ends.
      - A run waits for the rest of the lease of one that may have gone, and for no longer.
    type: float
    default: 60.0
  release:
    description: The run ends here, so that nobody has to wait for its lease.
    type: bool
    default: false
  options:
    description: What the drain was asked for, which the same drain goes on with.
    type: dict
  guests:
    description: Entries of guests by UUID, added to those that are there.
    type: dict
  left:
    description: Names or UUIDs of guests that may stay though the host is V(evacuated), each by somebody's word.
    type: list
    elements: str
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
  - kvmfleet.compute.operation.audit
  - kvmfleet.compute.state
  - kvmfleet.compute.libvirt
"""

EXAMPLES = r"""
- name: Close the host for what comes
  kvmfleet.compute.host_maintenance:
    state: draining
    maintenance_uuid: 0a8f1a3e-8f1c-4c62-9d7b-5f5b1a1f8f10
    owner: run-1
    reason: new memory
"""

RETURN = r"""
maintenance:
  description: The record as it is now, or would be. C(state) is V(in_service) where there is none.
  type: dict
  returned: success
error_code:
  description: >-
    V(host_hangs), V(run_gone), V(maintenance_alive), V(reason_missing), V(wrong_state), V(not_evacuated), V(not_empty), V(locked), V(invalid_directory),
    V(record_unreadable), V(schema_too_new), V(state_directory_unusable), V(libvirt_unavailable) or V(libvirt_error).
  type: str
  returned: failure
"""

import json
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.kvmfleet.compute.plugins.module_utils._host import vacancy as _vacancy
from ansible_collections.kvmfleet.compute.plugins.module_utils._journal import claims as _claims, maintenance as _maintenance
from ansible_collections.kvmfleet.compute.plugins.module_utils._journal.records import Journal
from ansible_collections.kvmfleet.compute.plugins.module_utils._journal.state_dir import StateDir
from ansible_collections.kvmfleet.compute.plugins.module_utils._libvirt import connection as _connection
from ansible_collections.kvmfleet.compute.plugins.module_utils._module import LIBVIRT_ARGS, STATE_ARGS, run
from ansible_collections.kvmfleet.compute.plugins.module_utils._options import AUDIT_ARGS

SHOWN = ("state", "reason", "options", "left", "guests")


def main(module: AnsibleModule) -> dict[str, Any]:
    params = module.params
    wanted, journal = params["state"], Journal(StateDir(params["state_path"]))
    if wanted != _maintenance.PAUSED and not module.check_mode:
        _maintenance.await_turn(journal.state, params["owner"])
    if module.check_mode:  # which makes no lock either
        return changed(params, journal, dry_run=True)
    with journal.state.lock(_claims.LOCK):
        return changed(params, journal)


def changed(params: dict[str, Any], journal: Journal, dry_run: bool = False) -> dict[str, Any]:
    wanted = params["state"]
    if wanted in (_maintenance.EVACUATED, _maintenance.EMPTY):
        with _connection.connect(params["uri"]) as conn:
            if wanted == _maintenance.EMPTY:
                _vacancy.require_empty(conn, journal)
            else:
                _vacancy.require_evacuated(conn, journal, params["left"] or ())
    asked = _maintenance.Wanted(
        state=wanted,
        uuid=params["maintenance_uuid"],
        by=params["requested_by"],
        **{name: params[name] for name in ("owner", "lease", "reason", "options", "guests", "left", "release")},
    )
    before, after, different = _maintenance.change(journal.state, asked, is_at_work=journal.is_at_work, dry_run=dry_run)
    return {"changed": different, "maintenance": _maintenance.told(after), "diff": {"before": shown(before), "after": shown(after)}}


def shown(kept: dict[str, Any]) -> str:
    return json.dumps({key: kept[key] for key in SHOWN if kept.get(key)}, indent=1, sort_keys=True) + "\n"


if __name__ == "__main__":
    run(
        main,
        dict(
            **AUDIT_ARGS,
            **STATE_ARGS,
            **LIBVIRT_ARGS,
            state={"type": "str", "required": True, "choices": list(_maintenance.NEXT)},
            maintenance_uuid={"type": "str", "required": True},
            owner={"type": "str", "required": True},
            lease={"type": "float", "default": 60.0},
            release={"type": "bool", "default": False},
            options={"type": "dict"},
            guests={"type": "dict"},
            left={"type": "list", "elements": "str"},
        ),
    )
