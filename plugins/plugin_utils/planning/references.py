# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a guest refers to outside its definition, and what the move does about each, as the plan shows it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

DISK = "disk"
_SHOWN = ("kind", "name", "answer", "reason")


def answers(domain: Mapping[str, Any]) -> list[dict[str, str]]:
    """The answers of the module domain_info with `kind`, `name`, `answer` and `reason`: what is kept last, and each of them once."""
    found = {tuple(reference[key] for key in _SHOWN): None for reference in domain.get("references") or ()}
    return sorted((dict(zip(_SHOWN, values)) for values in found), key=lambda answer: (answer["answer"] == "keep", answer["answer"], answer["kind"]))


def lines(references: Iterable[Mapping[str, str]]) -> list[str]:
    """The answers for people, a line for all that have one kind and reason. Disks are left out, since `storage.place` says more about them."""
    names: dict[tuple[str, str, str], list[str]] = {}
    for reference in references:
        if reference["kind"] != DISK:
            names.setdefault((reference["answer"], reference["kind"], reference["reason"]), []).append(reference["name"])
    return [f"{answer} {kind} {', '.join(found)}" + (f" ({reason})" if reason else "") for (answer, kind, reason), found in names.items()]
