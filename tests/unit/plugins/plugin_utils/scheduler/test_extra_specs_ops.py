# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest

from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.extra_specs_ops import predicate
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.validation import ValidationError


@pytest.mark.parametrize(
    ("requirement", "value", "matches"),
    [
        ("= 4", "4", True),
        ("= 4", 5, True),
        ("= 4", "3.9", False),
        ("== 4", 4.0, True),
        ("== 4", "5", False),
        ("!= 4", "5", True),
        ("!= 4", "4", False),
        ("!= 4", "no number", False),
        (">= 4", "10", True),
        (">= 4", "3", False),
        ("<= 4", "4", True),
        ("<= 4", "10", False),
        ("s== abc", "abc", True),
        ("s== abc", "abd", False),
        ("s!= abc", "abd", True),
        ("s< b", "a", True),
        ("s< b", "b", False),
        ("s<= b", "b", True),
        ("s> 2", "10", False),
        ("s> 2", "3", True),
        ("s>= 2", "2", True),
        ("<in> 11", "12311321", True),
        ("<in> 44", "12311321", False),
        ("<in> aes", ["aes", "avx"], True),
        ("<in> av", ["aes", "avx"], False),
        ("<in> aes", {"aes": 1}, True),
        ("<all-in> aes avx", ["avx", "sse", "aes"], True),
        ("<all-in> aes mmx", ["avx", "sse", "aes"], False),
        ("<or> 12", "12", True),
        ("<or> 11 <or> 12", "12", True),
        ("<or> 11 <or> 12", "13", False),
        ("plain", "plain", True),
        ("plain", "other", False),
        ("two words", "two words", True),
        ("12", 12, True),
        ("", "", True),
        (">4", "5", False),
    ],
)
def test_operators(requirement, value, matches):
    assert predicate("field", requirement)(value) is matches


@pytest.mark.parametrize("requirement", [">=", "<or>", "s==", "<in>", "= many", ">= 1x"])
def test_an_operator_without_a_fitting_operand_is_an_error(requirement):
    with pytest.raises(ValidationError, match="^request.flavor.extra_specs.x: expected a "):
        predicate("request.flavor.extra_specs.x", requirement)
