# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A fleet that changes: guests, hosts and journals as state, and events that happen one at a time, in any order and at the worst moment.

What is decided comes from the code itself: the programme, who may begin, and what becomes of an operation whose controller is gone. After every event the
invariants of the fleet are looked at.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.kvmfleet.compute.plugins.plugin_utils.fleet import progress
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.planning import recovery
from ansible_collections.kvmfleet.compute.tests.unit.plugins.plugin_utils.fleet.fleets import Made, host, uuid_of

PHASES = ("begun", "claimed", "sealed", "started", "finished")
RECORDS = {
    "begun": {"source": ("pre-migrating", "begun")},
    "claimed": {"source": ("pre-migrating", "begun"), "destination": ("pre-migrating", "claimed")},
    "sealed": {"source": ("migrating", "sealed"), "destination": ("migrating", "receiving")},
    "started": {"source": ("migrating", "sealed"), "destination": ("post-migrating", "started")},
    "finished": {"source": ("finished", "finished"), "destination": ("finished", "finished")},
}
"""Status and step of the records that an operation has in each phase."""
SLOTS = 2


@dataclass
class Guest:
    """`where`: the host whose libvirt defines it, None while it is sealed; `wanted`: whether it ran before anybody did anything.

    `origin`: the host that a drain has taken it from first.
    """

    name: str
    ram: int
    where: str | None
    running: bool
    wanted: bool
    moves: int = 0
    origin: str | None = None


@dataclass
class Operation:
    source: str
    destination: str
    phase: str = "begun"


@dataclass
class World:
    """`maintenance`: the hosts that are closed, and what their records note of guests; `groups`: name -> members and how many of them may be down at once."""

    rams: dict[str, int]
    guests: dict[str, Guest]
    groups: dict[str, dict[str, Any]] = field(default_factory=dict)
    operations: dict[str, Operation] = field(default_factory=dict)
    finished: dict[str, Operation] = field(default_factory=dict)
    lost: set[str] = field(default_factory=set)
    maintenance: dict[str, dict[str, Any]] = field(default_factory=dict)
    down_before: dict[str, set[str]] = field(default_factory=dict)

    @classmethod
    def make(cls, draw: random.Random) -> World:
        """A small one, in which there may or may not be room."""
        rams = {f"kvm{number}": draw.choice((8, 10, 14)) for number in range(1, draw.randint(4, 6))}
        names = [*(f"web{number}" for number in range(draw.randint(2, 5))), *(f"vm{number}" for number in range(draw.randint(4, 12)))]
        world = cls(rams, {})
        most = draw.randint(1, 2)
        web = {"policy": draw.choice(("anti-affinity", "soft-anti-affinity")), "members": ["web*"], "max_server_per_host": most}
        world.groups = {"web": {**web, "max_unavailable": draw.choice((1, 1, 2))}}
        for name in names:
            ram, at = draw.randint(1, 3), draw.choice(["kvm1", "kvm1", "kvm1", "kvm2", *rams])
            members = [guest for guest in world.guests.values() if guest.name.startswith("web") and guest.where == at]
            apart = not name.startswith("web") or web["policy"] != "anti-affinity" or len(members) < most
            if apart and world.used(at) + ram <= rams[at]:
                running = draw.random() < (0.9 if name.startswith("web") else 0.7)
                world.guests[name] = Guest(name, ram, at, running, running)
        return world

    def used(self, name: str) -> int:
        """Memory of a host: what is defined there, claimed, or sealed and not confirmed."""
        return sum(self.guests[guest].ram for guest in self.at(name))

    def at(self, name: str) -> set[str]:
        """Guests that a host is charged with."""
        found = {guest.name for guest in self.guests.values() if guest.where == name}
        for guest, operation in [*self.operations.items(), *self.finished.items()]:
            if name == operation.source or (name == operation.destination and operation.phase != "begun"):
                found.add(guest)
        return found

    def made(self) -> Made:
        """The facts of all hosts, as they are now."""
        made = Made(*(host(name, ram) for name, ram in self.rams.items()))
        for guest in self.guests.values():
            if guest.where is not None:
                entry = {"origin": {"host": guest.origin, "drain": "d"}} if guest.origin else None
                made.guest(guest.where, guest.name, ram=guest.ram, running=guest.running, entry=entry)
        for name, operation in [*self.operations.items(), *self.finished.items()]:
            self._journal(made, name, operation)
        for name in self.lost:
            state = made.host(name)
            state.update(up=False, reachable=False, down_reason="no route", domains=[], migrations=[], claims=[])
        for name, guests in self.maintenance.items():
            made.host(name)["maintenance"] = {"uuid": "d", "state": "draining", "reason": "test", "guests": guests}
        return made

    def _journal(self, made: Made, name: str, operation: Operation) -> None:
        sizes = {"vcpus": 1, "memory_mb": self.guests[name].ram * 1024, "disk_gb": 1}
        for role, (status, step) in RECORDS[operation.phase].items():
            where = getattr(operation, role)
            record = {
                "uuid": uuid_of(f"operation {name}"), "instance_uuid": uuid_of(name), "instance_name": name, "role": role, "status": status, "step": step,
                "migration_type": "migration", "source_host": operation.source, "updated_at": 1000.0, "old_flavor": None, "new_flavor": None,
                "destination_host": None if operation.phase == "begun" else operation.destination, "abandoned": True, "owner": "run",
            }  # fmt: skip
            if step == "started" or status == "finished":
                record["has_run"] = "it was started" if self.guests[name].wanted else None
            made.host(where)["migrations"].append(record)
            if uuid_of(name) not in made.host(where)["instances"]:
                made.charge(where, uuid_of(name), sizes)

    def down(self, group: str) -> set[str]:
        """The members that do not run."""
        return {guest.name for guest in self.guests.values() if guest.name.startswith(group) and not (guest.running and guest.where is not None)}

    def check(self) -> None:
        """What holds after every event."""
        for name, ram in self.rams.items():
            assert self.used(name) <= ram, f"{name} is overcommitted"
            if self.groups["web"]["policy"] == "anti-affinity":
                members = {guest for guest in self.at(name) if guest.startswith("web")}
                assert len(members) <= self.groups["web"]["max_server_per_host"], f"{name} has {members}"
            in_hand = [operation for operation in self.operations.values() if operation.phase != "finished"]
            assert sum(operation.source == name for operation in in_hand) <= SLOTS, "F5"
            assert sum(operation.destination == name and operation.phase != "begun" for operation in in_hand) <= SLOTS, "F5"
        for name, group in self.groups.items():
            ours = self.down(name) - self.down_before.get(name, set())
            assert not ours or len(self.down(name)) <= group["max_unavailable"], f"F6: {self.down(name)} are down"
        for guest in self.guests.values():
            assert guest.moves <= 1, f"F4: {guest.name} was moved twice"
            assert guest.where is None or guest.running == guest.wanted, f"F7: {guest.name}"

    def undo(self, name: str) -> None:
        """The guest is as before."""
        operation = self.operations.pop(name)
        self.guests[name].where, self.guests[name].running = operation.source, self.guests[name].wanted

    def advance(self, name: str) -> bool:
        """The next phase of an operation, if the hosts let it."""
        operation, guest = self.operations[name], self.guests[name]
        if {operation.source, operation.destination} & self.lost:
            return False
        phase = PHASES[PHASES.index(operation.phase) + 1]
        if phase == "claimed":
            coming = [other for other in self.operations.values() if other.destination == operation.destination and other.phase not in ("begun", "finished")]
            if len(coming) >= SLOTS:
                return False
            if operation.destination in self.maintenance:
                self.undo(name)
                return True
            assert self.used(operation.destination) + guest.ram <= self.rams[operation.destination], "the proof was not sound"
        operation.phase = phase
        if phase == "sealed":
            guest.where, guest.running = None, False
        elif phase == "started":
            guest.where, guest.running = operation.destination, guest.wanted
            guest.moves += 1
            guest.origin = None if guest.origin == operation.destination else guest.origin or operation.source
        elif phase == "finished":
            self.finished[name] = self.operations.pop(name)
        return True

    def recover(self) -> None:
        """What another controller makes of all that is open."""
        for decision in recovery.decide(self.made().facts, "recover"):
            name = decision["instance_name"]
            if decision["action"] == "back":
                self.undo(name)
            elif decision["action"] == "forward":
                while name in self.operations:
                    assert self.advance(name)
            self.check()


class Run:
    """One drain, as a controller carries it out: so many guests hold a slot, in the order of the programme."""

    def __init__(self, world: World, draw: random.Random, parallel: int = 4, max_fail: int = 1, drained: tuple[str, ...] = ("kvm1",)) -> None:
        self.world, self.draw, self.parallel, self.max_fail, self.drained = world, draw, parallel, max_fail, drained
        self.states: dict[str, str] = {}
        self.failures = 0
        world.down_before = world.down_before or {name: world.down(name) for name in world.groups}
        self.after: dict[str, str] = {}
        self.programme = self._plan()
        assert self.programme["error"] is None

    def _plan(self) -> Any:
        world, draw, drained = self.world, self.draw, self.drained
        names = sorted(world.guests)
        self.after = {name: draw.choice(names) for name in names if name.endswith(("3", "4"))}
        # One waits for one that comes before it, so that there is no circle.
        self.after = {name: other for name, other in self.after.items() if other < name}
        programme = world.made().plan(*drained, server_groups=world.groups, policies={name: {"after": other} for name, other in self.after.items()})
        if programme["fits"]:
            noted = programme["guests"]
            here = {name: {uuid_of(guest.name) for guest in world.guests.values() if guest.where == name} for name in drained}
            world.maintenance.update({name: {uuid: noted[uuid] for uuid in uuids if uuid in noted} for name, uuids in here.items()})
        return programme

    def events(self, trouble: float = 0.0) -> Iterator[str]:
        """Carry it out; each event is yielded after it happened.

        :param trouble: how probable it is that a move fails in a step.
        """
        queue = [move["uuid"] for move in self.programme["moves"]] if self.programme["fits"] else []
        known = {move["uuid"]: move for move in self.programme["moves"]}
        while queue or any(state == "moving" for state in self.states.values()):
            holding = [uuid for uuid in queue if self.states.get(uuid, "planned") not in progress.OVER][: self.parallel]
            queue = [uuid for uuid in queue if self.states.get(uuid, "planned") not in progress.OVER]
            happened = [said for uuid in self.draw.sample(holding, len(holding)) if (said := self._step(known[uuid], trouble))]
            if not happened and not queue:
                return
            others = set(self.world.operations) - {move["instance"] for move in known.values()}
            stuck = [known[uuid]["instance"] for uuid in holding]
            assert happened or others or self.world.lost, f"nothing can happen any more, and {stuck} wait"
            yield from happened or ["waits for another run"]
            if not happened and not others:
                return

    def _step(self, move: dict[str, Any], trouble: float) -> str | None:
        uuid, name = move["uuid"], move["instance"]
        if self.states.get(uuid, "planned") == "planned":
            verdict = progress.may_begin(self.programme["moves"], self.states, uuid, self.max_fail)
            leaving = sum(operation.source == move["host"] for operation in self.world.operations.values())
            if verdict.do == "wait" or (verdict.do == "begin" and leaving >= SLOTS):
                return None
            self.states[uuid] = "moving" if verdict.do == "begin" else "skipped"
            if verdict.do == "begin":
                assert not self.max_fail or self.failures < self.max_fail, "F8"
                self.world.operations[name] = Operation(move["host"], move["destination"])
                self._check_order(move)
                if move["how"] != "move":
                    self.world.finished.pop(name)  # it is confirmed, or reverted
                if move["how"] == "revert":
                    del self.world.operations[name]
                    self.world.guests[name].where, self.world.guests[name].origin, self.states[uuid] = move["destination"], None, "moved"
                    self.world.check()
                    return f"{name} is reverted"
            said = f"{name} {self.states[uuid]}"
        elif self.draw.random() < trouble and self.world.operations[name].phase in ("begun", "claimed", "sealed"):
            self.world.undo(name)
            self.states[uuid], self.failures = "undone", self.failures + 1
            said = f"{name} failed"
        elif {move["host"], move["destination"]} & self.world.lost and self.world.operations[name].phase in ("begun", "claimed"):
            self.world.undo(name)
            self.states[uuid], self.failures = "undone", self.failures + 1
            said = f"{name} failed, since a host is lost"
        elif not self.world.advance(name):
            return None
        else:
            if name not in self.world.operations:
                self.states[uuid] = "moved" if name in self.world.finished else "undone"
                self.failures += name not in self.world.finished
            said = f"{name} gets on"
        self.world.check()
        return said

    def _check_order(self, move: dict[str, Any]) -> None:
        """The canary is over, and so is whatever the move was to wait for."""
        for other in self.programme["moves"]:
            if other is not move and (self.after.get(move["instance"]) == other["instance"] or (other["canary"] and not move["canary"])):
                assert self.states.get(other["uuid"]) in progress.OVER, f"{move['instance']} has not waited for {other['instance']}"


class Restore(Run):
    """The way home of all that came from the first of the hosts that were drained."""

    def _plan(self) -> Any:
        for name in self.drained:
            self.world.maintenance.pop(name, None)
        for guest in self.world.guests.values():
            guest.moves = 0
        return {"fits": True, **self.world.made().restore(self.drained[0], server_groups=self.world.groups)}
