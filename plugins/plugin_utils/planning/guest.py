# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a guest must be to be moved or to get a flavor, by the facts of its host alone; each function raises a KvmfleetError if it is not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible_collections.kvmfleet.compute.plugins.module_utils._rules import differences as _differences
from ansible_collections.kvmfleet.compute.plugins.module_utils._rules.domain_facts import DiskFacts, DomainFacts
from ansible_collections.kvmfleet.compute.plugins.module_utils._rules.errors import KvmfleetError
from ansible_collections.kvmfleet.compute.plugins.module_utils._rules.guest_states import WAYS_OUT
from ansible_collections.kvmfleet.compute.plugins.module_utils._rules.interfaces import LIMITED_INTERFACES
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.planning import disk_kinds, storage

_MOVABLE_STATES = ("running", "shutoff")


def root_disk(domain: DomainFacts) -> DiskFacts | None:
    """The disk that a flavor's `disk` is about."""
    return next((disk for disk in domain["disks"] if disk["root"]), None)


def root_of_movable(domain: DomainFacts) -> DiskFacts:
    """The same of a guest that has one, as `require_movable` made sure."""
    return next(disk for disk in domain["disks"] if disk["root"])


def require_movable(entry: Mapping[str, Any], domain: DomainFacts, host: str) -> None:
    """It is defined for good, runs or is off, and its host found no reason against it.

    :raises KvmfleetError: `not_persistent`, `unsupported_state`, `not_movable`, `no_root_disk`.
    """
    if not domain["persistent"]:
        raise KvmfleetError("not_persistent", f"Instance {entry['name']} on {host} is transient (it has no stored definition); define it first (virsh define).")
    if domain["state"] not in _MOVABLE_STATES:
        raise KvmfleetError(
            "unsupported_state",
            f"Instance {entry['name']} on {host} is {domain['state']}; it must be running or shut off. "
            + WAYS_OUT.get(domain["state"], "Start or stop it first."),
            have=domain["state"],
            need=list(_MOVABLE_STATES),
        )
    if domain["refusals"]:
        reasons = "; ".join(f"{refusal['reason']} [{refusal['code']}]" for refusal in domain["refusals"])
        raise KvmfleetError("not_movable", f"Instance {entry['name']} on {host} cannot be moved: {reasons}", refusals=domain["refusals"])
    if root_disk(domain) is None:
        raise KvmfleetError("no_root_disk", f"Instance {entry['name']} on {host} has no writable disk in a file.")


def require_as_defined(name: str, domain: DomainFacts, answer: str | None) -> list[str]:
    """What a running guest has and its definition does not say, in words, where the caller has said what becomes of it.

    :param answer: `keep`, `drop`, or None.
    :raises KvmfleetError: `live_differences`.
    """
    found = [difference["text"] for difference in domain.get("live_differences") or ()]
    if found and not answer:
        raise KvmfleetError("live_differences", f"{_differences.refusal(name, found)} Nothing was changed.", differences=found)
    return found


def require_growth(name: str, domain: DomainFacts, old: dict[str, Any], new: dict[str, Any], allow_downsize: bool, keeps_disk: bool) -> None:
    """A guest only grows: its disk always, unless it keeps that, vCPUs and memory unless the caller allows less.

    :raises KvmfleetError: `downsize`; `disk_size_unknown`, `network_disk_size` for a disk in network storage.
    """
    root = root_of_movable(domain)
    if new is not old and not keeps_disk:
        disk_kinds.of(root).require_size(name, root, new)
    for field, unit in (("vcpus", "vCPUs"), ("ram", "MiB")):
        if new[field] < old[field] and not allow_downsize:
            raise KvmfleetError(
                "downsize",
                f"flavor.{field}: {new[field]} {unit} is less than the {old[field]} {unit} that {name} has; guests only grow. "
                "Set allow_downsize (in roles: resize_allow_downsize) to permit fewer vCPUs or less memory.",
                field=field,
                need=old[field],
                have=new[field],
            )


def require_no_encryption(name: str, domain: DomainFacts) -> None:
    """A resize in place lays files over those of the disks, which would hold in the clear what the guest writes."""
    encrypted = [disk["target"] for disk in storage.files(domain) if disk.get("encrypted") and disk["device"] == "disk" and not disk["readonly"]]
    if encrypted:
        raise KvmfleetError(
            "encrypted_in_place",
            f"A resize in place would write over the encrypted disks {', '.join(encrypted)} of {name} without encryption. Resize to another host: set "
            "allow_resize_to_same_host to false (in roles: resize_allow_resize_to_same_host), or name a target_host.",
            disks=encrypted,
        )


def require_layers_bearable(domain: DomainFacts) -> None:
    """What belongs to the guest goes on as it is under the files that a resize in place lays over its disks.

    :raises KvmfleetError: the code of the first thing that does not.
    """
    for code, reason in ((told["code"], told["reason"]) for told in domain.get("not_in_place") or ()):
        raise KvmfleetError(code, reason)


def require_limits(name: str, domain: DomainFacts, tuning: dict[str, Any] | None) -> None:
    """A limit of the bandwidth can be kept on every network interface."""
    unlimited = [nic for nic in domain["interfaces"] if nic["type"] not in LIMITED_INTERFACES] if tuning and tuning["bandwidth"] else []
    if unlimited:
        shown = ", ".join(f"{nic['mac']} ({nic['type']})" for nic in unlimited)
        raise KvmfleetError(
            "unsupported_extra_specs",
            f"quota:vif_*: libvirt limits the bandwidth of interfaces of the types {', '.join(LIMITED_INTERFACES)} only, and {name} has {shown}.",
            have=[nic["type"] for nic in unlimited],
            need=list(LIMITED_INTERFACES),
        )
