#!/usr/bin/python
# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: copy_channel
short_description: Open or close the encrypted channel of an operation
version_added: 0.1.0
description:
  - Serves files of one operation read-only over NBD with TLS and a one-time key, to be pulled by the destination.
  - An open channel shows nothing but the base images in O(bases), and with O(definition) that of the guest. The guest's own disks appear when
    M(kvmfleet.compute.source_copy) seals them.
  - A server that dies is started again on the same port, so that a copy that broke can go on.
  - The channel ends by itself when nobody has read anything through it for O(idle_timeout) seconds and no checksum of it is being made.
options:
  state:
    description:
      - V(present) opens the channel, V(absent) closes it.
      - The destination sees with M(kvmfleet.compute.destination_copy) whether it reaches the channel.
    type: str
    choices: [present, absent]
    default: present
  address:
    description:
      - Address of the source at which the channel is served. Required for O(state=present).
      - With O(peer) and without O(tunnel) it is served at all addresses of the peer's kind (IPv4 or IPv6), of which only the peer gets through. What a host
        calls itself, such as V(127.0.1.1), need not be where others find it.
    type: str
  tunnel:
    description: Whether a tunnel leads to the channel. It is noted in the record of the source.
    type: bool
    default: false
  ports:
    description: TCP port, or first and last port of a range, of which a free one is taken.
    type: str
    default: 49152-49215
  peer:
    description:
      - IP address of the destination. What any other address sends to the port is dropped by the kernel before it becomes a connection.
      - Without it, every address is let in, and only O(key) protects.
    type: str
  bandwidth_limit:
    description:
      - Bytes a second that the channel may send over all its connections, also as V(100M). V(0) is no limit.
      - After a pause nbdkit sends up to two seconds' worth at once, QEMU's server a tenth of a second's.
    type: bytes
    default: "0"
  transport:
    description:
      - The program that serves the files.
      - V(nbdkit) is nbdkit.
      - V(qemu-nbd) is the NBD server of QEMU, run as C(qemu-storage-daemon), since C(qemu-nbd) itself serves one file on each port. It keeps to the same
        rules, the limit included.
      - V(auto) takes nbdkit, and QEMU's server where that is not installed.
    type: str
    choices: [auto, nbdkit, qemu-nbd]
    default: auto
  key:
    description: One-time key, 64 hexadecimal digits. Required for O(state=present).
    type: str
  bases:
    description: SHA-256 of those base images of the operation that the destination lacks.
    type: list
    elements: str
    default: []
  definition:
    description: Show the definition of the guest, which must be that of the plan, so that M(kvmfleet.compute.destination_copy) can try it. A host
      that O(lends) has none.
    type: bool
    default: false
  lends:
    description:
      - This host takes no part in the operation and has no record of it. It lends O(bases), which are found among those that its facts name as C(bases).
      - What it lends is proven by whoever fetches it.
    type: bool
    default: false
  idle_timeout:
    description: Seconds after which the channel ends if nobody reads anything. A connection alone does not keep it open.
    type: float
    default: 180.0
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
  idempotent:
    support: none
    details:
      - Opening a channel replaces the one of an earlier run.
  platform:
    support: full
    platforms: linux
extends_documentation_fragment:
  - kvmfleet.compute.attributes
  - kvmfleet.compute.hanging
  - kvmfleet.compute.operation
  - kvmfleet.compute.operation.connection
  - kvmfleet.compute.state
  - kvmfleet.compute.libvirt
author: kvmfleet contributors (@kvmfleet)
"""

EXAMPLES = r"""
- name: Open the channel
  kvmfleet.compute.copy_channel:
    migration_uuid: "{{ migration_uuid }}"
    owner: "{{ owner }}"
    address: 192.0.2.11
    peer: 192.0.2.12
    bandwidth_limit: 100M
    key: "{{ one_time_key }}"
  register: channel

- name: Lend a base image to the destination of an operation of other hosts
  kvmfleet.compute.copy_channel:
    lends: true
    migration_uuid: "{{ migration_uuid }}"
    owner: "{{ owner }}"
    address: 192.0.2.13
    peer: 192.0.2.12
    key: "{{ another_one_time_key }}"
    bases: [9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08]

- name: Close it
  kvmfleet.compute.copy_channel:
    state: absent
    migration_uuid: "{{ migration_uuid }}"
    owner: "{{ owner }}"
"""

RETURN = r"""
port:
  description: TCP port of the open channel.
  type: int
  returned: when O(state=present) and not in check mode
bandwidth_limit:
  description: The limit in bytes a second, V(0) for none.
  type: int
  returned: when O(state=present) and not in check mode
transport:
  description: The program taken, V(nbdkit) or V(qemu-nbd). It is in the record of the source too.
  type: str
  returned: when O(state=present) and not in check mode
error_code:
  description: >-
    V(host_hangs), V(run_gone),
    V(channel_failed), V(invalid_ports), V(invalid_value), V(tool_missing), V(unknown_base), V(definition_changed), V(instance_vanished), V(not_persistent),
    V(snapshot_memory), V(snapshot_elsewhere), V(checkpoint_broken), V(not_owner) or V(unknown_migration).
  type: str
  returned: failure
"""

import contextlib
import os
import re

from ansible_collections.kvmfleet.compute.plugins.module_utils._channel.export import DEFAULT_PORTS, Server
from ansible_collections.kvmfleet.compute.plugins.module_utils._channel.protocol import DEFINITION
from ansible_collections.kvmfleet.compute.plugins.module_utils._channel.serving import TRANSPORTS, choose
from ansible_collections.kvmfleet.compute.plugins.module_utils._guest.belongings import registry as _belongings
from ansible_collections.kvmfleet.compute.plugins.module_utils._journal.records import Journal
from ansible_collections.kvmfleet.compute.plugins.module_utils._journal.state_dir import StateDir
from ansible_collections.kvmfleet.compute.plugins.module_utils._libvirt import connection as _connection, definitions as _definitions
from ansible_collections.kvmfleet.compute.plugins.module_utils._module import LIBVIRT_ARGS, STATE_ARGS, run
from ansible_collections.kvmfleet.compute.plugins.module_utils._operation import sealing as _sealing
from ansible_collections.kvmfleet.compute.plugins.module_utils._options import OPERATION_ARGS
from ansible_collections.kvmfleet.compute.plugins.module_utils._rules.errors import KvmfleetError
from ansible_collections.kvmfleet.compute.plugins.module_utils._storage import identity as _identity


def open_channel(params, journal, record, server):
    if not re.match(r"^[0-9a-f]{64}$", params["key"]):
        raise KvmfleetError("invalid_value", "key: expected 64 hexadecimal digits.")
    transport = choose(params["transport"])
    known = {base["sha256"]: base["path"] for disk in record["disks"] for base in disk["bases"]}
    unknown = sorted(set(params["bases"]) - set(known))
    if unknown:
        whose = "that this host is known to hold" if params["lends"] else f"of migration {record['uuid']}"
        raise KvmfleetError("unknown_base", f"bases: {unknown} are not base images {whose}.")
    options = {name: params[name] for name in ("address", "ports", "peer", "bandwidth_limit", "key", "idle_timeout")}
    if params["peer"] is not None and not params["tunnel"]:
        options["address"] = None
    if options["bandwidth_limit"] < 0:
        raise KvmfleetError("invalid_value", "bandwidth_limit: expected bytes a second, or 0 for no limit.")
    port = server.open(transport=transport, **options)
    if journal is not None:
        journal.update(record, transport=transport, tunnel=params["tunnel"])
    if params["definition"] and not params["lends"]:
        with _connection.connect(params["uri"]) as conn:
            domain = _sealing.require_unchanged(conn, record)
            private = _belongings.archive(domain, record, with_definition=True)
            definitions = {"domain_xml": _definitions.inactive_xml(domain), "portable_xml": _definitions.portable_xml(domain)}
            server.offer_document(DEFINITION, {**definitions, **_belongings.offered(conn, dict(record, private=private), with_definition=True)})
    for sha256 in params["bases"]:
        server.offer_file(f"base-{sha256}", known[sha256], checksum=True)
    return {"changed": True, "port": port, "bandwidth_limit": options["bandwidth_limit"], "transport": transport}


@contextlib.contextmanager
def part_in(params, state):
    """The journal and the record of the operation; of a host that lends, no journal, and instead of the record the base images that it is known to hold."""
    if params["lends"]:
        state.file("exports", params["migration_uuid"])  # no journal has vouched for the name
        with state.lock(f"migration-{params['migration_uuid']}"):
            yield None, {"uuid": params["migration_uuid"], "disks": [{"bases": _identity.known(state)}]}
    else:
        journal = Journal(state, params["lease"])
        with journal.working(params["migration_uuid"], params["owner"]) as record:
            yield journal, record


def close(params, journal, record, server):
    return {"changed": server.close()}


ACTIONS = {"present": open_channel, "absent": close}


def main():
    def act(module):
        params = module.params
        state = StateDir(params["state_path"])
        if module.check_mode:
            there = os.path.isdir(Server(state, params["migration_uuid"]).directory)
            return {"changed": there or params["state"] == "present"}
        with part_in(params, state) as (journal, record):
            return ACTIONS[params["state"]](params, journal, record, Server(state, record["uuid"]))

    run(
        act,
        dict(
            OPERATION_ARGS,
            **STATE_ARGS,
            **LIBVIRT_ARGS,
            state={"type": "str", "choices": list(ACTIONS), "default": "present"},
            address={"type": "str"},
            tunnel={"type": "bool", "default": False},
            ports={"type": "str", "default": DEFAULT_PORTS},
            peer={"type": "str"},
            bandwidth_limit={"type": "bytes", "default": "0"},
            transport={"type": "str", "choices": ["auto", *TRANSPORTS], "default": "auto"},
            key={"type": "str", "no_log": True},
            bases={"type": "list", "elements": "str", "default": []},
            definition={"type": "bool", "default": False},
            lends={"type": "bool", "default": False},
            idle_timeout={"type": "float", "default": 180.0},
        ),
        required_if=[("state", "present", ["address", "key"])],
    )


if __name__ == "__main__":
    main()
