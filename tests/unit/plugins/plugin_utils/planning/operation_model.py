# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A move between two hosts as the steps of which each one is atomic, and all the states that they can lead to.

The model has two hosts, the run that moves, a second run that recovers, confirms or reverts, and faults at any point: a controller dies, a
module is killed, a host cannot be reached any more (what runs there goes on). Leases are taken to have expired whenever that is worst. Or a host
is lost: it goes down, a person names it as gone for good, and it comes back whenever that is worst, with its guests off; but not in the seconds
in which a run acts without it, after that run has made sure once more that it is away. What the modules do is written here as the steps of
which each one is atomic; what is decided comes from the code itself, and so do the transitions of the journal.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from ansible_collections.kvmfleet.compute.plugins.module_utils._incoming import UNCOPIED
from ansible_collections.kvmfleet.compute.plugins.module_utils._journal import CLOSED, TRANSITIONS
from ansible_collections.kvmfleet.compute.plugins.modules import destination_copy, source_copy
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.planning.recovery import decide
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.planning.refusal import Refusal

HOSTS = {"source": "kvm1", "destination": "kvm2"}
OTHER = {"source": "destination", "destination": "source"}
MOVE = (("source", "begin"), ("destination", "claim"), ("source", "seal"), ("destination", "receive"), ("source", "finish"))
PRECOPY = (*MOVE[:2], ("source", "freeze"), ("destination", "copy_ahead"), *MOVE[2:])
ACTIONS = {  # roles/migrate/tasks/apply_*.yml: role, operation, and the record that must be open for it
    "back": (("destination", "withdraw", "destination"), ("source", "restore", None)),
    "forward": (("destination", "go_on", None), ("source", "finish", "source")),
    "confirm": (("destination", "prove", None), ("source", "discard", "source"), ("destination", "confirm", None)),
    "revert": (("destination", "undefine", "destination"), ("source", "restore", "source"), ("destination", "withdraw", "destination")),
    "discard": (("destination", "withdraw", None),),
    "none": (),
    "wait": (),
    "release": (),
}
DONE, FAILED = "done", "failed"
STATES = {  # operation -> module and the state that it is asked for
    "freeze": (source_copy, "frozen"), "copy_ahead": (destination_copy, "precopied"),
    "seal": (source_copy, "sealed"), "finish": (source_copy, "finished"), "restore": (source_copy, "restored"), "discard": (source_copy, "absent"),
    "receive": (destination_copy, "started"), "go_on": (destination_copy, "started"), "prove": (destination_copy, "proven"),
    "confirm": (destination_copy, "confirmed"), "undefine": (destination_copy, "undefined"), "withdraw": (destination_copy, "absent"),
}  # fmt: skip
NOTHING_TO_DO = {name: module._DONE[state] for name, (module, state) in STATES.items()}


class Record(NamedTuple):
    """`forced`: brought to an end without the other host; `released`: which has been seen without anything of it since.

    `restarted`: its own host was, since its owner acted on it.
    """

    status: str
    step: str
    owner: str
    forced: bool = False
    released: bool = False
    restarted: bool = False
    withdrawing: bool = False


class Host(NamedTuple):
    """`files`: own, sealed or gone at the source; none, ahead (all but the last layer), part or whole at the destination.

    `layer`: whether the guest wrote to a layer over its files last, and whether that has been merged since: none, there or merged.
    """

    record: Record | None = None
    defined: bool = False
    files: str = "none"
    running: bool = False
    layer: str = "none"

    def to(self, status: str, step: str | None = None, **changes: Any) -> Host:
        assert status in TRANSITIONS[self.record.status], f"{self.record} cannot become {status}"
        return self._replace(record=self.record._replace(status=status, step=step or status), **changes)

    @property
    def open(self) -> bool:
        return self.record is not None and self.record.status not in CLOSED

    @property
    def startable(self) -> bool:
        return self.defined and self.files in ("own", "whole")


class Run(NamedTuple):
    """A controller: the calls that it has still to make, whether it waits for one, the hosts that it cannot reach, and the one it was told is lost."""

    name: str
    verb: str
    calls: tuple[tuple[str, str], ...]
    phase: str
    waiting: bool = False
    cut: frozenset[str] = frozenset()
    lost: str = ""


class World(NamedTuple):
    """`to_lose`: the host that may still be lost; `lost`: the one that was; `away`: whether it has not come back yet."""

    source: Host
    destination: Host
    runs: tuple[Run, ...]
    working: tuple[tuple[str, str, str], ...] = ()  # role, operation and owner of the modules that run
    was_running: bool = True
    faults: int = 0
    to_come: tuple[str, ...] = ()
    to_lose: str = ""
    lost: str = ""
    away: bool = False

    def host(self, role: str, host: Host) -> World:
        return self._replace(**{role: host})


Step = Callable[[World], "World | str"]


def begin(world: World) -> World | str:
    record = Record("pre-migrating", "begun", "mover")
    return DONE if world.source.record else world.host("source", world.source._replace(record=record))


def claim(world: World) -> World | str:
    record = Record("pre-migrating", "admitted", "mover")
    return DONE if world.destination.record else world.host("destination", world.destination._replace(record=record))


def freeze(world: World) -> World | str:
    host = world.source
    if not host.running:
        return FAILED
    return world.host("source", host.to("pre-migrating", "precopying")) if host.record.step == "begun" else layered(world)


def layered(world: World) -> World | str:
    return DONE if world.source.layer == "there" else world.host("source", world.source._replace(layer="there"))


def copy_ahead(world: World) -> World | str:
    host = world.destination
    if host.record.step == "admitted":
        return world.host("destination", host.to("pre-migrating", "precopying"))
    if not (world.source.open and world.source.record.step == "precopying"):
        return FAILED
    return DONE if host.files == "ahead" else world.host("destination", host._replace(files="ahead"))


def seal(world: World) -> World | str:
    host, step = world.source, world.source.record.step
    after = {
        "begun": lambda: host.to("migrating", "stopping"),
        "precopying": lambda: host.to("migrating", "stopping"),
        "stopping": lambda: host._replace(running=False) if host.running else host.to("migrating", "stopped"),
        "stopped": lambda: host.to("migrating", "sealing"),
        "sealing": lambda: (
            host._replace(defined=False) if host.defined else host._replace(files="sealed") if host.files == "own" else host.to("migrating", "sealed")
        ),
    }
    return world.host("source", after[step]()) if step in after else DONE


def channel_is_open(source: Host) -> bool:
    """To restore a copy is to close its channel first; what goes back with its destination has that withdrawn before."""
    return source.open and source.record.step == "sealed" and not source.record.forced


def receive(world: World) -> World | str:
    host, step = world.destination, world.destination.record.step
    if step == "receiving" and host.files in ("none", "ahead") and not channel_is_open(world.source):
        return FAILED
    after = {
        "admitted": lambda: host.to("migrating", "receiving"),
        "precopying": lambda: host.to("migrating", "receiving"),
        "receiving": lambda: host._replace(files="part") if host.files in ("none", "ahead") else host.to("migrating", "publishing"),
        "publishing": lambda: host._replace(files="whole") if host.files == "part" else host.to("migrating", "defining"),
        "defining": lambda: host.to("post-migrating", "defined") if host.defined else host._replace(defined=True),
        "defined": lambda: host._replace(running=True) if world.was_running and not host.running else host.to("finished"),
    }
    return world.host("destination", after[step]()) if step in after else DONE


def go_on(world: World) -> World | str:
    return FAILED if world.destination.record.step in UNCOPIED else receive(world)


def finish(world: World) -> World | str:
    return DONE if world.source.record.status == "finished" else world.host("source", world.source.to("finished"))


def restore(world: World) -> World | str:
    host, status = world.source, world.source.record.status
    if status in CLOSED:
        return DONE
    if status == "finished":
        return world.host("source", host.to("reverting"))
    if host.files == "sealed":
        return world.host("source", host._replace(files="own"))
    if host.layer != "none":
        return world.host("source", host._replace(layer="merged" if host.layer == "there" else "none"))
    if not host.defined:
        return world.host("source", host._replace(defined=True))
    if world.was_running and not host.running and host.record.step not in ("begun", "precopying"):
        return world.host("source", host._replace(running=True))
    return world.host("source", host.to("reverted" if status == "reverting" else "error"))


def discard(world: World) -> World | str:
    host, status = world.source, world.source.record.status
    if status == "confirmed":
        return DONE
    if host.record.step == "sealed":
        return world.host("source", host.to("finished"))
    if status != "confirming":
        return world.host("source", host.to("confirming"))
    return world.host("source", host._replace(files="gone", layer="none") if host.files != "gone" else host.to("confirmed"))


def prove(world: World) -> World | str:
    host = world.destination
    if host.record.status in ("confirming", "confirmed"):
        return DONE
    return world.host("destination", host.to("confirming")) if host.startable and host.running in (world.was_running, True) else FAILED


def confirm(world: World) -> World | str:
    host, status = world.destination, world.destination.record.status
    return DONE if status == "confirmed" else world.host("destination", host.to("confirming" if status == "finished" else "confirmed"))


def undefine(world: World) -> World | str:
    host, status = world.destination, world.destination.record.status
    if status in ("finished", "confirming"):
        return world.host("destination", host.to("reverting"))
    if status != "reverting" and not host.record.withdrawing:
        return world.host("destination", host._replace(record=host.record._replace(withdrawing=True)))
    if host.running:
        return world.host("destination", host._replace(running=False))
    return world.host("destination", host._replace(defined=False)) if host.defined else DONE


def withdraw(world: World) -> World | str:
    if world.destination.record.status in CLOSED:
        return DONE
    undefined = undefine(world)
    if undefined != DONE:
        return undefined
    host = world.destination
    if host.files != "none":
        return world.host("destination", host._replace(files="none"))
    return world.host("destination", host.to("reverted" if host.record.status == "reverting" else "error"))


def release(world: World, role: str) -> World | str:
    host: Host = getattr(world, role)
    return DONE if not still_needed(host) else world.host(role, host._replace(record=host.record._replace(released=True)))


STEPS: dict[str, Step] = {
    step.__name__: step for step in (begin, claim, freeze, copy_ahead, seal, receive, go_on, finish, restore, discard, prove, confirm, undefine, withdraw)
}


def decision(world: World, verb: str, cut: frozenset[str], lost: str = "") -> dict[str, Any] | None:
    """What the code decides, given what a controller can see; None where there is nothing open or it refuses."""
    hosts = []
    if lost and not world.away:
        return None  # lost_host.yml: it answers the other host
    for role, name in HOSTS.items():
        host: Host = getattr(world, role)
        if role in cut or (world.away and role == world.lost):
            hosts.append({"host": name, "up": False, "down_reason": "no route to host"})
            continue
        taken = role == "destination" or (host.record is not None and host.record.step != "begun")
        record = host.record and {
            "uuid": "m", "instance_uuid": "i", "instance_name": "web1", "migration_type": "migration", "role": role, "status": host.record.status,
            "step": host.record.step, "source_host": "kvm1", "destination_host": "kvm2" if taken else None, "was_running": world.was_running,
            "old_flavor": {}, "new_flavor": {}, "updated_at": 0.0, "forced": {"lost_host": HOSTS[OTHER[role]]} if host.record.forced else None,
            "withdrawing": host.record.withdrawing,
        }  # fmt: skip
        domain = {"name": "web1", "uuid": "i", "state": "running" if host.running else "shutoff"}
        records = {"migrations": [record] if host.open else [], "forced_migrations": [record] if still_needed(host) else []}
        hosts.append({"host": name, "up": True, "domains": [domain] if host.defined else [], **records})
    try:
        return next(iter(decide(hosts, verb, migration_uuid="m", lost_host=HOSTS.get(lost))), None)
    except Refusal:
        return None


def still_needed(host: Host) -> bool:
    return host.record is not None and not host.open and host.record.forced and not host.record.released


def calls_of(chosen: dict[str, Any] | None) -> tuple[tuple[str, str], ...]:
    if chosen is None:
        return ()
    calls = tuple((role, name) for role, name, needs in ACTIONS[chosen["action"]] if needs is None or chosen[f"{needs}_open"])
    survivor = next((role for role, name in HOSTS.items() if name == chosen["survivor"]), None)
    return (*calls, (survivor, "release")) if survivor and chosen["action"] not in ("none", "wait") else calls


def take_overs(chosen: dict[str, Any] | None) -> tuple[tuple[str, str], ...]:
    if chosen is None or chosen["action"] in ("none", "wait"):
        return ()
    return tuple((role, "take_over") for role in ("destination", "source") if chosen[f"{role}_open"])


def with_run(world: World, old: Run, new: Run | None) -> World:
    return world._replace(runs=tuple(run for run in (new if each == old else each for each in world.runs) if run))


def answered(world: World, run: Run, ok: bool) -> World:
    """A controller learns how its first call ended; a failed move decides what to undo, a failed recovery ends."""
    if ok:
        return with_run(world, run, run._replace(calls=run.calls[1:], waiting=False))
    if run.phase == "move":
        return with_run(world, run, run._replace(phase="undo", calls=(), waiting=False))
    return with_run(world, run, None)


def next_of_run(world: World, run: Run) -> World | None:
    """A controller makes its next call, or decides."""
    if run.waiting:
        return None
    if not run.calls:
        if run.phase == "undo":
            return with_run(world, run, run._replace(phase="act", calls=calls_of(decision(world, "recover", run.cut))))
        if run.phase == "look":
            return with_run(world, run, run._replace(phase="look again", calls=take_overs(decision(world, run.verb, run.cut, run.lost))))
        if run.phase == "look again":
            return with_run(world, run, run._replace(phase="act", calls=calls_of(decision(world, run.verb, run.cut, run.lost))))
        return with_run(world, run, None)
    role, name = run.calls[0]
    if role in run.cut or (world.away and role == world.lost):
        return answered(world, run, False)
    if any(where == role for where, _name, _owner in world.working):
        return None  # the lock of the operation on that host
    host: Host = getattr(world, role)
    if name == "take_over":
        if host.open:
            world = world.host(role, host._replace(record=host.record._replace(owner=run.name, restarted=False)))
        return answered(world, run, True)
    if name not in ("begin", "claim", "release"):
        if host.record is not None and host.record.status in NOTHING_TO_DO[name]:
            return answered(world, run, True)
        if host.record is None or host.record.owner != run.name:
            return answered(world, run, False)
        if name in ("receive", "go_on") and host.record.restarted:
            return answered(world, run, False)
        if run.lost:
            world = world.host(role, host._replace(record=host.record._replace(forced=True)))
    return with_run(world, run, run._replace(waiting=True))._replace(working=(*world.working, (role, name, run.name)))


def successors(world: World) -> Iterator[World]:
    for run in world.runs:
        moved = next_of_run(world, run)
        if moved is not None:
            yield moved
    for job in world.working:
        role, name, owner = job
        rest = world._replace(working=tuple(other for other in world.working if other != job))
        waiting = next((run for run in world.runs if run.name == owner and run.waiting and run.calls[0] == (role, name)), None)
        after = release(world, role) if name == "release" else STEPS[name](world)
        if isinstance(after, World):
            yield after
        else:
            yield answered(rest, waiting, after == DONE) if waiting else rest
        if world.faults:
            killed = rest._replace(faults=world.faults - 1)
            yield answered(killed, waiting, False) if waiting else killed
    if world.faults:
        for run in world.runs:
            yield with_run(world, run, None)._replace(faults=world.faults - 1)
            for role in HOSTS:
                if role not in run.cut:
                    cut = run._replace(cut=run.cut | {role})
                    lost = with_run(world, run, cut)._replace(faults=world.faults - 1)
                    yield answered(lost, cut, False) if run.waiting and run.calls[0][0] == role else lost
    for verb in world.to_come if not world.to_lose else ():
        yield world._replace(to_come=(), runs=(*world.runs, Run("second", verb, (), "look", lost=world.lost)))
    if world.to_lose:
        yield without_host(world, world.to_lose)
    if world.away and not any(run.lost and run.phase == "act" for run in world.runs):
        yield world._replace(away=False)


def without_host(world: World, role: str) -> World:
    """It goes down, with all that runs there; whoever waits for it learns that it is gone."""
    host: Host = getattr(world, role)
    record = host.record and host.record._replace(restarted=True)
    world = world.host(role, host._replace(running=False, record=record))._replace(to_lose="", lost=role, away=True)
    for run in world.runs:
        if run.waiting and run.calls[0][0] == role:
            world = answered(world, run, False)
    return world._replace(working=tuple(job for job in world.working if job[0] != role))


def check(world: World) -> None:
    """Invariants of every state."""
    source, destination = world.source, world.destination
    went_back_without_it = world.lost == "destination" and source.record is not None and source.record.forced
    assert not (source.startable and destination.startable) or went_back_without_it, "both hosts could start the guest"
    assert not (source.running and destination.running), "the guest runs twice"
    assert source.files in ("own", "sealed") or destination.files == "whole", "the data is gone"
    assert source.files != "gone" or destination.startable, "the source copy was removed, and the destination has no guest"
    if not world.runs and not world.working:
        if world.away:
            check_what_is_left(world)
        check_recovery(world._replace(away=False))


def recovered(world: World, lost: str = "") -> World:
    """Nobody else acts any more, and a person runs recover; no host comes or goes meanwhile."""
    away = world.away
    world = world._replace(faults=0, to_come=(), to_lose="", runs=(Run("third", "recover", (), "look", lost=lost),))
    while world.runs or world.working:
        (world,) = (after for after in successors(world) if after.away == away)
    return world


def check_what_is_left(world: World) -> None:
    """A host is gone and named as lost: whatever the other one has of the guest is used, or is left for a person to decide about."""
    world = recovered(world, lost=world.lost)
    left = world.destination if world.lost == "source" else world.source
    complete = left.files == "whole" and left.record.step not in ("receiving", "publishing") if world.lost == "source" else left.files != "gone"
    chosen = decision(world, "recover", frozenset(), world.lost)
    if left.open:
        assert left.record.status == "finished" or chosen["action"] == "wait", "an operation was left open"
    elif complete and not still_needed(left):
        assert left.startable, "the guest is not where it could be"


def check_recovery(world: World) -> None:
    """Nobody acts any more: one recovery that reaches both hosts brings it to an end, and a second one finds nothing to do."""
    went_back_without_it = still_needed(world.source)
    world = recovered(world)
    left = decision(world, "recover", frozenset())
    assert left is None or left["action"] == "none", left
    assert not (world.source.startable and world.destination.startable), "both hosts could start the guest"
    assert not went_back_without_it or world.source.startable, "the host that came back was not the one to give way"
    holder = world.destination if world.destination.startable else world.source
    assert holder.startable, "no host could start the guest"
    assert holder.running == world.was_running or world.lost, "it does not run where it ran before"
    assert source_has_no_layer(world), "a layer was left on the disks that the guest runs on"
    for host in (world.source, world.destination):
        assert not host.open or host.record.status == "finished", "an operation was left open"
    if not world.destination.open and not world.destination.startable:
        assert world.destination.files == "none", "leftovers at the destination"


def source_has_no_layer(world: World) -> bool:
    return world.source.layer == "none" or world.source.files == "sealed"


def explore(start: World) -> set[World]:
    """All states that can be reached; each one is checked."""
    seen, to_see = {start}, [start]
    while to_see:
        world = to_see.pop()
        try:
            check(world)
        except AssertionError as exc:
            raise AssertionError(f"{exc}\nin {world}") from exc
        for after in successors(world):
            if after not in seen:
                seen.add(after)
                to_see.append(after)
    return seen


def world_before(was_running: bool, verb: str, faults: int, calls: tuple[tuple[str, str], ...] = MOVE) -> World:
    source = Host(defined=True, files="own", running=was_running)
    return World(source, Host(), (Run("mover", "move", calls, "move"),), was_running=was_running, faults=faults, to_come=(verb,))
