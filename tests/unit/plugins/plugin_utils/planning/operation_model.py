# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A move between two hosts as the steps of which each one is atomic, and all the states that they can lead to.

The model has two hosts, the run that moves, a second run that recovers, confirms or reverts, and faults at any point: a controller dies, a
module is killed, a host cannot be reached any more (what runs there goes on). Leases are taken to have expired whenever that is worst. Or a host
is lost: it goes down, a person names it as gone for good, and it comes back whenever that is worst, with its guests off; but not in the seconds
in which a run acts without it, after that run has made sure once more that it is away. What the modules do is written here as the steps of
which each one is atomic; what is decided comes from the code itself, and so do the transitions of the journal.

The guest and other people act too, at any point, if the world is told how often (`acts`): it goes off, it gets stuck (paused, crashed, suspended), somebody
starts it, or removes its agent. While they may, a guest that runs at the destination may or may not write. A guest that is asked to shut down does so at once,
or at any later moment (`slow`), however late that is.

A module whose run is gone notices that, and ends where it is, or first takes back what nobody but its host can have to do with (`BY_ITSELF`).

Others also lay hands on the files of the guest (`hands`, see `operation_hands`), or the libvirt of a host stands still (`hung`): whoever asks it is told
that it is down after a while, and what a module does there meanwhile goes on when the host does, or is ended with the module.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from ansible_collections.kvmfleet.compute.plugins.module_utils._journal.records import CLOSED, TRANSITIONS
from ansible_collections.kvmfleet.compute.plugins.module_utils._rules.errors import KvmfleetError
from ansible_collections.kvmfleet.compute.plugins.module_utils._storage.incoming import UNCOPIED
from ansible_collections.kvmfleet.compute.plugins.modules import destination_copy, source_copy
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.planning.recovery import decide
from ansible_collections.kvmfleet.compute.tests.unit.plugins.plugin_utils.planning.operation_hands import (
    CLONE,
    FILES,
    HANG,
    LAYER,
    Use,
    is_changed,
    is_lost,
    keeps,
)

HOSTS = {"source": "kvm1", "destination": "kvm2"}
OTHER = {"source": "destination", "destination": "source"}
MOVE = (("source", "begin"), ("destination", "claim"), ("source", "seal"), ("destination", "receive"), ("source", "finish"))
PRECOPY = (*MOVE[:2], ("source", "freeze"), ("destination", "copy_ahead"), *MOVE[2:])
ACTIONS = {  # roles/settle/tasks/apply/*.yml: role, operation, and the record that must be open for it
    "back": (("destination", "withdraw", "destination"), ("source", "restore", None)),
    "forward": (("destination", "go_on", None), ("source", "finish", "source")),
    "confirm": (("destination", "prove", None), ("source", "discard", "source"), ("destination", "confirm", None)),
    "revert": (
        ("source", "ask", "source"),
        ("destination", "undefine", "destination"),
        ("source", "restore", "source"),
        ("destination", "withdraw", "destination"),
    ),
    "discard": (("destination", "withdraw", None),),
    "none": (),
    "wait": (),
    "release": (),
}
DONE, FAILED = "done", "failed"
BY_ITSELF = {"seal": "restore"}  # what a module does whose run went before it could answer
STATES = {  # operation -> module and the state that it is asked for
    "freeze": (source_copy, "frozen"), "copy_ahead": (destination_copy, "precopied"),
    "seal": (source_copy, "sealed"), "finish": (source_copy, "finished"), "restore": (source_copy, "restored"), "discard": (source_copy, "absent"),
    "receive": (destination_copy, "started"), "go_on": (destination_copy, "started"), "prove": (destination_copy, "proven"),
    "confirm": (destination_copy, "confirmed"), "undefine": (destination_copy, "undefined"), "withdraw": (destination_copy, "absent"),
    "drop": (destination_copy, "absent"), "ask": (source_copy, "restorable"),
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
    """`files`: own, sealed or gone at the source; none, ahead (all but the last layer), part or whole at the destination,
    or left, since others use them.

    `layer`: whether the guest wrote to a layer over its files last, and whether that has been merged since: none, there or merged.
    `stuck`: QEMU is there, but the guest does not run; `asked`: it was asked to shut down, and nothing starts it when it does.
    `wrote`: the guest has written to the copy at the destination; `shut`: somebody has shut it down after it was started there.
    `use`: what somebody has made of a disk of the guest; `harm`: what he has lost.
    """

    record: Record | None = None
    defined: bool = False
    files: str = "none"
    running: bool = False
    layer: str = "none"
    stuck: bool = False
    asked: bool = False
    wrote: bool = False
    shut: bool = False
    use: Use | None = None
    harm: str = ""

    def to(self, status: str, step: str | None = None, **changes: Any) -> Host:
        assert status in TRANSITIONS[self.record.status], f"{self.record} cannot become {status}"
        withdrawing = self.record.withdrawing and step != "started"
        return self._replace(record=self.record._replace(status=status, step=step or status, withdrawing=withdrawing), **changes)

    @property
    def open(self) -> bool:
        return self.record is not None and self.record.status not in CLOSED

    @property
    def has_run(self) -> bool:
        """What `_storage.run_evidence` finds out about a copy that is complete: the journal says so, QEMU is there, or a file was written to."""
        complete = self.record.status == "post-migrating" or self.record.step == "defining"
        return complete and (self.defined or not self.record.withdrawing) and (self.record.step == "started" or self.running or self.wrote)

    def without(self, on: str, *, discarded: bool = False, **changes: Any) -> Host:
        """A file goes, or gets another name."""
        return self._replace(**changes, harm=f"{self.use} on {on}" if is_lost(self.use, on, discarded=discarded) else self.harm)

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
    """`to_lose`: the host that may still be lost; `lost`: the one that was; `away`: whether it has not come back yet.

    `acts`: how often the guest and other people may still act; `acted`: whether they have; `without_agent`: a confirm does not ask for the agent.
    `hands`: what others may still do to the files of the guest, or `hang`; `hung`: the host whose libvirt stands still.
    """

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
    slow: bool = False
    acts: int = 0
    acted: bool = False
    agent_gone: bool = False
    without_agent: bool = False
    hands: tuple[str, ...] = ()
    hung: str = ""

    @property
    def meddled(self) -> bool:
        return self.acts > 0 or self.acted

    def host(self, role: str, host: Host) -> World:
        return self._replace(**{role: host})


Step = Callable[[World], "World | tuple[World, str] | str"]


def begin(world: World) -> World | str:
    record = Record("pre-migrating", "begun", "mover")
    return DONE if world.source.record else world.host("source", world.source._replace(record=record))


def claim(world: World) -> World | str:
    record = Record("pre-migrating", "admitted", "mover")
    return DONE if world.destination.record else world.host("destination", world.destination._replace(record=record))


def freeze(world: World) -> World | str:
    host = world.source
    if not host.running or is_changed(host.use):
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


def seal(world: World) -> World | tuple[World, str] | str:
    host, step = world.source, world.source.record.step
    if step in ("stopped", "sealing") and host.running:
        return FAILED
    if step in ("begun", "precopying", "stopped") and (is_changed(host.use) or any(keeps(host.use, on) for on in (LAYER, FILES))):
        return FAILED
    if step == "sealing" and (host.defined and is_changed(host.use) or host.files == "own" and keeps(host.use, FILES)):
        return FAILED
    if step == "stopping" and host.running and world.slow:
        return timed_out(world) if host.asked else world.host("source", host._replace(asked=True))
    after = {
        "begun": lambda: host.to("migrating", "stopping"),
        "precopying": lambda: host.to("migrating", "stopping"),
        "stopping": lambda: host._replace(running=False) if host.running else host.to("migrating", "stopped"),
        "stopped": lambda: host.to("migrating", "sealing"),
        "sealing": lambda: (
            host._replace(defined=False) if host.defined else host.without(FILES, files="sealed") if host.files == "own" else host.to("migrating", "sealed")
        ),
    }
    return world.host("source", after[step]()) if step in after else DONE


def timed_out(world: World) -> tuple[World, str]:
    return world.host("source", neutralised(world.source)), FAILED


def neutralised(host: Host) -> Host:
    """Libvirt restarts it when it goes off at last."""
    return host._replace(asked=False)


def channel_is_open(source: Host) -> bool:
    """To restore a copy is to close its channel first; what goes back with its destination has that withdrawn before."""
    return source.open and source.record.step == "sealed" and not source.record.forced


def receive(world: World) -> World | tuple[World, str] | str:
    host, step = world.destination, world.destination.record.step
    if step == "started" and (not host.running or host.stuck):
        unwritten = not host.running and not host.wrote
        return (world.host("destination", host.to("post-migrating", "defined")), FAILED) if unwritten else FAILED
    return arrive(world)


def arrive(world: World) -> World | str:
    host, step = world.destination, world.destination.record.step
    if step == "receiving" and host.files in ("none", "ahead") and not channel_is_open(world.source):
        return FAILED
    after = {
        "admitted": lambda: host.to("migrating", "receiving"),
        "precopying": lambda: host.to("migrating", "receiving"),
        "receiving": lambda: host._replace(files="part") if host.files in ("none", "ahead") else host.to("migrating", "publishing"),
        "publishing": lambda: host._replace(files="whole") if host.files == "part" else host.to("migrating", "defining"),
        "defining": lambda: host.to("post-migrating", "defined") if host.defined else host._replace(defined=True),
        "defined": lambda: host.to("post-migrating", "started" if host.has_run else "starting") if world.was_running else host.to("finished"),
        "starting": lambda: host.to("post-migrating", "started") if host.has_run else host._replace(running=True, wrote=not world.meddled),
        "started": lambda: host.to("finished"),
    }
    return world.host("destination", after[step]()) if step in after else DONE


def go_on(world: World) -> World | str:
    return FAILED if world.destination.record.step in UNCOPIED else arrive(world)


def finish(world: World) -> World | str:
    return DONE if world.source.record.status == "finished" else world.host("source", world.source.to("finished"))


def restore(world: World) -> World | str:
    host, status = world.source, world.source.record.status
    if status in CLOSED:
        return DONE
    if status == "finished":
        return world.host("source", host.to("reverting"))
    if host.record.step == "stopping" and host.running and neutralised(host) != host:
        return world.host("source", neutralised(host))
    if host.files == "sealed":
        return FAILED if keeps(host.use, FILES) else world.host("source", host.without(FILES, files="own"))
    if host.layer != "none":
        if keeps(host.use, LAYER):
            return FAILED
        return world.host("source", host._replace(layer="merged") if host.layer == "there" else host.without(LAYER, layer="none"))
    if not host.defined:
        return world.host("source", host._replace(defined=True))
    if world.was_running and not host.running and host.record.step not in ("begun", "precopying"):
        return world.host("source", host._replace(running=True))
    return world.host("source", host.to("reverted" if status == "reverting" else "error"))


def ask(world: World) -> str:
    """Whether the sealed copy can come back; it may have been brought back already."""
    return DONE if world.source.files in ("sealed", "own") else FAILED


def discard(world: World) -> World | str:
    host, status = world.source, world.source.record.status
    if status == "confirmed":
        return DONE
    if host.record.step == "sealed":
        return world.host("source", host.to("finished"))
    if host.files != "gone" and (keeps(host.use, FILES) or keeps(host.use, LAYER)):
        return FAILED
    if status != "confirming":
        return world.host("source", host.to("confirming"))
    return world.host("source", host.without(FILES, files="gone", layer="none") if host.files != "gone" else host.to("confirmed"))


def prove(world: World) -> World | str:
    host = world.destination
    if host.record.status in ("confirming", "confirmed"):
        return DONE
    runs = host.running and not host.stuck and (world.without_agent or not world.agent_gone)
    return world.host("destination", host.to("confirming")) if host.startable and (runs or not world.was_running) else FAILED


def confirm(world: World) -> World | str:
    host, status = world.destination, world.destination.record.status
    return DONE if status == "confirmed" else world.host("destination", host.to("confirming" if status == "finished" else "confirmed"))


def undefine(world: World, discard_started: bool = False) -> World | tuple[World, str] | str:
    host, status = world.destination, world.destination.record.status
    if status in ("finished", "confirming"):
        return FAILED if keeps(host.use, FILES) else world.host("destination", host.to("reverting"))
    if status != "reverting" and host.has_run and not discard_started:
        return FAILED
    if status != "reverting" and not host.record.withdrawing:
        return world.host("destination", host._replace(record=host.record._replace(withdrawing=True)))
    if status != "reverting" and not discard_started and host.defined and (host.running or host.wrote):
        return world.host("destination", host._replace(record=host.record._replace(withdrawing=False))), FAILED
    if host.running:
        return world.host("destination", host._replace(running=False, stuck=False))
    return world.host("destination", host._replace(defined=False)) if host.defined else DONE


def withdraw(world: World, discard_started: bool = False) -> World | tuple[World, str] | str:
    if world.destination.record.status in CLOSED:
        return DONE
    if has_finished(world.destination) and not discard_started:
        return FAILED
    undefined = undefine(world, discard_started)
    if undefined != DONE:
        return undefined
    host = world.destination
    if host.files not in ("none", "left"):
        if keeps(host.use, FILES):
            return FAILED if host.record.status == "reverting" else world.host("destination", host._replace(files="left"))
        return world.host("destination", host.without(FILES, discarded=True, files="none"))
    return world.host("destination", host.to("reverted" if host.record.status == "reverting" else "error"))


def has_finished(host: Host) -> bool:
    """A module may go on when its controller has given it up; what it has finished since, only a revert takes back."""
    return host.record.status in ("finished", "confirming")


def drop(world: World) -> World | tuple[World, str] | str:
    """Withdraw a copy that a person has given up, with its host."""
    return withdraw(world, discard_started=True)


def release(world: World, role: str) -> World | str:
    host: Host = getattr(world, role)
    return DONE if not still_needed(host) else world.host(role, host._replace(record=host.record._replace(released=True)))


STEPS: dict[str, Step] = {
    step.__name__: step
    for step in (begin, claim, freeze, copy_ahead, seal, receive, go_on, finish, restore, ask, discard, prove, confirm, undefine, withdraw, drop)
}


def decision(world: World, verb: str, cut: frozenset[str], lost: str = "") -> dict[str, Any] | None:
    """What the code decides, given what a controller can see; None where there is nothing open or it refuses."""
    hosts = []
    if lost and not world.away:
        return None  # lost_host.yml: it answers the other host
    for role, name in HOSTS.items():
        host: Host = getattr(world, role)
        if role in cut or role == world.hung or (world.away and role == world.lost):
            hosts.append({"host": name, "up": False, "down_reason": "no route to host"})
            continue
        taken = role == "destination" or (host.record is not None and host.record.step != "begun")
        record = host.record and {
            "uuid": "m", "instance_uuid": "i", "instance_name": "web1", "migration_type": "migration", "role": role, "status": host.record.status,
            "step": host.record.step, "source_host": "kvm1", "destination_host": "kvm2" if taken else None, "was_running": world.was_running,
            "old_flavor": {}, "new_flavor": {}, "updated_at": 0.0, "forced": {"lost_host": HOSTS[OTHER[role]]} if host.record.forced else None,
            "withdrawing": host.record.withdrawing,
        }  # fmt: skip
        if record and role == "destination":
            record["has_run"] = "it has run" if host.has_run else None
        domain = {"name": "web1", "uuid": "i", "state": "paused" if host.stuck else "running" if host.running else "shutoff"}
        records = {"migrations": [record] if host.open else [], "forced_migrations": [record] if still_needed(host) else []}
        hosts.append({"host": name, "up": True, "domains": [domain] if host.defined else [], **records})
    try:
        return next(iter(decide(hosts, verb, migration_uuid="m", lost_host=HOSTS.get(lost))), None)
    except KvmfleetError:
        return None


def still_needed(host: Host) -> bool:
    return host.record is not None and not host.open and host.record.forced and not host.record.released


def calls_of(chosen: dict[str, Any] | None) -> tuple[tuple[str, str], ...]:
    if chosen is None:
        return ()
    calls = tuple((role, name) for role, name, needs in ACTIONS[chosen["action"]] if needs is None or chosen[f"{needs}_open"])
    survivor = next((role for role, name in HOSTS.items() if name == chosen["survivor"]), None)
    if survivor and chosen["action"] in ("back", "discard"):
        calls = tuple((role, "drop" if name == "withdraw" else name) for role, name in calls)
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
    if role in run.cut or role == world.hung or (world.away and role == world.lost):
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
        if role == world.hung:
            yield answered(rest, waiting, False) if waiting else rest
            if waiting:
                yield answered(world, waiting, False)
            continue
        after = release(world, role) if name == "release" else STEPS[name](world)
        if isinstance(after, World):
            yield after
        else:
            left, answer = after if isinstance(after, tuple) else (world, after)
            left = left._replace(working=rest.working)
            yield answered(left, waiting, answer == DONE) if waiting else left
        if waiting is None:
            yield rest._replace(working=(*rest.working, (role, BY_ITSELF[name], owner))) if name in BY_ITSELF else rest
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
    yield from acts_of_others(world)


def acts_of_others(world: World) -> Iterator[World]:
    """What the guest and other people do."""
    if world.slow and world.source.asked:
        yield world.host("source", world.source._replace(running=False, stuck=False, asked=False))
    there = world.destination
    if world.meddled and there.running and not there.stuck and not there.wrote:
        yield world.host("destination", there._replace(wrote=True))
    yield from hands_of_others(world)
    if not world.acts:
        return
    after = world._replace(acts=world.acts - 1, acted=True)
    for role in HOSTS:
        host: Host = getattr(world, role)
        if host.running:
            arrived = role == "destination" and host.record.step in ("started", "finished", "confirming")
            yield after.host(role, host._replace(running=False, stuck=False, asked=False, shut=arrived))
            if not host.stuck:
                yield after.host(role, host._replace(stuck=True))
        elif host.startable:
            yield after.host(role, host._replace(running=True, shut=False))
    if not world.agent_gone:
        yield after._replace(agent_gone=True)


def hands_of_others(world: World) -> Iterator[World]:
    """What others make of the files of the guest, where it is defined or sealed; and a host that hangs, and goes on."""
    for hand in world.hands if world.source.open or world.destination.open else ():
        after = world._replace(hands=tuple(other for other in world.hands if other != hand))
        for role in HOSTS:
            host: Host = getattr(world, role)
            if hand == HANG:
                yield after._replace(hung=role)
            elif host.use is None and host.defined and host.files in ("own", "whole"):
                yield after.host(role, host._replace(use=Use(hand, LAYER if host.layer != "none" else FILES)))
            elif host.use is None and host.files == "sealed" and hand == CLONE:
                yield after.host(role, host._replace(use=Use(hand, FILES, sealed=True)))
    if world.hung:
        yield world._replace(hung="")


def taken_back(world: World) -> World:
    """Others undo what they did: a snapshot is merged, a disk attached again, a clone dropped."""
    return world._replace(hung="", hands=(), source=world.source._replace(use=None), destination=world.destination._replace(use=None))


def without_host(world: World, role: str) -> World:
    """It goes down, with all that runs there; whoever waits for it learns that it is gone."""
    host: Host = getattr(world, role)
    record = host.record and host.record._replace(restarted=True)
    world = world.host(role, host._replace(running=False, stuck=False, asked=False, record=record))._replace(to_lose="", lost=role, away=True)
    for run in world.runs:
        if run.waiting and run.calls[0][0] == role:
            world = answered(world, run, False)
    return world._replace(working=tuple(job for job in world.working if job[0] != role))


def check(world: World) -> None:
    """Invariants of every state, and how it ends when nobody acts any more."""
    invariants(world)
    if world.runs or world.working:
        return
    if world.away:
        check_what_is_left(world)
    world = world._replace(away=False)
    if world.hung or world.source.use or world.destination.use:
        # A recovery in spite of what others did ends it, or keeps it open until they have taken that back.
        tried = recovered(world)._replace(acted=world.acted)
        invariants(tried)
        check_recovery(taken_back(tried))
    check_recovery(taken_back(world))


def invariants(world: World) -> None:
    source, destination = world.source, world.destination
    went_back_without_it = world.lost == "destination" and source.record is not None and source.record.forced
    assert not (source.startable and destination.startable) or went_back_without_it, "both hosts could start the guest"
    assert not (source.running and destination.running), "the guest runs twice"
    assert source.files in ("own", "sealed") or destination.files == "whole", "the data is gone"
    assert source.files != "gone" or destination.startable, "the source copy was removed, and the destination has no guest"
    for host in (source, destination):
        assert not host.harm, f"somebody lost what is his: {host.harm}"
    if source.record is not None and source.record.status in ("error", "reverted"):
        assert (source.files, source.layer) == ("own", "none"), "it is said to be as before and is not"
    by_a_person = destination.record is not None and destination.record.status in ("reverting", "reverted") or world.lost == "destination"
    assert not destination.wrote or destination.files == "whole" or by_a_person, "what the guest wrote was discarded, and nobody has asked for that"
    assert not (destination.shut and destination.running), "a guest that somebody shut down was started again"


def recovered(world: World, lost: str = "") -> World:
    """Nobody else acts any more, and a person runs recover; no host comes or goes meanwhile."""
    away, hung = world.away, world.hung
    world = world._replace(hands=(), faults=0, to_come=(), to_lose="", slow=False, acts=0, acted=False, runs=(Run("third", "recover", (), "look", lost=lost),))
    while world.runs or world.working:
        (world,) = (after for after in successors(world) if (after.away, after.hung) == (away, hung))
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
    went_back_without_it, acted = still_needed(world.source), world.acted
    world = recovered(world)
    left = decision(world, "recover", frozenset())
    assert left is None or left["action"] == "none", left
    assert not (world.source.startable and world.destination.startable), "both hosts could start the guest"
    assert not went_back_without_it or world.source.startable, "the host that came back was not the one to give way"
    holder = world.destination if world.destination.startable else world.source
    assert holder.startable, "no host could start the guest"
    assert holder.running == world.was_running or world.lost or acted, "it does not run where it ran before"
    assert not holder.asked, "it may go off yet, and nobody starts it then"
    assert source_has_no_layer(world), "a layer was left on the disks that the guest runs on"
    for host in (world.source, world.destination):
        assert not host.open or host.record.status == "finished", "an operation was left open"
    if not world.destination.open and not world.destination.startable:
        assert world.destination.files in ("none", "left"), "leftovers at the destination"


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
