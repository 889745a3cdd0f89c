# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a guest refers to outside its definition, and what the move does about each, as the plan shows it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from ansible_collections.kvmfleet.compute.plugins.module_utils._rules.domain_facts import DomainFacts
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.planning import mapping

DISK = "disk"
_MAPPED = {
    "bridge": "bridges",
    "network": "networks",
    "pool": "pools",
    "emulator": "emulators",
    "loader": "firmware",
    "nvram_template": "firmware",
}
"""Kinds of references whose names `kvmfleet_mappings` may translate."""
_SHOWN = ("kind", "name", "answer", "reason")


def answers(domain: DomainFacts, translation: mapping.Names = mapping.SAME) -> list[dict[str, str]]:
    """The answers of the module domain_info with `kind`, `name`, `answer` and `reason`: what is kept last, and each of them once.

    :param translation: what `mapping.translated` says of the destination; what it translates is mapped instead of kept.
    """
    found = {tuple(_mapped(reference, translation)[key] for key in _SHOWN): None for reference in domain.get("references") or ()}
    return sorted((dict(zip(_SHOWN, values)) for values in found), key=lambda answer: (answer["answer"] == "keep", answer["answer"], answer["kind"]))


def _mapped(reference: Mapping[str, str], translation: mapping.Names) -> Mapping[str, str]:
    there = translation.get(_MAPPED.get(reference["kind"], ""), {}).get(reference["name"])
    return reference if there is None else {**reference, "answer": "map", "reason": f"{there} at the destination"}


def lines(references: Iterable[Mapping[str, str]]) -> list[str]:
    """The answers for people, a line for all that have one kind and reason. Disks are left out, since `storage.place` says more about them."""
    names: dict[tuple[str, str, str], list[str]] = {}
    for reference in references:
        if reference["kind"] != DISK:
            names.setdefault((reference["answer"], reference["kind"], reference["reason"]), []).append(reference["name"])
    return [f"{answer} {kind} {', '.join(found)}" + (f" ({reason})" if reason else "") for (answer, kind, reason), found in names.items()]
