# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""docs/domain-xml.md says what the table of references says."""

from __future__ import annotations

from ansible_collections.kvmfleet.compute.plugins.module_utils._domain import references as _references
from ansible_collections.kvmfleet.compute.tests.unit.docs import references_table


def test_the_page_has_the_tables_of_the_code() -> None:
    text = references_table.PAGE.read_text()
    assert text == references_table.page(text), "run references_table.py as CONTRIBUTING.md says"


def test_every_rule_and_every_reason_is_on_the_page() -> None:
    tables = references_table.tables()
    assert [rule for rule in _references.RULES if f"`{rule.select}" not in tables or rule.reason not in tables] == []
    assert tables.count("\n## ") == len(references_table.PARTS)


def test_every_row_has_four_columns() -> None:
    rows = [line for line in references_table.tables().splitlines() if line.startswith("|")]
    assert {line.replace(r"\|", "").count("|") for line in rows} == {5}
