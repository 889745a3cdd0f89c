# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The table of references as Markdown, for docs/domain-xml.md. Run as a module, it writes that file anew (see CONTRIBUTING.md)."""

from __future__ import annotations

import itertools
from pathlib import Path

from ansible_collections.kvmfleet.compute.plugins.module_utils._domain.references import RULES, Rule

PAGE = Path(__file__).parents[3] / "docs" / "domain-xml.md"
BEGIN = "<!-- from here on written by tests/unit/docs/references_table.py -->\n"
PARTS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("Firmware and boot", ("os", "bootloader", "launchSecurity", "sysinfo")),
    ("Disks", ("devices/disk",)),
    ("Network interfaces", ("devices/interface",)),
    ("Devices of several kinds, character devices among them", ("devices/*", "devices//")),
    ("Other devices", ("devices/",)),
    ("CPUs, memory and labels", ("",)),
)
"""Headings, and how the paths of what is below them begin; the first that fits counts."""


def tables() -> str:
    """A table for each part of a definition, in the order of the rules; neighbours that differ in nothing but the element share a row."""
    parts = {name: [rule for rule in RULES if _part(rule) == name] for name, _selects in PARTS}
    return "".join(f"\n## {part}\n\n| Element | It names | Answer | Reason |\n|---|---|---|---|\n{_rows(rules)}" for part, rules in parts.items())


def page(text: str) -> str:
    """The text of the page with the tables as they have to be."""
    return text.partition(BEGIN)[0] + BEGIN + tables()


def _part(rule: Rule) -> str:
    return next(name for name, selects in PARTS if rule.select.startswith(selects))


def _rows(rules: list[Rule]) -> str:
    groups = itertools.groupby(rules, key=lambda rule: (rule.kind, rule.answer, rule.reason, rule.matching))
    return "".join(
        f"| {', '.join(map(_element, alike))}{_condition(matching)} | {kind} | {answer} | {reason} |\n" for (kind, answer, reason, matching), alike in groups
    )


def _element(rule: Rule) -> str:
    return f"`{rule.select}`" if rule.value in (".", "") else f"`{rule.select}/{rule.value}`"


def _condition(matching: str | None) -> str:
    return "" if matching is None else f" that is `{matching}`".replace("|", r"\|")


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text()))
