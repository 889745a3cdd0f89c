# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.kvmfleet.compute.plugins.module_utils._domain import definition as _definition
from ansible_collections.kvmfleet.compute.plugins.module_utils._operation import admission as _admission
from ansible_collections.kvmfleet.compute.plugins.module_utils._rules import huge_pages as _huge_pages

TEXT = "<domain><memory unit='GiB'>2</memory>{}</domain>"


@pytest.mark.parametrize(
    ("inside", "expected"),
    [
        ("", None),
        ("<memoryBacking><locked/></memoryBacking>", None),
        ("<memoryBacking><hugepages/></memoryBacking>", {"page_kib": None, "memory_mb": 2048, "nodes": None}),
        ("<memoryBacking><hugepages><page size='1' unit='G'/></hugepages></memoryBacking>", {"page_kib": 1048576, "memory_mb": 2048, "nodes": None}),
        (
            "<memoryBacking><hugepages><page size='2048'/></hugepages></memoryBacking>"
            "<numatune><memory nodeset='1'/><memnode cellid='0' nodeset='2-3,^2'/></numatune>",
            {"page_kib": 2048, "memory_mb": 2048, "nodes": [1, 3]},
        ),
    ],
)
def test_what_a_definition_needs(inside: str, expected: dict[str, Any] | None) -> None:
    assert _huge_pages.needed(_definition.parse(TEXT.format(inside))) == expected


def lacking(huge_pages: dict[str, Any] | None, free: dict[str, int]) -> list[dict[str, Any]]:
    facts = {
        "machine_types": [], "supported_instances": [["x86_64", "kvm", "hvm"]], "networks": [], "bridges": [], "tools": {"qemu_img": "1"},
        "numa_cells": [{"id": 0, "free_pages": free}],
    }  # fmt: skip
    requirements = {
        "machine": None, "arch": "x86_64", "virt_type": "kvm", "networks": [], "bridges": [], "emulator": None, "loader": None, "nvram_template": None,
        "huge_pages": huge_pages,
    }  # fmt: skip
    return _admission._lacks(facts, requirements)


def test_they_are_counted_again_when_the_host_is_claimed() -> None:
    need = {"page_kib": 2048, "memory_mb": 2048, "nodes": None}
    assert lacking(None, {}) == lacking(need, {"4": 0, "2048": 1024}) == []
    (reason,) = lacking(need, {"2048": 1023})
    assert (reason["code"], reason["reason"]) == ("huge_pages", "it needs 2048 MB in huge pages of 2048 KiB, 2046 MB are free here")
