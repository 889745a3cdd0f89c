# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Where a drain took a guest from is set by the first drain, and cleared where the guest is at home again."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.kvmfleet.compute.plugins.module_utils._domain import definition as _definition, edit as _edit, flavor as _flavor, origin as _origin
from ansible_collections.kvmfleet.compute.plugins.module_utils._host import bindings as _bindings

FOREIGN = "<app:note xmlns:app='https://example.org/app'>keep</app:note>"
XML = f"<domain type='qemu'><name>web1</name><uuid>00000000-0000-4000-8000-000000000001</uuid><metadata>{FOREIGN}</metadata><memory>1</memory></domain>"
AT = {"host": "kvm1", "drain": "d-1", "at": "1970-01-01T00:00:10Z"}


def moved(xml: str, destination: str, part: dict[str, Any] | None = None) -> str:
    root = _definition.parse(xml)
    _origin.note(root, {"destination_host": destination, "created_at": 10.0, "part_of": part})
    return _edit.to_string(root)


def drain(host: str, uuid: str = "d-1") -> dict[str, Any]:
    return {"kind": "drain", "uuid": uuid, "host": host, "order": 1, "run": "run-1"}


def told(xml: str) -> dict[str, str] | None:
    return _origin.read(_definition.parse(xml))


def test_the_first_drain_sets_it_and_the_second_one_leaves_it() -> None:
    assert told(XML) is None
    once = moved(XML, "kvm2", drain("kvm1"))
    assert told(once) == AT
    assert told(moved(once, "kvm3", drain("kvm2", "d-2"))) == AT


@pytest.mark.parametrize("part", [None, {**drain("kvm1"), "kind": "restore"}])
def test_a_move_that_is_no_drain_sets_none_and_clears_none_on_its_way(part: dict[str, Any] | None) -> None:
    assert told(moved(XML, "kvm2", part)) is None
    assert told(moved(moved(XML, "kvm2", drain("kvm1")), "kvm3", part)) == AT


@pytest.mark.parametrize("part", [None, {**drain("kvm1"), "kind": "restore"}, drain("kvm2", "d-2")])
def test_it_is_cleared_where_the_guest_is_at_home_however_it_came(part: dict[str, Any] | None) -> None:
    assert told(moved(moved(XML, "kvm2", drain("kvm1")), "kvm1", part)) is None


def test_no_other_metadata_is_touched() -> None:
    once = moved(XML, "kvm2", drain("kvm1"))
    assert ">keep</app:note>" in once
    assert moved(once, "kvm1") == moved(XML, "kvm2")
    root = _definition.parse(once)
    _flavor.set_kvmfleet_metadata(root, "m1.small", None, "kvm1", "m-1")
    assert (_origin.read(root), _definition.migration_uuid(root)) == (AT, "m-1")


def test_a_host_tells_the_origins_of_its_guests() -> None:
    drained, other = _definition.parse(moved(XML, "kvm2", drain("kvm1"))), _definition.parse(XML)
    assert _bindings.of_definitions([[drained], [other]]).origins == {"00000000-0000-4000-8000-000000000001": AT}
