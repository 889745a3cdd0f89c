# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The proof of a drain: sound in any order, complete where everything can be tried, the same whatever order things are told in, and cheap."""

from __future__ import annotations

import itertools
import random
from typing import Any

import pytest

from ansible_collections.kvmfleet.compute.plugins.plugin_utils.fleet import drain as drain_module
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler import together
from ansible_collections.kvmfleet.compute.tests.unit.plugins.plugin_utils.fleet.fleets import Made, host, places

GROUPS = {"web": {"policy": "anti-affinity", "members": ["web*"], "max_unavailable": 9}}


def small(seed: int) -> tuple[Made, dict[str, int], dict[str, int], dict[str, set[str]]]:
    """A fleet that is nearly full: free memory by host, what is to be placed, and members of the group that hosts have."""
    draw = random.Random(seed)  # noqa: S311
    sizes = {f"{'web' if draw.random() < 0.4 else 'vm'}{number}": draw.randint(1, 5) for number in range(draw.randint(2, 5))}
    free: dict[str, int] = {}
    left = sum(sizes.values()) + draw.choice((0, 0, 1, 2))
    hosts = draw.randint(2, 4)
    for number in range(2, hosts + 2):
        free[f"kvm{number}"] = left if number == hosts + 1 else draw.randint(0, left)
        left -= free[f"kvm{number}"]
    made = Made(host("kvm1", 64), *(host(name, room + 2) for name, room in free.items()))
    has: dict[str, set[str]] = {name: set() for name in free}
    for number, name in enumerate(free):
        member = draw.random() < 0.3
        made.guest(name, f"{'web' if member else 'old'}9{number}", ram=2)
        has[name] |= {"member"} if member else set()
    for name, ram in sizes.items():
        made.guest("kvm1", name, ram=ram)
    return made, free, sizes, has


def is_possible(free: dict[str, int], sizes: dict[str, int], has: dict[str, set[str]]) -> bool:
    """Every way, tried without any of our code."""
    for hosts in itertools.product(free, repeat=len(sizes)):
        used = dict.fromkeys(free, 0)
        members = {name: len(has[name]) for name in free}
        for (guest, ram), name in zip(sizes.items(), hosts):
            used[name] += ram
            members[name] += guest.startswith("web")
        grouped = [name for (guest, _ram), name in zip(sizes.items(), hosts) if guest.startswith("web")]
        if all(used[name] <= free[name] for name in free) and all(members[name] <= 1 for name in grouped):
            return True
    return False


def test_the_proof_finds_a_way_if_and_only_if_there_is_one() -> None:
    found = []
    for seed in range(150):
        made, free, sizes, has = small(seed)
        told = made.plan(server_groups=GROUPS)
        assert told["error"] is None
        assert told["fits"] == is_possible(free, sizes, has), f"seed {seed}: {told['lines']}"
        assert told["searched"] or told["fits"]
        found.append(told["fits"])
    assert 40 < sum(found) < 140, "both happen"


def test_the_moves_can_be_done_in_any_order_while_both_ends_are_charged() -> None:
    for seed in range(60):
        made, free, sizes, has = small(seed)
        told = made.plan(server_groups=GROUPS)
        if not told["fits"]:
            continue
        draw = random.Random(seed)  # noqa: S311
        left, members = dict(free), {name: len(has[name]) for name in free}
        for guest, name in draw.sample(sorted(places(told).items()), len(sizes)):
            left[name] -= sizes[guest]
            members[name] += guest.startswith("web")
            assert left[name] >= 0, f"seed {seed}: {name} is overcommitted on the way"
            assert members[name] <= 1 or not guest.startswith("web")


@pytest.mark.parametrize("seed", range(25))
def test_the_order_in_which_hosts_and_guests_are_told_changes_nothing(seed: int) -> None:
    """Sizes differ, so that no two hosts or guests are as good as each other."""
    draw = random.Random(seed)  # noqa: S311
    rams = [16.0 + number + number / 10 for number in range(5)]

    def told(shuffled: bool) -> Any:
        order = draw.sample(range(5), 5) if shuffled else range(5)
        made = Made(*(host(f"kvm{number}", rams[number - 1]) for number in (each + 1 for each in order)))
        guests = draw.sample(range(6), 6) if shuffled else range(6)
        for number in guests:
            made.guest("kvm1", f"vm{number}", ram=1 + number / 4, disk=3 + number, running=number != 3)
        return made.plan()

    first, second = told(False), told(True)
    assert first["fits"]
    assert (places(first), [move["instance"] for move in first["moves"]]) == (places(second), [move["instance"] for move in second["moves"]])


@pytest.mark.parametrize("hosts", [50, 200])
def test_a_drain_that_fits_costs_one_decision_a_guest_however_large_the_fleet(hosts: int, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    decide, fleet = together.decide, drain_module.Fleet
    monkeypatch.setattr(together, "decide", lambda context: (asked.append("decision"), decide(context))[1])
    monkeypatch.setattr(drain_module, "Fleet", lambda states: (asked.append("fleet"), fleet(states))[1])
    made = Made(*(host(f"kvm{number}", 64) for number in range(1, hosts + 1)))
    for number in range(10 * hosts):
        made.guest(f"kvm{number % hosts + 1}", f"vm{number}", ram=1 + number % 5)
    told = made.plan()
    assert told["fits"]
    assert (asked.count("decision"), asked.count("fleet")) == (10, 3)


def test_a_search_that_is_too_long_ends_and_says_that_it_did(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each fits alone, and all of them do not; there are more ways than are tried."""
    monkeypatch.setattr(together, "LOOKS", 300)
    looks = []
    rejections = together.rejections
    monkeypatch.setattr(together, "rejections", lambda *args: (looks.append(1), rejections(*args))[1])
    made = Made(host("kvm1", 200), *(host(f"kvm{number}", 10) for number in range(2, 8)))
    for number in range(13):
        made.guest("kvm1", f"vm{number}", ram=5 if number else 4)
    told = made.plan()
    assert (told["fits"], told["searched"]) == (False, False)
    assert len(looks) <= 302
    assert told["lines"][-1].startswith("  Not every way to place them was tried")


TCP = {"exclusive": {"tcp_port": ["5911"]}}
PAGES = {"huge_pages": {"page_kib": 2048, "memory_mb": 1024, "nodes": None}}


@pytest.mark.parametrize(
    ("names", "changes"),
    [
        (("web1", "web2"), TCP),
        (("web1", "web2"), {"interfaces": [{"type": "bridge", "source": "br0", "mac": "52:54:00:00:00:01"}]}),
        (("web1", "web2"), PAGES),
    ],
    ids=["port", "mac", "huge pages"],
)
def test_two_guests_that_want_one_thing_do_not_get_one_host(names: tuple[str, str], changes: dict[str, Any]) -> None:
    """Each of the hosts that are drained has one; each of the others has what one of both needs."""
    cells = [{"id": 0, "cpus": 8, "cpu_list": "0-7", "memory_mb": 16384, "free_pages": {"2048": 600}}]

    def made(others: int) -> Any:
        fleet = Made(*(host(f"kvm{number}", 16, bridges=["br0"], numa_cells=cells) for number in range(1, others + 3)))
        return fleet.guest("kvm1", names[0], **changes).guest("kvm2", names[1], **changes).plan("kvm1", "kvm2")

    assert not made(1)["fits"]
    told = made(2)
    assert sorted(places(told).values()) == ["kvm3", "kvm4"], told["lines"]


def test_two_guests_of_one_name_do_not_get_one_host() -> None:
    made = Made(*(host(f"kvm{number}", 16) for number in range(1, 4)))
    made.guest("kvm1", "web1").guest("kvm2", "web1")
    other = made.described["kvm2"][0]
    made.host("kvm2")["domains"][0]["uuid"] = other["uuid"] = other["domain"]["uuid"] = "5b1f8f10-0a8f-4c62-9d7b-5f5b1a1f8f10"
    told = made.plan("kvm1", "kvm2")
    assert not told["fits"]
