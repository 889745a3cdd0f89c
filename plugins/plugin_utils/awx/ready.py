# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which objects of AWX can be looked at in check mode: those whose parts are there. What AWX does not have yet, it has no answer for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

_NAMES = {
    "unified_job_template": ("job_templates", "workflows"),
    "workflow_job_template": ("workflows",),
    "team": ("teams",),
    "job_templates": ("job_templates",),
    "workflows": ("workflows",),
    "notification_templates_error": ("notification_templates",),
    "notification_templates_approvals": ("notification_templates",),
}
"""What names an object that is made too, and of which kinds that may be."""
_NODES = ("identifier", "success_nodes", "failure_nodes", "always_nodes")


def ready(objects: Sequence[Mapping[str, Any]], results: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Those of the objects that name nothing which AWX does not have yet.

    :param results: of the modules of awx.awx that have looked at other objects, by kind; one that AWX has comes with its `id`.
    """
    there = {kind: {_called(item["item"]) for item in (told or {}).get("results") or [] if item.get("id")} for kind, told in results.items()}
    return [one for one in objects if all(any(name in there.get(kind, ()) for kind in kinds) for name, kinds in _named(one))]


def _named(one: Mapping[str, Any]) -> Iterator[tuple[Any, Sequence[str]]]:
    for key, kinds in _NAMES.items():
        for name in _names(one, key):
            yield name, kinds
    if any(key in one for key in _NODES[1:]):  # how nodes of a workflow lead on to each other
        for key in _NODES:
            for name in _names(one, key):
                yield (str(one["workflow_job_template"]), name), ("workflow_nodes",)


def _names(one: Mapping[str, Any], key: str) -> list[str]:
    """What a field names: one object, several, or none."""
    value = one.get(key)
    return [value] if isinstance(value, str) else [str(name) for name in value or []]


def _called(one: Mapping[str, Any]) -> Any:
    return (str(one["workflow_job_template"]), str(one["identifier"])) if "identifier" in one else str(one["name"])
