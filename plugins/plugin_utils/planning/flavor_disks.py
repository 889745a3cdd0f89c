# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a flavor's `ephemeral` and `swap` come to for the disks of a guest, by Nova's rules.

An ephemeral disk keeps its data, grows and never shrinks. A swap disk is made anew with the size of the flavor, and goes with a flavor that
has none. What the guest lacks is made beside its root disk.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from ansible_collections.kvmfleet.compute.plugins.module_utils._rules.domain_facts import DomainFacts
from ansible_collections.kvmfleet.compute.plugins.module_utils._rules.errors import KvmfleetError
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.planning import disk_kinds

MIB, GIB = 1024**2, 1024**3

_SIZES = {"ephemeral": (GIB, "GiB"), "swap": (MIB, "MiB")}
_STEMS = {"ephemeral": "ephemeral0", "swap": "swap"}
_FORMAT = "qcow2"


class Changes(NamedTuple):
    """What an operation does about these disks.

    :param grown: target -> bytes that the disk gets; :param left_behind: targets of disks that the guest goes on without, as they are.
    :param new: disks that are made, as the record has them (`_domain.flavor_disks.apply`), in place of one that is left behind if the target is the same.
    :param known: role -> `target` and `name` of the disks that the guest has then; None leaves its metadata as it is.
    """

    grown: Mapping[str, int]
    left_behind: tuple[str, ...]
    new: tuple[Mapping[str, Any], ...]
    known: Mapping[str, Mapping[str, str]] | None

    @property
    def dropped(self) -> list[str]:
        """Targets that the guest has no more."""
        made = {disk["target"] for disk in self.new}
        return [target for target in self.left_behind if target not in made]


NONE = Changes({}, (), (), None)
"""Of a migration that keeps the flavor: every disk goes along as it is."""


def changes(name: str, domain: DomainFacts, new: Mapping[str, Any], *, moving: bool) -> Changes:
    """What a resize to the flavor `new` does about the ephemeral and the swap disk of a guest.

    :param name: of the guest; :param domain: the module domain_info's answer; :param moving: to another host, to which no swap is copied.
    :raises KvmfleetError: `downsize`, `no_directory`, `no_free_target`.
    """
    ephemeral, swap = (_disk_of(domain, role) for role in _SIZES)
    grown = _growth(name, ephemeral, new)
    remade = swap if swap is not None and (moving or swap["virtual_size"] != new["swap"] * MIB) else None
    left_behind = (remade["target"],) if remade else ()
    targets = iter(domain.get("free_targets") or ())
    made = []
    if new["ephemeral"] and ephemeral is None:
        made.append(_made(name, domain, "ephemeral", new, _next_target(name, domain, targets, "ephemeral", new)))
    if new["swap"] and (swap is None or remade):
        made.append(_made(name, domain, "swap", new, remade["target"] if remade else _next_target(name, domain, targets, "swap", new)))
    kept = [] if remade or swap is None else [("swap", swap)]
    kept += [] if ephemeral is None else [("ephemeral", ephemeral)]
    names = [(role, disk["target"], disk_kinds.of(disk).file_name(disk)) for role, disk in kept]
    names += [(disk["role"], disk["target"], posixpath.basename(disk["path"])) for disk in made]
    return Changes(grown, left_behind, tuple(made), {role: {"target": target, "name": file} for role, target, file in sorted(names)})


def require_no_snapshots(name: str, domain: DomainFacts, decided: Changes) -> None:
    """A snapshot is of all disks of the guest: without one of them libvirt could not go back to it.

    :raises KvmfleetError: `disk_has_snapshots`.
    """
    left = [disk for disk in domain["disks"] if disk["target"] in decided.left_behind]
    held = {snapshot["name"] for snapshot in domain.get("snapshots") or ()} if left else set()
    held.update(snapshot for disk in left for layer in disk["chain"][:1] for snapshot in layer.get("snapshots") or ())
    if held:
        raise KvmfleetError(
            "disk_has_snapshots",
            f"flavor.swap: {name} would go on without its swap disk {left[0]['target']} as it is, but its snapshots ({', '.join(sorted(held))}) need that. "
            "Delete them first (virsh snapshot-delete).",
            have=sorted(held),
        )


def bytes_to_come(domain: DomainFacts, new: Mapping[str, Any]) -> int:
    """What these disks may take of a host beyond what they take now, in bytes."""
    ephemeral, swap = (_disk_of(domain, role) for role in _SIZES)
    have = 0 if ephemeral is None else ephemeral["virtual_size"]
    same = swap is not None and swap["virtual_size"] == new["swap"] * MIB
    return max(0, new["ephemeral"] * GIB - have) + (0 if same else new["swap"] * MIB)


def size_text(role: str, size: int) -> str:
    """`64 MiB`, `1 GiB`: in the unit that flavors have for it."""
    scale, unit = _SIZES[role]
    return f"{size / scale:g} {unit}"


def _growth(name: str, ephemeral: Mapping[str, Any] | None, new: Mapping[str, Any]) -> dict[str, int]:
    if ephemeral is None or new["ephemeral"] * GIB == ephemeral["virtual_size"]:
        return {}
    have, need = ephemeral["virtual_size"], new["ephemeral"] * GIB
    if need < have:
        raise KvmfleetError(
            "downsize",
            f"flavor.ephemeral: {new['ephemeral']} GiB is less than the {have} bytes ({have / GIB:.2f} GiB) that the ephemeral disk {ephemeral['target']} of "
            f"{name} has; a disk never shrinks.",
            field="ephemeral",
            need=have,
            have=need,
        )
    return {ephemeral["target"]: need}


def _made(name: str, domain: DomainFacts, role: str, new: Mapping[str, Any], target: str) -> dict[str, Any]:
    root = next(disk for disk in domain["disks"] if disk["root"])
    if not root["path"]:
        raise KvmfleetError(
            "no_directory",
            f"flavor.{role}: {new[role]} {_SIZES[role][1]}; the disk would be made beside the root disk {root['target']} of {name}, which lies in no directory "
            f"of a host. Attach a disk by hand and name it ({role}_disk), or take a flavor without.",
            field=role,
        )
    path = posixpath.join(posixpath.dirname(root["path"]), next(_free_names(name, domain, role)))
    return {
        "role": role,
        "target": target,
        "path": path,
        "format": _FORMAT,
        "size": new[role] * _SIZES[role][0],
        **disk_kinds.of(root).beside(root, path),
        "beside": root["target"],
    }


def _free_names(name: str, domain: DomainFacts, role: str) -> Iterator[str]:
    """Of files; what is left behind keeps its name beside the new one until confirm, so the next one is another."""
    taken = {posixpath.basename(disk["path"]) for disk in domain["disks"] if disk["path"]}
    names = (f"{name}-{_STEMS[role]}{'' if number == 1 else f'-{number}'}.{_FORMAT}" for number in range(1, len(taken) + 2))
    return (file for file in names if file not in taken)


def _next_target(name: str, domain: DomainFacts, targets: Iterator[str], role: str, new: Mapping[str, Any]) -> str:
    target = next(targets, None)
    if target is None:
        root = next(disk for disk in domain["disks"] if disk["root"])
        raise KvmfleetError(
            "no_free_target",
            f"flavor.{role}: {new[role]} {_SIZES[role][1]}; {name} has no target left for another disk on the bus of its root disk {root['target']} "
            f"({root.get('bus')}). Give it one on another bus by hand and name it ({role}_disk).",
            field=role,
        )
    return target


def _disk_of(domain: DomainFacts, role: str) -> Mapping[str, Any] | None:
    return next((disk for disk in domain["disks"] if disk.get("role") == role), None)
