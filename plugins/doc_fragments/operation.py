# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Documentation that modules with a part in an operation share."""

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  migration_uuid:
    description: UUID of the operation, the same in the journals of both hosts.
    type: str
    required: true
  owner:
    description:
      - Identity of the run that carries out the operation.
      - A run whose operation was taken over by another one is refused with the error code V(not_owner).
    type: str
    required: true
  lease:
    description:
      - Seconds for which the operation belongs to O(owner) without a sign of life. Every module of the operation renews the lease.
      - Another run may take the operation over after that.
    type: float
    default: 30.0
"""

    CONNECTION = r"""
options: {}
notes:
  - A connection that is lost makes this a failed task with the error code V(host_unreachable), not an unreachable host, so that the C(rescue) of a
    block runs. Nobody knows then how far the module came, and it may still be running on the host.
"""

    AUDIT = r"""
options:
  requested_by:
    description: Who asks, for the audit trail, as C(user), C(job), C(schedule) and C(workflow_job).
    type: dict
    default: {}
  reason:
    description: Why, for the audit trail.
    type: str
"""

    HISTORY = r"""
options:
  history_days:
    description:
      - Days for which this host remembers operations that have ended. Older records, and lock files that nobody has used since, are removed when an
        operation ends. V(0) keeps them all.
      - A record of an operation that was ended without a host that was given up as lost is kept until that host has been seen without anything of it.
    type: float
    default: 90.0
"""

    LOST = r"""
options:
  lost_host:
    description:
      - Inventory name of the other host of the operation if that is gone for good and the operation is brought to an end without it. It is noted in the
        record before anything is done.
    type: str
"""

    PROOF = r"""
options:
  without_agent:
    description:
      - Confirm a guest whose agent answered before the operation and does not any more, since it was removed or broke. Everything else is proven all the
        same.
    type: bool
    default: false
"""

    SHUTDOWN = r"""
options:
  shutdown_timeout:
    description: Seconds that the guest has to shut down.
    type: float
    default: 60.0
  shutdown_retry_interval:
    description:
      - Seconds after which the request to shut down is repeated, through the next of O(shutdown_modes). A guest whose agent took the request gets three
        times as long.
    type: float
    default: 10.0
  on_shutdown_timeout:
    description:
      - What happens after O(shutdown_timeout). V(fail) leaves the guest running, V(destroy) cuts its power.
      - A guest that is left running may follow the request later. libvirt restarts it then, since the action for C(poweroff) of what runs is C(restart) until
        the guest was reset, was asked again, or an hour is over.
    type: str
    choices: [fail, destroy]
    default: fail
  shutdown_modes:
    description: Ways to ask the guest, in the order in which they take turns.
    type: list
    elements: str
    choices: [agent, acpi]
    default: [agent, acpi]
"""

    WATCH = r"""
options:
  settle_time:
    description: Seconds after which a started guest must run.
    type: float
    default: 1.0
  agent_timeout:
    description: Seconds to wait for the guest agent of a started guest. V(0) does not wait; where an agent has to answer, it is asked once.
    type: float
    default: 0.0
"""
