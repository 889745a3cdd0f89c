# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from ansible_collections.kvmfleet.compute.plugins.module_utils._rules import cpu_set as _cpu_set
from ansible_collections.kvmfleet.compute.plugins.module_utils._rules.errors import KvmfleetError


@pytest.mark.parametrize(
    ("text", "expected"),
    [("", set()), ("0", {0}), ("0-2,5", {0, 1, 2, 5}), ("0-3,^1-2", {0, 3}), (" 1 , 2 ", {1, 2}), ("^1", set()), ("1,^1,1", {1})],
)
def test_lists(text: str, expected: set[int]) -> None:
    assert _cpu_set.parse(text, "cpus") == expected


@pytest.mark.parametrize("text", ["a", "1-", "-1", "3-1", "1,,2", "0-99999999999", "8192", "1;2", "\u0661", "^"])
def test_what_is_none(text: str) -> None:
    with pytest.raises(KvmfleetError) as caught:
        _cpu_set.parse(text, "cpus")
    assert caught.value.code == "invalid_domain_xml"


@given(st.sets(st.integers(0, 40)))
def test_written_and_read_again(numbers: set[int]) -> None:
    assert _cpu_set.parse(_cpu_set.listed(numbers), "cpus") == numbers
