# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is proven of a guest before anything of its old copy is deleted."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Any

from .._domain import definition as _definition
from .._libvirt import definitions as _definitions, domains as _domains
from .._rules.errors import KvmfleetError
from . import power as _power

_STATES = {
    "paused": "Resume it once that is mended (virsh resume)",
    "pmsuspended": "Wake it (virsh dompmwakeup)",
    "shutdown": "It is going down",
    "crashed": "Look into its log in /var/log/libvirt/qemu and start it",
}


def require(domain: Any | None, record: Mapping[str, Any], *, agent_timeout: float, without_agent: bool, kept: str) -> None:
    """The guest is where it should be, and runs if it ran before; its agent answers if it answered before, unless `without_agent`.

    :param kept: what is not deleted now, to say so.
    :raises KvmfleetError: `destination_not_proven`.
    """
    problem = _problem(domain, record, agent_timeout, without_agent)
    if problem:
        raise KvmfleetError(
            "destination_not_proven",
            f"Instance {record['instance_name']} is not confirmed: {problem}. {kept} kept; start or repair the guest, or revert.",
            instance=record["instance_name"],
        )


def not_running(domain: Any) -> str | None:
    """Why the guest does not run, as libvirt tells it, with what can be done; None where it runs."""
    state, reason = _domains.state_reason(domain)
    if state == "running":
        return None
    causes = ", ".join(filter(None, (reason, *_disk_errors(domain)))) if state == "paused" else reason
    advice = _STATES.get(state)
    return f"it is {_SHOWN.get(state, state)}{f' ({causes})' if causes else ''}{f'. {advice}' if advice else ''}"


_SHOWN = {"shutoff": "shut off", "pmsuspended": "suspended by itself"}


def _problem(domain: Any | None, record: Mapping[str, Any], agent_timeout: float, without_agent: bool) -> str | None:
    if domain is None:
        return "it is not defined here"
    if not record["was_running"]:
        return None
    problem = not_running(domain)
    if problem:
        return f"{problem}. It ran before"
    if record["agent_expected"] and not without_agent and not _power.agent_answers_within(domain, agent_timeout):
        waited = f" within {agent_timeout:g} s" if agent_timeout else ""
        return (
            f"its guest agent, which answered before, does not answer{waited}. If the guest is well and has no agent any more, confirm it with "
            "without_agent=true"
        )
    return None


def _disk_errors(domain: Any) -> Iterator[str]:
    """The disks that the guest could not write to, and how much room there is where they lie."""
    paths = {disk.target: disk.path for disk in _definition.disks(_definition.parse(_definitions.live_xml(domain)))}
    for target, error in _domains.disk_errors(domain).items():
        path = paths.get(target)
        room = ""
        if path and os.path.exists(path):
            status = os.statvfs(path)
            room = f" of {path}, whose filesystem has {status.f_bavail * status.f_frsize} bytes free"
        yield f"{error} on {target}{room}"
