# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The definition that both ways of a resize, and a cold migration, give the guest."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from ansible_collections.kvmfleet.compute.plugins.module_utils._domain import definition as _definition
from ansible_collections.kvmfleet.compute.plugins.module_utils._operation import receiving as _receiving, shaping as _shaping

WAYS = pytest.mark.parametrize("definition", [_receiving.arriving, _shaping.layered], ids=["moved", "in place"])
SPECS = {"quota:cpu_shares": "512"}


def record(text: str, tuning: dict[str, Any] | None, specs: dict[str, str], **changes: Any) -> dict[str, Any]:
    root = _definition.parse(text)
    disks = [disk for disk in _definition.disks(root) if disk.path]
    return {
        "uuid": "m-1",
        "instance_name": root.findtext("name"),
        "instance_uuid": root.findtext("uuid"),
        "source_host": "kvm1",
        "availability_zone": None,
        "private": {"domain_xml": text},
        "disks": [{"target": disk.target, "kind": "media", "path": disk.path, "format": disk.format, "pool": None, "volume": None} for disk in disks],
        "nvram": _definition.firmware(root).nvram,
        "new_flavor": {"name": "m1", "vcpus": 4, "ram": 4096, "extra_specs": specs},
        "tuning": tuning,
        **changes,
    }


@WAYS
def test_a_resize_sets_what_the_flavor_asks_for_and_records_it(definition: Callable[[dict[str, Any]], str], definitions: dict[str, str]) -> None:
    root = _definition.parse(definition(record(definitions["virt_install"], {"cputune": {"shares": 512}}, SPECS)))
    assert root.findtext("cputune/shares") == "512"
    assert _definition.flavor_in_force(root) == _definition.FlavorInForce("m1", 4, 4096, SPECS)


@WAYS
def test_a_cold_migration_leaves_it_alone(definition: Callable[[dict[str, Any]], str], definitions: dict[str, str]) -> None:
    resized = definition(record(definitions["virt_install"], {"cputune": {"shares": 512}}, SPECS))
    root = _definition.parse(definition(record(resized, None, SPECS, uuid="m-2")))
    assert root.findtext("cputune/shares") == "512"
    assert _definition.flavor_in_force(root).extra_specs == SPECS
    assert _definition.migration_uuid(root) == "m-2"


@WAYS
def test_an_operation_that_an_older_release_began_goes_on(definition: Callable[[dict[str, Any]], str], definitions: dict[str, str]) -> None:
    begun = record(definitions["virt_install"], None, {})
    del begun["tuning"]
    assert _definition.flavor_in_force(_definition.parse(definition(begun))) == _definition.FlavorInForce("m1", 4, 4096)
