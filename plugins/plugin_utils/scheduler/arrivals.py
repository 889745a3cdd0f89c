# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a guest that comes takes of a host beside capacity: its name, things of which the host has one, and huge pages."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible_collections.kvmfleet.compute.plugins.module_utils._rules import exclusive as _exclusive, huge_pages as _huge_pages
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.request import Request


def brought(facts: Mapping[str, Any], request: Request) -> dict[str, Any]:
    """The facts of the host that another one finds changed. CPUs that are set aside for one guest are not among them: the claim chooses those."""
    instance, needs = request.instance, request.requirements
    held = {str(kind): dict(values) for kind, values in (facts.get("exclusive") or {}).items()}
    _exclusive.hold(held, _exclusive.wanted({"exclusive": needs.exclusive}), str(instance.name))
    changed: dict[str, Any] = {"exclusive": held, "macs": [*(facts.get("macs") or ()), *needs.macs]}
    if instance.name:
        changed["domains"] = [*(facts.get("domains") or ()), {"name": instance.name, "uuid": instance.uuid, "state": "on its way"}]
    if needs.huge_pages is not None and facts.get("numa_cells"):
        changed["numa_cells"] = _huge_pages.taken(facts["numa_cells"], needs.huge_pages)
    return changed
