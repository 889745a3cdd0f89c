# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The fleet as text for people: the capacity of each host, and every open migration with what it waits for."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from ansible_collections.kvmfleet.compute.plugins.module_utils._rules.host_facts import HostFacts
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.planning import clocks, recovery
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.planning.fleet import Fleet
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.planning.progress import copy_progress
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.filters.maintenance import closed
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.table import aligned

_HOST_COLUMNS = ("host", "zone", "vCPUs", "RAM MiB", "disk GiB", "guests", "state")
_MIGRATION_COLUMNS = ("instance", "type", "status", "step", "from -> to", "since (UTC)", "waits for")


def fleet_status(hosts: list[dict[str, Any]]) -> str:
    """Two tables: hosts, and open migrations. Leases and ages are judged by the clock of the host that noted them.

    :param hosts: see `Fleet`.
    :raises KvmfleetError: there are no hosts.
    """
    fleet = Fleet(hosts)
    capacity = aligned([_HOST_COLUMNS, *(_host_row(fleet, name, state) for name, state in fleet.hosts.items())])
    decisions = sorted(recovery.decide(list(fleet.hosts.values()), "recover"), key=lambda decision: decision["instance_name"])
    migrations = [_migration_row(fleet, decision) for decision in decisions]
    return f"{capacity}\n\n" + (aligned([_MIGRATION_COLUMNS, *migrations]) if migrations else "No open migrations.")


def _host_row(fleet: Fleet, name: str, state: HostFacts) -> tuple[str, ...]:
    zone = str(state.get("availability_zone") or "-")
    if name in fleet.down:
        return (name, zone, "-", "-", "-", "-", f"down: {_one_line(fleet.down[name])}")
    used = (
        _used(state.get("vcpus_used"), state.get("vcpus"), 0),
        _used(state.get("memory_mb_used"), state.get("memory_mb"), 0),
        _used(state.get("local_gb_used"), state.get("local_gb"), 1),
    )
    return (name, zone, *used, str(state.get("num_instances", "-")), _state(state))


def _state(state: HostFacts) -> str:
    """The host's own record says more than the inventory, and how far it is."""
    why = closed(state.get("maintenance"))
    if why:
        return _one_line(why.removeprefix("is "))
    return "up" if state.get("enabled", True) else "disabled"


def _used(used: float | None, total: float | None, digits: int) -> str:
    return "-" if used is None or total is None else f"{used:.{digits}f}/{total:.{digits}f}"


def _migration_row(fleet: Fleet, decision: Mapping[str, Any]) -> tuple[str, ...]:
    told = [*fleet.all_open_migrations(), *fleet.forced_migrations(), *fleet.strangers()]
    records = [record for record in told if record["uuid"] == decision["migration_uuid"]]
    latest = clocks.latest(fleet, records)
    way = f"{decision['source']} in place" if decision["in_place"] else f"{decision['source']} -> {decision['destination'] or 'undecided'}"
    since = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(latest["updated_at"]))
    waits_for = _copying(records) or _waits_for(fleet, decision, latest)
    return (decision["instance_name"], decision["migration_type"], latest["status"], latest["step"], way, since, waits_for)


def _copying(records: list[dict[str, Any]]) -> str | None:
    progress = next((record["progress"] for record in records if record.get("progress")), None)
    return None if progress is None else f"the copy: {copy_progress(progress)}"


def _waits_for(fleet: Fleet, decision: Mapping[str, Any], latest: Mapping[str, Any]) -> str:
    if decision["action"] == "none":
        remark = f" ({decision['clock']})" if decision["clock"] else ""
        return f"confirm or revert{remark}" if latest["status"] == "finished" else decision["reason"]
    if latest["status"] != "finished" and decision["worked_on"]:
        return _one_line(decision["worked_on"])
    if decision["action"] == "wait":
        return _one_line(decision["reason"])
    return f"recover ({decision['action']}: {_one_line(decision['reason'])})"


def _one_line(text: str) -> str:
    return " ".join(text.split())
