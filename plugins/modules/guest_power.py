#!/usr/bin/python
# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: guest_power
short_description: Shut a guest down for the maintenance of its host, and start it again
version_added: 0.1.0
author: kvmfleet contributors (@kvmfleet)
description:
  - A guest that is shut down for the maintenance of its host stays off when the host is rebooted. Whether it started with the host is noted there, and comes
    back with O(state=running).
  - Used by the playbooks C(kvmfleet.compute.drain) and C(kvmfleet.compute.restore) for guests with the policy V(stop).
options:
  name:
    description: Name or UUID of the guest.
    type: str
    required: true
  state:
    description:
      - V(stopped) asks the guest to shut down. One that does not is left running, and the module fails, unless O(on_shutdown_timeout=destroy).
      - V(running) starts it.
    type: str
    required: true
    choices: [stopped, running]
attributes:
  check_mode:
    support: full
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
  - kvmfleet.compute.operation.shutdown
  - kvmfleet.compute.state
  - kvmfleet.compute.libvirt
"""

EXAMPLES = r"""
- name: Shut the guest down
  kvmfleet.compute.guest_power:
    name: backup1
    state: stopped
"""

RETURN = r"""
state:
  description: The state as libvirt calls it, such as V(running) or V(shutoff).
  type: str
  returned: success
error_code:
  description: >-
    V(host_hangs), V(run_gone), V(unknown_instance), V(shutdown_timeout), V(not_persistent), V(locked), V(invalid_directory), V(libvirt_unavailable) or
    V(libvirt_error).
  type: str
  returned: failure
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.kvmfleet.compute.plugins.module_utils._guest import resting as _resting
from ansible_collections.kvmfleet.compute.plugins.module_utils._journal.state_dir import StateDir
from ansible_collections.kvmfleet.compute.plugins.module_utils._libvirt import connection as _connection, domains as _domains
from ansible_collections.kvmfleet.compute.plugins.module_utils._module import LIBVIRT_ARGS, STATE_ARGS, run
from ansible_collections.kvmfleet.compute.plugins.module_utils._options import SHUTDOWN_ARGS, shutdown
from ansible_collections.kvmfleet.compute.plugins.module_utils._rules.errors import KvmfleetError


def main(module: AnsibleModule) -> dict[str, Any]:
    params = module.params
    with _connection.connect(params["uri"]) as conn:
        domain = _domains.find_domain(conn, params["name"])
        if domain is None:
            raise KvmfleetError("unknown_instance", f"{params['name']!r} is not defined on this host.", instance=params["name"])
        if module.check_mode:
            return {"changed": _domains.is_active(domain) != (params["state"] == "running"), "state": _domains.state_name(domain)}
        state = StateDir(params["state_path"])
        changed = _resting.wake(domain, state) if params["state"] == "running" else _resting.lay_down(domain, state, shutdown(params))
        return {"changed": changed, "state": _domains.state_name(domain)}


if __name__ == "__main__":
    run(
        main,
        dict(
            **SHUTDOWN_ARGS,
            **STATE_ARGS,
            **LIBVIRT_ARGS,
            name={"type": "str", "required": True},
            state={"type": "str", "required": True, "choices": ["stopped", "running"]},
        ),
    )
