# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What becomes of each disk of a guest on the host that placement chose: where it comes to lie there, and why."""

from __future__ import annotations

import posixpath
from collections.abc import Mapping
from typing import Any

from ansible_collections.kvmfleet.compute.plugins.module_utils._rules.domain_facts import DomainFacts
from ansible_collections.kvmfleet.compute.plugins.module_utils._rules.host_facts import HostFacts
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.planning import disk_kinds, flavor_disks, mapping

COPIED, LAYERED, LEFT, CREATED, RECREATED, REMOVED, EMPTIED = "copied", "layered", "left", "created", "re-created", "removed", "emptied"
"""What may become of a disk; created is one that the flavor adds, re-created and removed is a swap disk, emptied a drive whose medium is gone."""


def needs(domain: DomainFacts, source: HostFacts, changes: flavor_disks.Changes = flavor_disks.NONE) -> dict[str, list[str]]:
    """The `pools` and the named `directories` that a host must have for the disks that come to it."""
    disks = [disk for disk in _disks(domain) if disk["target"] not in changes.left_behind and not disk.get("left_out")]
    wanted = {disk_kinds.of(disk).needs(disk, source) for disk in disks}
    return {what: sorted(name for needed, name in wanted if needed == what and name) for what in ("pools", "directories")}


def files(domain: DomainFacts) -> list[Mapping[str, Any]]:
    """The disks that are files here, and the files that the guest boots from; empty drives are left out."""
    return [disk for disk in (*domain["disks"], *(domain.get("boot_files") or ())) if disk["path"]]


def place(
    domain: DomainFacts,
    source: HostFacts,
    destination: HostFacts,
    translation: mapping.Names = mapping.SAME,
    changes: flavor_disks.Changes = flavor_disks.NONE,
) -> list[dict[str, Any]]:
    """The answer for each disk: `target`, `what`, `source` and `path` (before and after), `pool`, `reason`, and all as `text`.

    :param source: facts of the guest's host; :param destination: facts of the host that placement chose, which may be the same.
    :param changes: what the flavor does about the guest's ephemeral and swap disk.
    :param translation: what `mapping.translated` says of the destination; the `pool` of an answer is the one there.
    """
    answers = []
    for disk in _disks(domain):
        answer = {"target": disk["target"], "source": disk["path"], "path": disk["path"], "pool": mapping.of(translation, "pools", disk.get("pool"))}
        answer.update(_answer(disk, source, destination, answer["pool"]))
        answers.append(answer)
    made = {disk["target"]: _made(disk, answers) for disk in changes.new}
    for answer in answers:
        if answer["target"] in changes.left_behind:
            stays = f"what it is now, {answer['source']}, stays until confirm"
            answer.update(made.pop(answer["target"], {"what": REMOVED, "path": None, "pool": None, "reason": f"the flavor has no swap; {stays}"}))
            if answer["what"] == RECREATED:
                answer["reason"] += f"; {stays}"
    return [{**answer, "text": _text(answer, changes)} for answer in [*answers, *made.values()]]


def _made(disk: Mapping[str, Any], answers: list[dict[str, Any]]) -> dict[str, Any]:
    """A disk that the operation makes beside another one, under its own name."""
    beside = next(answer for answer in answers if answer["target"] == disk["beside"])
    directory = beside["path"] and posixpath.dirname(beside["path"])
    return {
        "target": disk["target"],
        "what": RECREATED if any(answer["target"] == disk["target"] for answer in answers) else CREATED,
        "source": None,
        "path": directory and posixpath.join(directory, posixpath.basename(disk["path"])),
        "pool": beside["pool"],
        "reason": f"the flavor has {flavor_disks.size_text(disk['role'], disk['size'])} of {disk['role']}",
    }


def _text(answer: Mapping[str, Any], changes: flavor_disks.Changes) -> str:
    place = answer["path"] or "where the pool is"
    where = {COPIED: f" from {answer['source']} to {place}", CREATED: f" at {place}", RECREATED: f" at {place}"}.get(answer["what"], "")
    grown = changes.grown.get(answer["target"])
    growing = "" if grown is None else f", and grown to {flavor_disks.size_text('ephemeral', grown)}"
    return f"{answer['target']}: {answer['what']}{where}{growing} ({answer['reason']})"


def _disks(domain: DomainFacts) -> list[Mapping[str, Any]]:
    return [*files(domain), *(disk for disk in domain["disks"] if disk_kinds.of(disk).left(disk) or disk.get("left_out"))]


def _answer(disk: Mapping[str, Any], source: HostFacts, destination: HostFacts, pool: str | None) -> dict[str, Any]:
    kind = disk_kinds.of(disk)
    left = kind.left(disk)
    if left:
        return {"what": LEFT, "reason": left}
    if disk.get("left_out"):
        gone = f"{disk['left_out']} is gone, and startupPolicy='optional' lets the guest start without"
        return {"what": LEFT if source["host"] == destination["host"] else EMPTIED, "reason": gone}
    if source["host"] == destination["host"]:
        if disk["readonly"] or disk["device"] != "disk":
            return {"what": LEFT, "reason": "the guest only reads it"}
        return {"what": LAYERED, "reason": "it stays on this host, under a new layer until confirm or revert"}
    path, reason = kind.goes(disk, source, destination, pool)
    return {"what": COPIED, "path": path, "reason": reason}
