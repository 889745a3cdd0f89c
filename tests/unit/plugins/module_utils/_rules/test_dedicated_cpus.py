# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which CPUs a guest gets to itself, and how its definition says so."""

from __future__ import annotations

import itertools
import xml.etree.ElementTree as ET

import pytest
from hypothesis import given, strategies as st

from ansible_collections.kvmfleet.compute.plugins.module_utils._domain import definition as _definition, edit as _edit, flavor as _flavor, pins as _pins
from ansible_collections.kvmfleet.compute.plugins.module_utils._journal import claims as _claims
from ansible_collections.kvmfleet.compute.plugins.module_utils._rules import dedicated_cpus as _dedicated_cpus, host_cpus as _host_cpus

CELLS = [{"id": 0, "cpu_list": "0-3"}, {"id": 1, "cpu_list": "4-7"}]
PLAIN = "<domain><name>g</name><memory unit='MiB'>512</memory><vcpu>2</vcpu><os/></domain>"
PINNED = """<domain><name>g</name><memory unit='MiB'>512</memory><vcpu>2</vcpu><cputune><shares>7</shares><vcpupin vcpu='0' cpuset='0-1'/>
  <emulatorpin cpuset='0'/></cputune><os/></domain>"""


def test_free_is_what_is_set_aside_and_nobody_has():
    assert _dedicated_cpus.free(CELLS, range(2, 7), {3, 5}) == {0: [2], 1: [4, 6]}


@pytest.mark.parametrize(
    ("guest", "nodes", "pins"),
    [
        ([[0, 1]], {0: [2, 3], 1: [4, 5, 6]}, [2, 3]),
        ([[0, 1]], {0: [2, 3, 9], 1: [4, 5]}, [4, 5]),
        ([[0, 1]], {0: [2], 1: [4]}, None),
        ([[0, 1], [2]], {0: [2], 1: [4, 5]}, [4, 5, 2]),
        ([[0, 2], [1]], {0: [2, 3], 1: [4]}, [2, 4, 3]),
        ([[0], [1]], {0: [2, 3]}, None),
        ([[0], [1, 2]], {0: [2, 3], 1: [5, 6]}, [5, 2, 3]),
    ],
)
def test_choice(guest, nodes, pins):
    assert _dedicated_cpus.choose(guest, nodes) == pins


@given(st.lists(st.integers(1, 3), min_size=1, max_size=4), st.lists(st.integers(0, 4), max_size=4))
def test_a_way_is_found_if_there_is_one(sizes, free):
    bounds = list(itertools.accumulate(sizes, initial=0))
    guest = [list(range(low, high)) for low, high in itertools.pairwise(bounds)]
    nodes = {number: [10 * number + cpu for cpu in range(count)] for number, count in enumerate(free)}
    pins = _dedicated_cpus.choose(guest, nodes)
    ways = itertools.permutations(nodes, len(guest))
    assert (pins is not None) == any(all(len(nodes[node]) >= len(cell) for node, cell in zip(way, guest, strict=True)) for way in ways)
    if pins is not None:
        assert len(set(pins)) == len(pins) == sum(sizes)
        used = [{pins[vcpu] // 10 for vcpu in cell} for cell in guest]
        assert all(len(node) == 1 for node in used)
        assert len(set.union(*used)) == len(guest)


def test_a_host_that_sets_none_aside_says_so():
    assert "kvmfleet_cpu_dedicated_set" in _dedicated_cpus.described([[0, 1]], {0: []}, ())
    assert _dedicated_cpus.described([[0, 1], [2]], {0: [4], 1: []}, {4, 5}).endswith("of 4-5 are free: 4 on NUMA node 0, none on NUMA node 1")


@pytest.mark.parametrize("definition", [PLAIN, PINNED])
def test_pins_come_and_go(definition):
    root = _definition.parse(definition)
    before = ET.canonicalize(_edit.to_string(root), strip_text=True)
    _flavor.apply_flavor(root, 3, 512, {"dedicated": True}, [5, 4, 7])
    assert {pin.get("vcpu"): pin.get("cpuset") for pin in root.findall("cputune/vcpupin")} == {"0": "5", "1": "4", "2": "7"}
    assert root.find("cputune/emulatorpin").get("cpuset") == "4-5,7"
    assert _pins.are_ours(root)
    assert _host_cpus.needed(root, pins=False)["cpus"] == []
    _flavor.apply_flavor(root, 3, 512, None, [1, 2, 3])
    assert [pin.get("cpuset") for pin in root.findall("cputune/vcpupin")] == ["1", "2", "3"]
    _flavor.apply_flavor(root, 2, 512, {"dedicated": False})
    assert ET.canonicalize(_edit.to_string(root), strip_text=True) == before


def test_a_migration_of_a_guest_without_them_leaves_pins_alone():
    root = _definition.parse(PINNED)
    _flavor.apply_flavor(root, 2, 512)
    assert _edit.to_string(root) == _edit.to_string(_definition.parse(PINNED))


def test_what_somebody_changed_by_hand_stays():
    root = _definition.parse(PLAIN)
    _flavor.apply_flavor(root, 2, 512, {"dedicated": True}, [5, 4])
    root.find("cputune/vcpupin").set("cpuset", "6")
    _flavor.apply_flavor(root, 2, 512, {"dedicated": False})
    assert [(pin.tag, pin.get("cpuset")) for pin in root.find("cputune")] == [("vcpupin", "6")]


def test_cpus_of_claims():
    claims = [{"instance_uuid": "a", "cpus": [1, 2]}, {"instance_uuid": "b", "cpus": [3]}, {"instance_uuid": "c"}]
    assert _claims.cpus(claims) == {1, 2, 3}
    assert _claims.cpus(claims, without="a") == {3}
