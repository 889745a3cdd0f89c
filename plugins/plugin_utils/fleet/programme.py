# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a drain or a restore comes to, in one object: shown by check mode, carried out as it is, and judged by again from the facts of every run."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

STOP, LEAVE, UNMOVABLE, BUSY, REFUSE = "stop", "leave", "unmovable", "busy", "refuse"
START, STAY = "start", "stay"
RUNNING, OFF = "running", "off"


@dataclass(frozen=True)
class Wants:
    """What a guest takes: of the capacity of a host, and on the way there."""

    vcpus: float = 0
    ram_bytes: int = 0
    disk_bytes: int = 0
    copy_bytes: int = 0


@dataclass(frozen=True)
class Guest:
    """A guest of a host that is emptied.

    :param kind: its class; :param state: what libvirt says; :param downtime: `running` where it is going to be down for a moment, `off` where it is off
        already; :param group: its server group, or None; :param said: who says that it is of that class.
    """

    instance: str
    uuid: str
    host: str
    state: str
    kind: str
    downtime: str
    priority: float = 0
    group: str | None = None
    said: str = ""
    max_downtime: float | None = None
    wants: Wants = field(default_factory=Wants)

    def as_dict(self) -> dict[str, Any]:
        """Plain values, `kind` under the name `class`, which Python keeps for itself."""
        told = asdict(self)
        told["class"] = told.pop("kind")
        return told


@dataclass(frozen=True)
class Move:
    """One move, to be carried out as it is or skipped with a reason.

    :param order: 1 for the first; :param after: UUIDs of the moves of this programme that have to be over, their guest running again, before this one
        begins; :param canary: it goes alone, and nothing else begins unless it runs again; :param ejection: the guest is of another host, and makes room,
        for which its move has to be confirmed too; :param seconds: how long it is expected to take.
    :param until: when it must have begun, since its window closes, in seconds since the epoch; None for no window.
    :param how: `move`, or for a way home `revert` (nothing is lost, since it never ran at its destination) or `confirm_move`.
    """

    guest: Guest
    destination: str
    reason: str
    alternates: tuple[str, ...] = ()
    order: int = 0
    after: tuple[str, ...] = ()
    canary: bool = False
    ejection: bool = False
    seconds: float = 0
    until: float | None = None
    how: str = "move"
    migration_uuid: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """Plain values, those of the guest among them."""
        told = {name: value for name, value in vars(self).items() if name != "guest"}
        return {**self.guest.as_dict(), **told, "after": list(self.after), "alternates": list(self.alternates)}


@dataclass(frozen=True)
class Told:
    """A guest that is not moved, and why.

    :param code: for programs; :param message: for people; :param option: what lets it go, or None; :param when: when it can, or None.
    :param details: numbers and names.
    """

    guest: Guest
    code: str
    message: str
    option: str | None = None
    when: str | None = None
    destination: str | None = None
    details: dict[str, Any] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Plain values, those of the guest among them."""
        told = {name: value for name, value in vars(self).items() if name not in ("guest", "details")}
        return {**self.guest.as_dict(), **told, **self.details}


@dataclass(frozen=True)
class Programme:
    """All of it.

    :param starts: what a drain has stopped, and a restore starts; :param stays: guests that came from the host of a restore and do not go home.
    :param copies: finished operations whose sealed copies lie on the hosts, so that these are not empty; :param arriving: claims of guests on their way here.
    :param searched: whether every way was tried, so that what is refused for want of room has none.
    """

    hosts: tuple[str, ...]
    moves: tuple[Move, ...] = ()
    stops: tuple[Told, ...] = ()
    leaves: tuple[Told, ...] = ()
    waits: tuple[Told, ...] = ()
    busy: tuple[Told, ...] = ()
    unmovable: tuple[Told, ...] = ()
    refused: tuple[Told, ...] = ()
    starts: tuple[Told, ...] = ()
    stays: tuple[Told, ...] = ()
    copies: tuple[dict[str, Any], ...] = ()
    arriving: tuple[dict[str, Any], ...] = ()
    searched: bool = True

    @property
    def fits(self) -> bool:
        """Whether every guest has a class and a place, so that it may begin."""
        return not (self.busy or self.unmovable or self.refused)

    @property
    def guests(self) -> int:
        """How many guests the hosts have."""
        return sum(not move.ejection for move in self.moves) + sum(len(getattr(self, name)) for name in _LISTS)

    def totals(self) -> dict[str, Any]:
        """Counts and sums."""
        counts = {name: len(getattr(self, name)) for name in ("moves", *_LISTS, "copies", "arriving")}
        return {
            "guests": self.guests,
            **counts,
            "ejections": sum(move.ejection for move in self.moves),
            "running": sum(move.guest.downtime == RUNNING for move in self.moves),
            "copy_bytes": sum(move.guest.wants.copy_bytes for move in self.moves),
            "ram_bytes": sum(move.guest.wants.ram_bytes for move in self.moves),
            "seconds": round(sum(move.seconds for move in self.moves), 1),
            "destinations": len({move.destination for move in self.moves}),
        }

    def noted(self) -> dict[str, dict[str, Any]]:
        """What the records of the hosts keep of their guests, by UUID: the class, and the place that is promised."""
        others = {told.guest.uuid: _noted(told.guest, told.destination) for told in (*self.stops, *self.leaves, *self.waits)}
        moves = {move.guest.uuid: {**_noted(move.guest, move.destination), "order": move.order} for move in self.moves if not move.ejection}
        return {**others, **moves}

    def as_dict(self) -> dict[str, Any]:
        """Plain values."""
        lists = {name: [item.as_dict() for item in getattr(self, name)] for name in ("moves", *_LISTS)}
        return {
            "hosts": list(self.hosts),
            "fits": self.fits,
            "guests": self.noted(),
            **lists,
            "copies": list(self.copies),
            "arriving": list(self.arriving),
            "searched": self.searched,
            "totals": self.totals(),
        }


_LISTS = ("stops", "leaves", "waits", "busy", "unmovable", "refused", "starts", "stays")


def _noted(guest: Guest, destination: str | None) -> dict[str, Any]:
    return {"instance": guest.instance, "class": guest.kind, "destination": destination, "power_state": guest.state}
