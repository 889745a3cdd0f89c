# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from ansible_collections.kvmfleet.compute.plugins.module_utils._operation import admission as _admission
from ansible_collections.kvmfleet.compute.plugins.module_utils._rules import machine_types as _machine_types

BOOKWORM = ["pc", "pc-i440fx-7.2", "pc-q35-2.10", "pc-q35-6.2", "pc-q35-7.0", "pc-q35-7.1", "pc-q35-7.2", "q35", "xenpv"]
TRIXIE = ["pc-i440fx-10.0", "pc-q35-10.0", "pc-q35-2.10", "pc-q35-2.11", "pc-q35-2.12", "pc-q35-2.9", "pc-q35-9.0", "pc-q35-9.1", "pc-q35-9.2", "q35"]


@pytest.mark.parametrize(
    ("machine", "known", "nearest"),
    [
        ("pc-q35-10.0", BOOKWORM, ["pc-q35-6.2", "pc-q35-7.0", "pc-q35-7.1", "pc-q35-7.2"]),
        ("pc-q35-11.0", TRIXIE, ["pc-q35-9.0", "pc-q35-9.1", "pc-q35-9.2", "pc-q35-10.0"]),
        ("pc-q35-2.4", TRIXIE, ["pc-q35-2.9", "pc-q35-2.10", "pc-q35-2.11", "pc-q35-2.12"]),
        ("pc-q35-8.2", TRIXIE, ["pc-q35-2.11", "pc-q35-2.12", "pc-q35-9.0", "pc-q35-9.1"]),
        ("pc-i440fx-10.0", BOOKWORM, ["pc-i440fx-7.2"]),
        ("pc-q35-rhel9.4.0", ["pc-q35-rhel9.0.0", "pc-q35-rhel8.6.0", "q35"], ["pc-q35-rhel8.6.0", "pc-q35-rhel9.0.0"]),
        ("microvm", BOOKWORM, []),
    ],
)
def test_those_that_are_nearest(machine: str, known: list[str], nearest: list[str]) -> None:
    sentence, found = _machine_types.lacking(machine, known)
    assert list(found) == nearest
    assert sentence == f"does not know the machine type {machine}" + (f"; of its kind it knows {', '.join(nearest)}" if nearest else "")


@given(st.text(max_size=20), st.lists(st.text(max_size=20)))
def test_whatever_a_host_calls_them(machine: str, known: list[str]) -> None:
    _sentence, found = _machine_types.lacking(machine, known)
    assert len(found) <= 4
    assert set(found) <= set(known)


def test_a_claim_names_them_too() -> None:
    facts = {"machine_types": BOOKWORM, "supported_instances": [["x86_64", "kvm", "hvm"]], "networks": [], "bridges": [], "tools": {"qemu_img": "1"}}
    requirements = {"arch": "x86_64", "virt_type": "kvm", "networks": [], "bridges": [], "emulator": None, "loader": None, "nvram_template": None}
    assert _admission._lacks(facts, {**requirements, "machine": "pc-q35-7.2"}) == []
    (reason,) = _admission._lacks(facts, {**requirements, "machine": "pc-q35-10.0"})
    assert reason["code"] == "machine_type"
    expected = "this host does not know the machine type pc-q35-10.0; of its kind it knows pc-q35-6.2, pc-q35-7.0, pc-q35-7.1, pc-q35-7.2"
    assert reason["reason"] == expected
