# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The fleet as the facts of this run show it: where an instance is, and which operations on it are open."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal

from ansible_collections.kvmfleet.compute.plugins.module_utils._rules.errors import KvmfleetError
from ansible_collections.kvmfleet.compute.plugins.module_utils._rules.host_facts import HostFacts
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.planning.facts import checked

NO_FLEET = "The inventory has no host in group 'compute': put the hosts that run libvirt and QEMU into a group of that name."


class Fleet:
    """The compute hosts of one run.

    :param hosts: one mapping a host: the fact `kvmfleet_host`, or `host`, `up: false` and `down_reason` where there is none; with `read_now` where it
        is proven that the facts were gathered in this run (`freshness.marked`).
    """

    def __init__(self, hosts: Iterable[Mapping[str, Any]]) -> None:
        self.hosts: dict[str, HostFacts] = {}
        for state in hosts:
            self.hosts[str(state["host"])] = checked(state)
        if not self.hosts:
            raise KvmfleetError("no_compute_hosts", NO_FLEET)

    @property
    def down(self) -> dict[str, str]:
        return {name: str(state.get("down_reason") or "no facts were gathered") for name, state in self.hosts.items() if not state.get("up")}

    def locate(self, instance: str) -> tuple[str, dict[str, Any]]:
        """The one host that defines the instance (by name or uuid) and its entry there.

        :raises KvmfleetError: `unknown_instance`, `instance_on_several_hosts`.
        """
        found = self._definitions(instance)
        if not found:
            raise KvmfleetError("unknown_instance", f"No host defines the instance {instance!r}: {self._searched()}", instance=instance)
        name, uuid = found[0][1]["name"], found[0][1]["uuid"]
        twins = {host: entry for key in (name, uuid) for host, entry in self._definitions(key)}
        if len(twins) > 1:
            where = ", ".join(f"{host} ({entry['name']}, {entry['uuid']}, {entry['state']})" for host, entry in sorted(twins.items()))
            old = [host for host in sorted(twins) if not self.hosts[host].get("read_now")]
            # Nobody is told to destroy a copy by what was so another time: the guest may have moved since.
            advice = (
                f"That is what facts say which were not gathered in this run ({', '.join(old)}): the guest may have moved since. Ask every host "
                "(facts_max_age=0, no --limit) before you do anything."
                if old
                else "Only you can know which copy is right: undefine the other one (virsh undefine --keep-nvram) and run this again."
            )
            raise KvmfleetError(
                "instance_on_several_hosts",
                f"The instance {instance!r} is defined on {len(twins)} hosts: {where}. {advice}",
                instance=instance,
                hosts=sorted(twins),
            )
        return found[0]

    def open_migrations(self, instance: str) -> list[dict[str, Any]]:
        """Every open journal record of the instance (by name or uuid), as `all_open_migrations` tells it."""
        return [record for record in self.all_open_migrations() if instance in (record["instance_name"], record["instance_uuid"])]

    def all_open_migrations(self) -> list[dict[str, Any]]:
        """Every open record of a host that is a party to its operation, with the inventory name of that host as `host`."""
        return [record for record in self._records("migrations") if is_party(record)]

    def forced_migrations(self) -> list[dict[str, Any]]:
        """Every closed record of an operation that was ended without a lost host, which has not been seen clean since; with `host` as above."""
        return [record for record in self._records("forced_migrations") if is_party(record)]

    def strangers(self) -> list[dict[str, Any]]:
        """Every open record of a host that is no party to its operation by the names in it: no host is believed about another one."""
        return [record for record in self._records("migrations") if not is_party(record)]

    def require_parties(self) -> None:
        """Every host that an open operation is with is one of the fleet: else this may be a part of it, and what is chosen among its hosts not the best.

        :raises KvmfleetError: `hosts_missing`.
        """
        missing: dict[str, list[str]] = {}
        for record in self.all_open_migrations():
            for name in (record["source_host"], record["destination_host"]):
                if name is not None and str(name) not in self.hosts:
                    missing.setdefault(str(name), []).append(f"migration {record['uuid']} of {record['instance_name']} on {record['host']}")
        if missing:
            named = "; ".join(f"{name} ({', '.join(operations)})" for name, operations in sorted(missing.items()))
            raise KvmfleetError(
                "hosts_missing",
                f"Open operations are with hosts that are not in group compute of this inventory: {named}. Nothing was changed. Put them back, or, if one is "
                "gone for good, run kvmfleet.compute.recover with its name as lost_host. A slice of a job or a second inventory sees a part of the fleet only.",
                hosts=sorted(missing),
            )

    def defined_on(self, instance_uuid: str) -> list[str]:
        """The hosts that define the instance."""
        return sorted({name for name, _entry in self._definitions(instance_uuid)})

    def _records(self, kind: Literal["migrations", "forced_migrations"]) -> list[dict[str, Any]]:
        return [{**record, "host": name} for name, state in self.hosts.items() for record in state.get(kind, [])]

    def _definitions(self, key: str) -> list[tuple[str, dict[str, Any]]]:
        return [(name, entry) for name, state in self.hosts.items() for entry in state.get("domains", []) if key in (entry["name"], entry["uuid"])]

    def _searched(self) -> str:
        reachable = sorted(set(self.hosts) - set(self.down))
        text = f"{len(reachable)} hosts were searched ({', '.join(reachable) or 'none'})."
        if self.down:
            text += " Not searched: " + "; ".join(f"{name} ({reason})" for name, reason in sorted(self.down.items())) + "."
        return text


def is_party(record: dict[str, Any]) -> bool:
    """Whether the host that holds a record is the one of its names that has such a record."""
    return bool(record["host"] == record.get("destination_host" if record.get("role") == "destination" else "source_host"))
