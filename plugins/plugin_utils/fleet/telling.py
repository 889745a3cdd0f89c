# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A programme for people: the table before it begins, or the refusal with each guest's numbers, and what it comes to in one sentence."""

from __future__ import annotations

from collections.abc import Sequence

from ansible_collections.kvmfleet.compute.plugins.plugin_utils.fleet.programme import RUNNING, UNMOVABLE, Guest, Move, Programme, Told
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.table import aligned

_MIB, _GIB = 1024**2, 1024**3
_COLUMNS = ("#", "instance", "from -> to", "memory", "copied", "expected", "remarks")


_LISTS = {"stopped": "stops", "left": "leaves", "waiting": "waits", "started": "starts", "stays": "stays"}


def lines(programme: Programme) -> list[str]:
    """All of it; the first line of a refusal says that nothing was changed, the last one of a programme what it comes to."""
    return _programme(programme) if programme.fits else _refusal(programme)


def names(hosts: Sequence[str]) -> str:
    """`kvm1`, `kvm1 and kvm2`, `kvm1, kvm2 and kvm3`."""
    return hosts[0] if len(hosts) == 1 else f"{', '.join(hosts[:-1])} and {hosts[-1]}"


def count(number: int, what: str) -> str:
    """`1 guest`, `2 guests`."""
    return f"{number} {what}{'' if number == 1 else 's'}"


def size(amount: float) -> str:
    """`1.2 GiB`, `48 MiB`, `196 KiB`."""
    return f"{amount / _GIB:.1f} GiB" if amount >= _GIB else f"{amount / _MIB:.0f} MiB" if amount >= _MIB else f"{amount / 1024:.0f} KiB"


def _refusal(programme: Programme) -> list[str]:
    against = [*programme.refused, *programme.unmovable, *programme.busy]
    fits = sum(not move.ejection for move in programme.moves) + len(programme.waits)
    stay = len(programme.stops) + len(programme.leaves)
    others = f", {stay} would be stopped or left" if stay else ""
    verb = "runs" if programme.guests == 1 else "run"
    return [
        f"{names(programme.hosts)} cannot be drained; nothing was changed.",
        f"  {count(programme.guests, 'guest')} {verb} there or {'is' if programme.guests == 1 else 'are'} off there: "
        f"{fits} find{'s' if fits == 1 else ''} room together, {len(against)} {'does' if len(against) == 1 else 'do'} not{others}.",
        *_indented(against),
        *_not_searched(programme),
    ]


def _not_searched(programme: Programme) -> list[str]:
    if programme.searched or not any(told.code == "no_valid_host" for told in programme.refused):
        return []
    return ["  Not every way to place them was tried, since there are too many: one more host, or one guest less, may do."]


def _indented(told: Sequence[Told]) -> list[str]:
    rows: list[tuple[str, ...]] = [(f"    {each.guest.instance}", size(each.guest.wants.ram_bytes), f"{each.message}{_option(each)}") for each in told]
    return aligned(rows).splitlines() if rows else []


def _option(told: Told) -> str:
    """What lets it go, where the sentence does not say so itself."""
    return f"; -e {told.option}" if told.option and told.guest.kind == UNMOVABLE else ""


def _programme(programme: Programme) -> list[str]:
    return [*_listed(programme), sentence(programme)]


def _listed(programme: Programme) -> list[str]:
    canaries = {move.guest.uuid for move in programme.moves if move.canary}
    rows = [_COLUMNS, *(_row(move, len({*move.after} - canaries)) for move in programme.moves)]
    told = aligned(rows).splitlines() if programme.moves else []
    for title, listed in _LISTS.items():
        told += [f"{title}: {each.guest.instance} ({each.message})" for each in getattr(programme, listed)]
    told += [f"arriving: {each['instance_name']} from {each['source']}, which is waited for" for each in programme.arriving]
    return told


def _row(move: Move, behind: int) -> tuple[str, ...]:
    guest, wants = move.guest, move.guest.wants
    way = f"{guest.host} -> {move.destination}"
    sizes = size(wants.ram_bytes), size(wants.copy_bytes)
    return (str(move.order), guest.instance, way, *sizes, f"{move.seconds:.0f} s", _remarks(move, guest, behind))


def _remarks(move: Move, guest: Guest, behind: int) -> str:
    found = [
        "canary" if move.canary else "",
        move.reason if move.ejection else "",
        {"revert": "by revert", "confirm_move": "confirmed first"}.get(move.how, ""),
        "" if guest.downtime == RUNNING else "is off",
        f"group {guest.group}" if guest.group else "",
        f"after {count(behind, 'other')}" if behind else "",
    ]
    return ", ".join(filter(None, found))


def restore(programme: Programme) -> list[str]:
    """The programme of a restore; the last line is what it comes to."""
    starts, moves, stays = len(programme.starts), len(programme.moves), len(programme.stays)
    parts = [
        f"{count(starts, 'guest')} that the drain stopped {'is' if starts == 1 else 'are'} started" if starts else "",
        f"{count(moves, 'guest')} {'goes' if moves == 1 else 'go'} home" if moves else "",
        f"{count(stays, 'guest')} that came from here {'stays where it is' if stays == 1 else 'stay where they are'}" if stays else "",
    ]
    what = ", ".join(filter(None, parts))
    return [*_listed(programme), f"{names(programme.hosts)} is put into service again{': ' + what if what else ''}."]


def sentence(programme: Programme) -> str:
    """`11 guests move to 3 hosts, 2 of them are off, about 1.2 GiB are copied; 1 is stopped, 1 stays, 1 waits.`"""
    totals = programme.totals()
    moves = totals["moves"]
    if not programme.guests:
        return f"{names(programme.hosts)} {'has' if len(programme.hosts) == 1 else 'have'} no guests."
    off = moves - totals["running"]
    what = f"{count(moves, 'guest')} of {names(programme.hosts)} move{'s' if moves == 1 else ''} to {count(totals['destinations'], 'host')}"
    what += f", {off} of them off" if off else ""
    what += f", {totals['ejections']} of other hosts to make room" if totals["ejections"] else ""
    what += f", {size(totals['copy_bytes'])} are copied"
    rest = [(len(programme.stops), "stopped"), (len(programme.leaves), "left"), (len(programme.waits), "waiting")]
    more = ", ".join(f"{number} {word}" for number, word in rest if number)
    copies = f"; {count(len(programme.copies), 'sealed copy').replace('copys', 'copies')} of earlier moves wait there for confirm" if programme.copies else ""
    return f"{what}{'; ' + more if more else ''}{copies}."
