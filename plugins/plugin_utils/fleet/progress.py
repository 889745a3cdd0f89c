# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A programme while it is carried out: what state each guest is in, whether one may begin, and a line for people when it begins and ends."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from ansible_collections.kvmfleet.compute.plugins.plugin_utils.fleet import telling
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.validation import ValidationError

PLANNED, WAITING, MOVING = "planned", "waiting", "moving"
MOVED, CONFIRMED, STOPPED, STARTED, LEFT = "moved", "confirmed", "stopped", "started", "left"
UNDONE, OPEN, SKIPPED = "undone", "open", "skipped"
STATES = (PLANNED, WAITING, MOVING, MOVED, CONFIRMED, STOPPED, STARTED, LEFT, UNDONE, OPEN, SKIPPED)
"""`undone`: its move failed, and it is as before; `open`: nobody knows yet where it can run; `skipped`: it was never begun."""
FAILED = (UNDONE, OPEN)
OVER = (MOVED, CONFIRMED, STOPPED, STARTED, LEFT, *FAILED, SKIPPED)
BEGIN, WAIT, SKIP = "begin", "wait", "skip"


class Verdict(NamedTuple):
    """`do` is `begin`, `wait` or `skip`."""

    do: str
    reason: str


class Counts(NamedTuple):
    """How many guests of a run are in which state."""

    running: int
    waiting: int
    failed: int


def counts(states: Iterable[str]) -> Counts:
    """Of all guests of a run.

    :raises ValidationError: a state that is none.
    """
    listed = list(states)
    for state in listed:
        if state not in STATES:
            raise ValidationError.not_one_of("state", state, STATES)
    return Counts(listed.count(MOVING), listed.count(WAITING), sum(state in FAILED for state in listed))


def may_begin(
    moves: Iterable[Mapping[str, Any]], states: Mapping[str, str], uuid: str, max_fail: int = 1, paused: bool = False, now: float | None = None
) -> Verdict:
    """Whether a guest may begin now.

    :param moves: those of the programme; :param states: of each guest, by UUID, `planned` where nothing is said.
    :param max_fail: so many failures, and nothing new begins; 0 for any number.
    :param now: the time by the controller's clock, for guests that have a window.
    """
    known = {move["uuid"]: move for move in moves}
    move = known[uuid]
    failed = [each["instance"] for each in known.values() if states.get(each["uuid"]) in FAILED]
    if paused:
        return Verdict(SKIP, "it is paused")
    if max_fail and len(failed) >= max_fail:
        return Verdict(SKIP, f"{', '.join(failed)} failed, and nothing new begins after {max_fail} (max_fail)")
    if now is not None and move.get("until") is not None and now >= move["until"]:
        return Verdict(SKIP, "its window has closed meanwhile: the same command again moves it when that is open")
    canaries = [each for each in known.values() if each["canary"] and not move["canary"]]
    before = [known[other] for other in move["after"] if other in known]
    for each in [*canaries, *before]:
        verdict = _behind(each, states.get(each["uuid"], PLANNED), as_canary=each in canaries)
        if verdict is not None:
            return verdict
    return Verdict(BEGIN, "")


def _behind(other: Mapping[str, Any], state: str, as_canary: bool) -> Verdict | None:
    """What it is that keeps a guest behind another one, if anything."""
    name = other["instance"]
    if state not in OVER:
        return Verdict(WAIT, f"{name} goes first")
    if state == OPEN:
        return Verdict(SKIP, f"nobody knows whether {name} runs, which goes first")
    if as_canary and state not in (MOVED, CONFIRMED):
        return Verdict(SKIP, f"{name}, which went first to see whether all is well, was not moved")
    if other["ejection"] and state != CONFIRMED:
        return Verdict(WAIT, f"{name} has to be confirmed first") if state == MOVED else Verdict(SKIP, f"{name} has not made room")
    return None


def line(move: Mapping[str, Any], total: int, state: str, now: Counts, result: Mapping[str, Any] | None = None) -> str:
    """`[ 3/50] web17 kvm1 -> kvm4 moved, down 2.9 s, 1.2 GiB (2 running, 1 waiting, 0 failed)`.

    :param total: how many moves there are; :param state: that the guest has come to; :param now: of the run, with this one.
    :param result: `downtime_seconds`, `bytes` and `message`, as far as they are known.
    """
    told = result or {}
    number = f"[{move['order']:>{len(str(total))}}/{total}]"
    parts = [_SAID[state], down(told.get("downtime_seconds")), amount(told.get("bytes")), _why(state, told.get("message"))]
    what = ", ".join(filter(None, parts))
    return f"{number} {move['instance']} {move['host']} -> {move['destination']} {what} ({now.running} running, {now.waiting} waiting, {now.failed} failed)"


_SAID = {
    PLANNED: "is planned",
    WAITING: "waits",
    MOVING: "begins",
    MOVED: "moved",
    CONFIRMED: "moved and confirmed",
    STOPPED: "stopped",
    STARTED: "started",
    LEFT: "stays",
    UNDONE: "failed and is as before",
    OPEN: "failed and is still open",
    SKIPPED: "skipped",
}


def down(seconds: Any) -> str:
    """`down 2.9 s`, nothing for a guest that was off."""
    return f"down {float(seconds):.1f} s" if isinstance(seconds, (int, float)) else ""


def amount(size: Any) -> str:
    """As `telling.size` says it; nothing where nothing was copied."""
    return telling.size(size) if isinstance(size, (int, float)) and size > 0 else ""


def _why(state: str, message: Any) -> str:
    """The first line of what went wrong, or what is waited for."""
    return " ".join(str(message).strip().partition("\n")[0].split()).rstrip(".") if message and state in (*FAILED, SKIPPED, WAITING, LEFT) else ""
