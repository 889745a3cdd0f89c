#!/usr/bin/python
# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: channel_tunnel
short_description: Lead the channel of an operation through ssh where its port is closed
version_added: 0.1.0
description:
  - Joins two connections of the controller, one to each host, so that a port of the destination's loopback leads to the port of the channel at the source's
    loopback. No host needs to trust or to reach the other one, and no port but that of ssh is used.
  - What travels is encrypted from host to host by the channel itself. Its bytes pass the controller.
  - The connections are made by what Ansible knows of each host, jump hosts included. They need a key or an agent, and C(AllowTcpForwarding) at the host.
  - The tunnel is gone when it is closed, and when the run of Ansible that opened it ends in whatever way.
options:
  state:
    description: Whether an end is to be made, or the whole tunnel to be closed.
    type: str
    choices: [present, absent]
    default: present
  end:
    description: Which end the host of this task is. The source comes first. Required for O(state=present).
    type: str
    choices: [source, destination]
  port:
    description: TCP port of the channel at the loopback of the source. Required for O(end=source).
    type: int
  directory:
    description: The directory on the controller that RV(directory) told for O(end=source). Required for O(end=destination) and O(state=absent).
    type: path
extends_documentation_fragment:
  - kvmfleet.compute.attributes
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
  idempotent:
    support: none
    details:
      - Each call makes another tunnel.
  platform:
    support: full
    platforms: posix
author: kvmfleet contributors (@kvmfleet)
"""

EXAMPLES = r"""
- name: Lead the channel to the controller
  kvmfleet.compute.channel_tunnel:
    end: source
    port: "{{ channel.port }}"
  delegate_to: kvm1
  register: lead_in

- name: Lead it on to the destination
  kvmfleet.compute.channel_tunnel:
    end: destination
    directory: "{{ lead_in.directory }}"
  delegate_to: kvm2
  register: lead_out

- name: Close it
  kvmfleet.compute.channel_tunnel:
    state: absent
    directory: "{{ lead_in.directory }}"
"""

RETURN = r"""
directory:
  description: Directory on the controller that belongs to the tunnel.
  type: str
  returned: when O(state=present) and not in check mode
port:
  description: TCP port of the destination's loopback that leads to the channel.
  type: int
  returned: when O(end=destination) and not in check mode
"""
