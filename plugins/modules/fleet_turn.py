#!/usr/bin/python
# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: fleet_turn
short_description: Wait for the turn of a guest in a run that moves many
version_added: 0.1.0
description:
  - Orders the moves of one run, of which each has a host of its own in a play with the strategy V(host_pinned), and says a line when a move begins and ends.
  - It works on the controller and touches no host. How many moves a host has in hand at once is for the host to say, see M(kvmfleet.compute.migration).
  - It is used by the role P(kvmfleet.compute.fleet#role), and is of no use without it.
options:
  state:
    description:
      - V(begun) waits for the turn, a minute at most. Ask again then, for Ansible may have lost one that is waited for.
      - V(over) notes what has become of the guest, V(told) what has become of all.
    type: str
    required: true
    choices: [begun, over, told]
  directory:
    description: Directory of the run, on the controller, with the C(moves) of its programme in C(moves.json).
    type: path
    required: true
  uuid:
    description: UUID of the guest. Required unless O(state=told).
    type: str
  lost:
    description: UUIDs of guests that Ansible has taken out of the play without a word.
    type: list
    elements: str
    default: []
  parallel:
    description: How many moves are under way at once. Ansible's C(forks) are a limit as well.
    type: int
    default: 10
  max_fail:
    description: After so many failures nothing begins any more. V(0) for no limit.
    type: int
    default: 1
  result:
    description: With O(state=over), what has become of the guest, as P(kvmfleet.compute.fleet_report#filter) takes it.
    type: dict
    default: {}
extends_documentation_fragment:
  - kvmfleet.compute.attributes
attributes:
  check_mode:
    support: none
  diff_mode:
    support: none
  idempotent:
    support: none
  platform:
    support: full
    platforms: posix
author: kvmfleet contributors (@kvmfleet)
"""

EXAMPLES = r"""
- name: Wait for the turn
  kvmfleet.compute.fleet_turn:
    state: begun
    directory: /tmp/kvmfleet-run
    uuid: 5b1f8f10-0a8f-4c62-9d7b-5f5b1a1f8f10
  register: turn
"""

RETURN = r"""
turn:
  description: V(begin), V(wait) (ask again) or V(skip).
  type: str
  returned: with O(state=begun)
reason:
  description: Why it waits, or is left be.
  type: str
  returned: with O(state=begun)
said:
  description: The line that was said.
  type: str
  returned: with O(state=over)
results:
  description: What is noted of each guest, by UUID.
  type: dict
  returned: with O(state=told)
"""
