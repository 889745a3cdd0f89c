#!/usr/bin/python
# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: way_info
short_description: Tell whether a host finds its way to others
version_added: 0.1.0
author: kvmfleet contributors (@kvmfleet)
description:
  - Tells what the addresses of other hosts mean to this one, and whether packets for a port get there. That is what a copy needs to travel straight.
  - A port at which nobody listens gets there as well, as the other host says so at once. A firewall that pretends the same is not noticed.
extends_documentation_fragment:
  - kvmfleet.compute.attributes
  - kvmfleet.compute.hanging
  - kvmfleet.compute.attributes.info_module
options:
  hosts:
    description: Addresses or names of the other hosts, by what they are called in the answer.
    type: dict
    required: true
  port:
    description: TCP port that is tried.
    type: int
    required: true
  timeout:
    description: Seconds to wait for an answer.
    type: float
    default: 2
"""

EXAMPLES = r"""
- name: Would copies from kvm2 to this host travel straight?
  kvmfleet.compute.way_info:
    hosts:
      kvm2: 192.0.2.12
    port: 49215
  register: ways
"""

RETURN = r"""
ways:
  description:
    - For each of O(hosts) its C(source_address) (what it means here) and C(local_address) (from which this host reaches it), V(null) where there is no way.
    - C(no_way) says why a copy from there would not travel straight to this host, V(null) if it would.
  type: dict
  returned: success
error_code:
  description: V(host_hangs), V(run_gone) or V(os_error).
  type: str
  returned: failure
"""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.kvmfleet.compute.plugins.module_utils._channel.listening import closed, found_way
from ansible_collections.kvmfleet.compute.plugins.module_utils._module import run

_AT_ONCE = 32
ARGUMENT_SPEC: dict[str, Any] = {
    "hosts": {"type": "dict", "required": True},
    "port": {"type": "int", "required": True},
    "timeout": {"type": "float", "default": 2.0},
}


def main(module: AnsibleModule) -> dict[str, Any]:
    hosts, port, timeout = (module.params[name] for name in ("hosts", "port", "timeout"))

    def way(address: str) -> dict[str, str | None]:
        found = found_way(address)
        return {**found, "no_way": found["no_way"] or closed(str(found["source_address"]), port, timeout)}

    with ThreadPoolExecutor(_AT_ONCE) as pool:
        return {"ways": dict(zip(hosts, pool.map(way, map(str, hosts.values()))))}


if __name__ == "__main__":
    run(main, ARGUMENT_SPEC, needs_libvirt=False)
