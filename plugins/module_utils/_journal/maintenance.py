# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a host remembers of its own maintenance: that it is drained, why, by whom, and what became of each of its guests.

The record is written before anything moves, under the lock of admissions: from then on no claim gets in, whatever facts its controller has. Any
controller can go on from it. What `_journal.records` notes of a move that is part of a drain is followed here, so that nobody has to tell the host twice.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypedDict, Union

from .._rules.errors import KvmfleetError
from .state_dir import StateDir

DRAINING, PAUSED, EVACUATED, EMPTY, RESTORING, IN_SERVICE = "draining", "paused", "evacuated", "empty", "restoring", "in_service"
NEXT: dict[str, frozenset[str]] = {
    DRAINING: frozenset({DRAINING, PAUSED, EVACUATED, RESTORING}),
    PAUSED: frozenset({DRAINING, PAUSED, RESTORING}),
    EVACUATED: frozenset({DRAINING, EVACUATED, EMPTY, RESTORING}),
    EMPTY: frozenset({DRAINING, EMPTY, RESTORING}),
    RESTORING: frozenset({DRAINING, RESTORING, IN_SERVICE}),
    IN_SERVICE: frozenset({DRAINING, RESTORING, IN_SERVICE}),
}
"""How one state follows another; that of a host without a record is IN_SERVICE."""
DRAIN, RESTORE = "drain", "restore"
"""What a move can be part of."""
_LOCK = "maintenance"
_HISTORY_LIMIT = 100
_TOLD = ("uuid", "state", "reason", "options", "left", "guests")
"""What a change is a change of; all else is when and by whom."""
_FOLLOWED = {"pre-migrating": "moving", "finished": "moved", "confirmed": "confirmed", "reverted": "undone", "error": "undone"}
"""Statuses of a move that are noted here, and as what; between them the guest is down, and nothing more is written than has to be."""


GuestEntry = TypedDict(
    "GuestEntry",
    {
        "instance": str,
        "class": str,  # move, stop or leave, as the plan has it
        "destination": Union[str, None],  # where it is to go: a promise, not a claim
        "order": int,
        "power_state": str,  # before anything was done
        "state": str,  # moving, moved, confirmed or undone
        "migration": str,  # UUID of its move
        "message": Union[str, None],
        "at": float,
    },
    total=False,
)
"""What is to become of a guest of the host, and what has."""


class Maintenance(TypedDict, total=False):
    """The record."""

    schema_version: int
    uuid: str
    """Of the drain; what is part of it bears it. A restore keeps it."""
    state: str
    reason: str
    by: dict[str, Any]
    """User and job of the run that acts."""
    owner: str
    """The run that acts."""
    lease: float
    """Seconds for which the owner need not be heard of."""
    lease_until: float
    since: float
    """When it was closed; unix seconds of this host's clock, as all times here."""
    updated_at: float
    options: dict[str, Any]
    left: list[str]
    """Guests that can start here though it is evacuated, each by somebody's word."""
    guests: dict[str, GuestEntry]
    """By UUID."""
    history: list[dict[str, Any]]
    """at, state, by, note; the last 100."""


def read(state: StateDir) -> dict[str, Any] | None:
    """The record of this host, that of a maintenance which has ended included."""
    return state.read("host", "maintenance")


def in_force(state: StateDir) -> dict[str, Any] | None:
    """The record of a host that is closed, else None."""
    kept = read(state)
    return None if kept is None or kept["state"] == IN_SERVICE else kept


def told(kept: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """The record for facts: who owns it is nobody else's business, and its history is for those who ask for it."""
    return None if kept is None else {**{key: value for key, value in kept.items() if key not in ("owner", "history", "schema_version")}, "by": _named(kept)}


def described(kept: Mapping[str, Any]) -> str:
    """Why the host is closed, in half a sentence."""
    return f"{kept['state']}{f' by {_named(kept)}' if _named(kept) else ''}: {kept['reason']}"


def refusal(state: StateDir, part: Mapping[str, Any] | None) -> str | None:
    """Why no guest may come to this host, or grow on it, None where it may. Called under the lock of admissions.

    :param part: `part_of` of the operation; what comes home by the restore of this host is let in.
    """
    kept = in_force(state)
    if kept is None or (kept["state"] == RESTORING and _is_part(part, RESTORE, kept)):
        return None
    return f"this host is {described(kept)}"


def require_part(state: StateDir, part: Mapping[str, Any] | None) -> None:
    """A move that is part of the drain of this host begins only as long as that is going on, and for the run that acts. Called under that lock too.

    :raises KvmfleetError: `drain_paused`, `not_drained`, `maintenance_alive`.
    """
    if part is None or part["kind"] != DRAIN:
        return
    kept = in_force(state)
    if kept is None or not _is_part(part, DRAIN, kept) or kept["state"] not in (DRAINING, PAUSED):
        now = "in service" if kept is None else described(kept)
        raise KvmfleetError("not_drained", f"The drain {part['uuid']} of this host does not go on: it is {now}. Nothing was begun.", have=now)
    if kept["state"] == PAUSED:
        raise KvmfleetError("drain_paused", "The drain of this host was paused, so nothing more is begun. The same drain again goes on.", have=PAUSED)
    if kept["owner"] != part["run"]:
        raise _alive(kept)


@dataclass(frozen=True)
class Wanted:
    """What the record is to become.

    :param uuid: of the drain where none is in force; else that of the record stays. :param owner: the run that acts from now on.
    :param options: of the drain, and :param guests: entries of guests by UUID, which are added to what is there; None leaves them, and `left`.
    :param release: the run ends: nobody has to wait for its lease.
    """

    state: str
    uuid: str
    owner: str
    lease: float = 60.0
    by: Mapping[str, Any] | None = None
    reason: str | None = None
    options: Mapping[str, Any] | None = None
    guests: Mapping[str, Any] | None = None
    left: Sequence[str] | None = None
    release: bool = False


def change(
    state: StateDir, wanted: Wanted, *, is_at_work: Callable[[str], bool] = lambda uuid: False, dry_run: bool = False
) -> tuple[dict[str, Any], dict[str, Any], bool]:
    """Bring the record into a state. Called under the lock of admissions.

    :param is_at_work: whether anything that is part of a drain (by its UUID) is at work on this host.
    :returns: the record before and after, and whether more than the lease has changed. With `dry_run` nothing is written.
    :raises KvmfleetError: `reason_missing`, `wrong_state`, `maintenance_alive`.
    """
    with contextlib.nullcontext() if dry_run else state.lock(_LOCK):
        before = read(state) or {"state": IN_SERVICE}
        if wanted.state not in NEXT[before["state"]]:
            raise KvmfleetError("wrong_state", f"This host is {before['state']}; it cannot become {wanted.state}.", have=before["state"], need=wanted.state)
        now = time.time()
        if wanted.state != PAUSED:
            _require_turn(before, wanted.owner, now, is_at_work)
        if wanted.state == before["state"] == IN_SERVICE:
            return before, before, False
        after = _after(before, wanted, now)
        changed = any(before.get(key) != after[key] for key in _TOLD)
        if changed:
            after = _noted(after, now, _who(wanted.by), None)
        if not dry_run:
            state.write("host", "maintenance", after)
        return before, after, changed


def _after(before: Mapping[str, Any], wanted: Wanted, now: float) -> dict[str, Any]:
    """The record as it is to be. One that has ended is where the next one begins, with nothing of it."""
    fresh = before["state"] == IN_SERVICE
    known: Mapping[str, Any] = {} if fresh else before
    reason = wanted.reason or known.get("reason")
    if wanted.state == DRAINING and not reason:
        raise KvmfleetError("reason_missing", "A host is not drained without a reason: say what for (reason), for those who find it closed.")
    guests = dict(known.get("guests") or {})
    guests.update({key: {**guests.get(key, {}), **entry} for key, entry in (wanted.guests or {}).items()})
    after = {
        **known,
        "uuid": known.get("uuid") or wanted.uuid,
        "state": wanted.state,
        "reason": reason or wanted.state,
        "options": known.get("options", {}) if wanted.options is None else dict(wanted.options),
        "left": known.get("left", []) if wanted.left is None else sorted(wanted.left),
        "guests": guests,
        "since": known.get("since", now),
        "updated_at": known.get("updated_at", now),
        "history": known.get("history", []),
    }
    if wanted.state != PAUSED:
        ends = wanted.release or wanted.state == IN_SERVICE
        after.update(by=_who(wanted.by), owner=wanted.owner, lease=wanted.lease, lease_until=now if ends else now + wanted.lease)
    return after


def await_turn(state: StateDir, owner: str) -> None:
    """Wait for the rest of the lease of another run that may have gone; one that is heard of meanwhile lives, and is not waited for any longer."""
    found = in_force(state)
    if found is None or found["state"] == PAUSED or found["owner"] == owner:
        return
    seen = found["lease_until"]
    limit = time.monotonic() + found["lease"]  # whatever has become of the clock meanwhile
    while found is not None and found["owner"] != owner and found["lease_until"] == seen > time.time() and time.monotonic() < limit:
        time.sleep(0.2)
        found = in_force(state)


def follow(state: StateDir, record: Mapping[str, Any]) -> None:
    """Note what has become of a guest whose move, here at its source, is part of the drain of this host; the run that moved it lives."""
    part = record.get("part_of")
    if part is None or part["kind"] != DRAIN or record["role"] != "source" or record["status"] not in _FOLLOWED:
        return
    # The journal of the move is what counts; this is for those who look.
    with contextlib.suppress(KvmfleetError), state.lock(_LOCK):
        found = in_force(state)
        if found is None or not _is_part(part, DRAIN, found):
            return
        now, guests = time.time(), dict(found["guests"])
        entry = {"state": _FOLLOWED[record["status"]], "migration": record["uuid"], "message": record.get("error"), "at": now}
        guests[record["instance_uuid"]] = {"instance": record["instance_name"], **guests.get(record["instance_uuid"], {}), **entry}
        lease_until = now + found["lease"] if found["owner"] == part["run"] else found["lease_until"]
        state.write("host", "maintenance", {**found, "guests": guests, "updated_at": now, "lease_until": lease_until})


def came_back(state: StateDir, record: Mapping[str, Any]) -> None:
    """A guest was brought back here, which is never refused; a host that was evacuated is so no longer."""
    with state.lock(_LOCK):
        found = in_force(state)
        if found is not None and found["state"] in (EVACUATED, EMPTY):
            note = f"{record['instance_name']} was brought back by its migration {record['uuid']}"
            state.write("host", "maintenance", _noted({**found, "state": DRAINING}, time.time(), found.get("by") or {}, note))


def _require_turn(before: Mapping[str, Any], owner: str, now: float, is_at_work: Callable[[str], bool]) -> None:
    if before["state"] in (IN_SERVICE, PAUSED) or before["owner"] == owner:
        return
    # A lease that lasts longer than it was given for was written before the clock was set back.
    if now < before["lease_until"] <= now + before["lease"] or is_at_work(before["uuid"]):
        raise _alive(before)


def _alive(kept: Mapping[str, Any]) -> KvmfleetError:
    return KvmfleetError(
        "maintenance_alive",
        f"Another run is at work: this host is {described(kept)}. Let it end, or pause it (drain with pause=true) and then go on from here.",
        by=kept.get("by") or {},
        state=kept["state"],
        maintenance_uuid=kept["uuid"],
    )


def _is_part(part: Mapping[str, Any] | None, kind: str, kept: Mapping[str, Any]) -> bool:
    return part is not None and (part["kind"], part["uuid"]) == (kind, kept["uuid"])


def _noted(kept: dict[str, Any], now: float, by: Mapping[str, Any], note: str | None) -> dict[str, Any]:
    entry = {"at": now, "state": kept["state"], "by": dict(by), **({"note": note} if note else {})}
    return {**kept, "updated_at": now, "history": [*kept.get("history", []), entry][-_HISTORY_LIMIT:]}


def _named(kept: Mapping[str, Any]) -> str:
    """By whom, in words; empty where nobody said."""
    who = kept.get("by") or {}
    return ", ".join(filter(None, (who.get("user"), f"job {who['job']}" if who.get("job") else None)))


def _who(by: Mapping[str, Any] | None) -> dict[str, Any]:
    return {key: value for key, value in (by or {}).items() if value not in (None, "")}
