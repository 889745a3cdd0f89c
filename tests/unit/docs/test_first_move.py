# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""docs/first_move.md explains every refusal that a plan can give, in words of its own, and no other code."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from .test_errors import ROOT, codes, documented

PAGE = (ROOT / "docs" / "first_move.md").read_text()
PLANNER = ("migration", "guest", "fleet", "request", "locate", "server_groups", "flavor_disks", "extra_specs", "mapping", "precopy", "storage", "check")
SECTIONS = ("The request or the instance is not right", "An image is not what it should be")
# Of these sections what no plan says: it is about runs, or found out once an operation has begun.
LATER = {
    "invalid_directory", "narrowed_run", "facts_missing", "disk_covered", "layer_covered", "chain_changed", "base_differs", "base_missing", "base_not_shared",
    "image_exists",
}  # fmt: skip
# What several codes have in common is one row there, as domain-xml.md has a row for each.
OF_ONE_ROW = re.compile(r"unsupported_(numa|memtune|max_memory|memory_devices)|invalid_(ephemeral|swap)_disk")


def explained() -> dict[str, list[str]]:
    """The codes in the first column of the tables, each with what is said of it."""
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in PAGE.splitlines() if line.startswith("| `")]
    return {code: cells for cells in rows for code in re.findall(r"`(\w+)`", cells[0])}


def of_a_plan() -> set[str]:
    """What the planner refuses with, and what it is told of a guest and its images."""
    trees = (ast.parse((ROOT / "plugins" / "plugin_utils" / "planning" / f"{name}.py").read_text()) for name in PLANNER)
    text = (ROOT / "docs" / "errors.md").read_text()
    sections = [re.search(rf"^## {re.escape(title)}\n(.*?)^## ", text, re.MULTILINE | re.DOTALL) for title in SECTIONS]
    assert all(sections)
    rows = [line for section in sections if section for line in section[1].splitlines() if line.startswith("| `")]
    listed = {code for row in rows for code in re.findall(r"`(\w+)`", row.split("|")[1])}
    return ({code for tree in trees for code in codes(tree)} - {"code"}) | listed


def test_every_refusal_of_a_plan_is_explained() -> None:
    wanted = {code for code in of_a_plan() - LATER if not OF_ONE_ROW.fullmatch(code)}
    assert len(wanted) > 60
    assert sorted(wanted - set(explained())) == []


def test_what_is_said_later_is_said_there() -> None:
    """An entry that is no code any more, or that the page explains, has no place in the list of those that it leaves out."""
    assert sorted(LATER - documented()) == []
    assert sorted(LATER & set(explained())) == []


def test_nothing_is_explained_that_does_not_exist() -> None:
    assert sorted(set(explained()) - documented() - {"unsupported_KIND", "unsupported_hostdev"}) == []


def test_each_row_says_what_it_means_and_what_to_do() -> None:
    short = [code for code, cells in explained().items() if len(cells) != 3 or not all(cells)]
    assert short == []


def test_the_page_is_found() -> None:
    for place in ("README.md", "docs/inventories.md", "docs/errors.md"):
        assert "first_move.md" in (ROOT / place).read_text(), place
    for link in re.findall(r"\]\(([^)#:]+)(?:#[\w-]+)?\)", PAGE):
        assert (ROOT / "docs" / link).exists(), link
    assert Path(ROOT / "playbooks" / "check.yml").exists()
