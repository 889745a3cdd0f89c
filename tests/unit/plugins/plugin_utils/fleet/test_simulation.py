# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Drains carried out event by event in small worlds: whatever happens when, the invariants of the fleet hold, and the same command again ends it."""

from __future__ import annotations

import random

import pytest

from ansible_collections.kvmfleet.compute.tests.unit.plugins.plugin_utils.fleet.world import Restore, Run, World

SEEDS = range(40)


def drained(world: World, *hosts: str) -> bool:
    """F3: nothing that can start is defined on the hosts, kvm1 unless told."""
    return not any(guest.where in (hosts or ("kvm1",)) for guest in world.guests.values()) and not world.operations


def worlds(seed: int) -> tuple[World, random.Random]:
    draw = random.Random(seed)  # noqa: S311
    return World.make(draw), draw


def begin_again(world: World, draw: random.Random, limit: int = 5, hosts: tuple[str, ...] = ("kvm1",)) -> Run:
    """The same command again, by a controller that knows nothing, until it has nothing to do any more."""
    run = Run(world, draw, drained=hosts)
    for _again in range(limit):
        list(run.events())
        if not run.programme["fits"] or not run.programme["moves"]:
            break
        run = Run(world, draw, drained=hosts)
    return run


@pytest.mark.parametrize("hosts", [("kvm1",), ("kvm1", "kvm2")], ids=len)
@pytest.mark.parametrize("seed", SEEDS)
def test_a_drain_that_begins_ends_with_evacuated_hosts(seed: int, hosts: tuple[str, ...]) -> None:
    world, draw = worlds(seed)
    run = Run(world, draw, drained=hosts)
    list(run.events())
    if run.programme["fits"]:
        assert drained(world, *hosts)
    else:
        assert not world.operations
        assert not world.finished, "nothing is changed by a drain that is refused (F1)"


def test_enough_of_these_worlds_have_room_and_enough_have_none() -> None:
    """Else the others show nothing."""
    fits = [Run(*worlds(seed)).programme["fits"] for seed in SEEDS]
    assert 10 <= sum(fits) <= len(fits) - 5


@pytest.mark.parametrize("seed", SEEDS)
def test_a_move_that_fails_ends_as_before_and_nothing_begins_after_it(seed: int) -> None:
    world, draw = worlds(seed)
    run = Run(world, draw, max_fail=draw.randint(1, 2))
    list(run.events(trouble=0.1))
    assert not world.operations
    if run.programme["fits"]:
        world.recover()
        last = begin_again(world, draw)
        assert drained(world) or not last.programme["fits"]


@pytest.mark.parametrize("seed", SEEDS)
def test_a_controller_that_dies_at_any_event_is_followed_by_another_one(seed: int) -> None:
    """F9, F10: it has nothing but the facts; nobody is moved twice, and the host is evacuated in the end, as it would have been."""
    world, draw = worlds(seed)
    dies_after = draw.randint(0, 25)
    run = Run(world, draw)
    for number, _event in enumerate(run.events()):
        if number >= dies_after:
            break
    if not run.programme["fits"]:
        return
    world.recover()
    assert not world.operations
    last = begin_again(world, draw)
    assert drained(world) or not last.programme["fits"]
    assert drained(world), last.programme["lines"]


@pytest.mark.parametrize("seed", SEEDS)
def test_a_destination_that_is_lost_in_the_middle_keeps_what_it_may_have_and_no_more(seed: int) -> None:
    world, draw = worlds(seed)
    run = Run(world, draw, max_fail=0)
    goes = draw.randint(0, 12)
    for number, _event in enumerate(run.events()):
        if number == goes:
            world.lost.add(draw.choice([name for name in world.rams if name != "kvm1"]))
    world.recover()
    for operation in world.operations.values():
        assert {operation.source, operation.destination} & world.lost
    world.lost.clear()
    world.recover()
    assert not world.operations
    if run.programme["fits"]:
        last = begin_again(world, draw)
        assert drained(world) or not last.programme["fits"]


@pytest.mark.parametrize("seed", SEEDS)
def test_two_drains_toward_each_other_take_no_place_twice(seed: int) -> None:
    """What the first still promises counts for the second. What the second has closed refuses the first: that guest is as before, and is planned anew."""
    world, draw = worlds(seed)
    first = Run(world, draw, max_fail=0)
    events, begins = first.events(), draw.randint(0, 12)
    for _number, _event in zip(range(begins), events):
        pass
    second = Run(world, draw, max_fail=0, drained=("kvm2",))
    both = [events, second.events()]
    for _event in range(2000):
        if both:
            run = draw.choice(both)
            if next(run, None) is None:
                both.remove(run)
    assert not both, "they wait for each other"
    for name, run in (("kvm1", first), ("kvm2", second)):
        if run.programme["fits"]:
            world.recover()
            last = begin_again(world, draw, hosts=(name,))
            assert drained(world, name) or not last.programme["fits"]


@pytest.mark.parametrize("hosts", [("kvm1",), ("kvm1", "kvm2")], ids=len)
@pytest.mark.parametrize("seed", SEEDS)
def test_who_came_from_a_host_is_home_after_its_restore_or_is_named(seed: int, hosts: tuple[str, ...]) -> None:
    """Some are confirmed by then, and some are not; those that were off are as they were."""
    world, draw = worlds(seed)
    before = {guest.name for guest in world.guests.values() if guest.where == "kvm1"}
    run = Run(world, draw, drained=hosts)
    if not run.programme["fits"]:
        return
    list(run.events())
    for name in draw.sample(sorted(world.finished), len(world.finished) // 2):
        del world.finished[name]
    restore = Restore(world, draw, drained=hosts)
    reverted = {move["instance"] for move in restore.programme["moves"] if move["how"] == "revert"}
    assert reverted == {name for name, operation in world.finished.items() if operation.source == "kvm1" and not world.guests[name].wanted}
    list(restore.events())
    assert not world.operations
    home = {guest.name for guest in world.guests.values() if guest.where == "kvm1"}
    stays = {each["instance"] for each in restore.programme["stays"]}
    assert home | stays >= before
    assert not home & stays
    if len(hosts) == 1:
        assert home == before, "what one host had, it has room for"
    assert all(world.guests[name].origin is None for name in home)


def test_enough_of_these_guests_go_home_in_each_way() -> None:
    """Else the test before shows nothing."""
    ways: list[str] = []
    for seed in SEEDS:
        world, draw = worlds(seed)
        run = Run(world, draw)
        list(run.events())
        if run.programme["fits"]:
            for name in sorted(world.finished)[::2]:
                del world.finished[name]
            ways += [move["how"] for move in Restore(world, draw).programme["moves"]]
    assert min(ways.count(way) for way in ("move", "confirm_move", "revert")) >= 5
