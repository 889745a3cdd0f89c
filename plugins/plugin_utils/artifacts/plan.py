# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""`kvmfleet_plan`: what would be done, small enough to be shown in an approval. The definition of the guest is not in it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible_collections.kvmfleet.compute.plugins.plugin_utils.artifacts.plain import flag, plain, text


def planned(plan: Mapping[str, Any], instance: str) -> dict[str, Any]:
    """A plan of `plan_migration`.

    :param instance: its name, which a plan with nothing to do does not tell.
    """
    record, candidates = plan.get("record") or {}, [text(name) for name in plan["candidates"]]
    chosen = candidates[0] if candidates else None
    there = (plan.get("for") or {}).get(chosen) or {}
    ahead = there.get("precopy") or {}
    return {
        "instance": text(record.get("instance_name") or instance),
        "action": text(plan["action"]),
        "migration_type": plain(record.get("migration_type")),
        "message": text(plan["message"]),
        "source": text(plan["source"]),
        "destination": chosen,
        "candidates": candidates,
        "diff": plain(plan["diff"]),
        "precopy": {"wanted": flag(ahead.get("wanted")), "reason": text(ahead.get("reason") or "")},
        "disks": [text(disk["text"]) for disk in there.get("storage") or []],
        "references": [text(line) for line in plan.get("references_text") or []],
        "hosts": _verdicts(plan.get("placement") or {}),
        "grow_filesystem": plain(plan.get("grow_filesystem")),
    }


def _verdicts(placement: Mapping[str, Any]) -> dict[str, list[str]]:
    """What placement says of each host."""
    selected, alternates = placement.get("selected"), placement.get("alternates") or []
    told = {}
    for entry in placement.get("ranked") or []:
        standing = "selected" if entry["host"] == selected else "alternate" if entry["host"] in alternates else "fits"
        told[text(entry["host"])] = [f"{standing}, weight {float(entry['weight']):.2f}"]
    for host, reasons in (placement.get("rejected") or {}).items():
        told[text(host)] = [text(f"{reason['filter']}: {reason['reason']}") for reason in reasons]
    return told
