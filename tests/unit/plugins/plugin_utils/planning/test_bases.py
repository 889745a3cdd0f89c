# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.kvmfleet.compute.plugins.filter.base_sources import base_sources

BASES = [{"sha256": "aa", "path": "/images/a"}, {"sha256": "bb", "path": "/images/b"}]


def host(name: str, *bases: str, zone: str = "north", **facts: Any) -> dict[str, Any]:
    return {"host": name, "up": True, "availability_zone": zone, "bases": list(bases), "num_io_ops": 0, **facts}


SOURCE, DESTINATION = host("kvm1", "aa", "bb"), host("kvm2")


def order(*others: dict[str, Any], store: str = "", destination: dict[str, Any] | None = None) -> list[str]:
    """The sources of the first base."""
    destination = destination or DESTINATION
    answer = base_sources([SOURCE, destination, *others], BASES[:1], "kvm1", destination["host"], store)
    assert answer["error"] is None
    return [source["host"] or source["url"] for source in answer["sources"]]


def test_a_sibling_goes_before_the_store_and_the_source_comes_last() -> None:
    assert order(host("kvm3", "aa"), store="http://images") == ["kvm3", "http://images", "kvm1"]
    assert order(store="http://images") == ["http://images", "kvm1"]
    assert order() == ["kvm1"]


@pytest.mark.parametrize(
    "other", [host("kvm3", "bb"), host("kvm3", "aa", zone="south"), host("kvm3", "aa", up=False), {"host": "kvm3", "up": True, "availability_zone": "north"}]
)
def test_who_is_no_sibling(other: dict[str, Any]) -> None:
    assert order(other) == ["kvm1"]


def test_the_zone_is_that_of_the_destination() -> None:
    south = host("kvm2", zone="south")
    assert order(host("kvm3", "aa"), host("kvm4", "aa", zone="south"), destination=south) == ["kvm4", "kvm1"]


def test_two_siblings_are_asked_and_the_busy_one_last() -> None:
    assert order(host("kvm3", "aa", num_io_ops=2), host("kvm4", "aa", num_io_ops=1), host("kvm5", "aa", num_io_ops=3)) == ["kvm4", "kvm3", "kvm1"]


def test_equal_siblings_share_the_load() -> None:
    siblings = [host(f"kvm{number}", "aa") for number in range(3, 7)]
    first = {order(*siblings, destination=host(f"new{number}"))[0] for number in range(40)}
    assert first == {sibling["host"] for sibling in siblings}


def test_each_base_has_its_own_sources() -> None:
    answer = base_sources([SOURCE, DESTINATION, host("kvm3", "bb")], BASES, "kvm1", "kvm2", "http://images")
    assert [(source["base"]["sha256"], source["kind"], source["host"]) for source in answer["sources"]] == [
        ("aa", "store", None), ("aa", "source", "kvm1"), ("bb", "sibling", "kvm3"), ("bb", "store", None), ("bb", "source", "kvm1"),
    ]  # fmt: skip


def test_a_destination_without_facts_is_an_error() -> None:
    assert base_sources([SOURCE], BASES, "kvm1", "kvm9")["error"]["code"] == "unknown_host"
