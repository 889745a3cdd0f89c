# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Who has, on this host, the things of which it can have one: its guests, guests that are on their way or sealed here, and the host itself."""

from __future__ import annotations

import ipaddress
import socket
import struct
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from .._rules import exclusive as _exclusive
from .._rules.exclusive import Thing, thing
from .._system.paths import if_there

_LISTENS = {"tcp": "0A", "tcp6": "0A", "udp": "07", "udp6": "07"}
"""Tables of the kernel, and the state of a socket there to which anybody may send."""
_ACCEPTS = 0x10000
_ITSELF = "this host itself"
_PROCESS = "a process of this host"
_WAYS = {"source": "whose sealed copy lies here", "destination": "which is on its way here", "in_place": "which is being resized here"}


def held(of_guests: _exclusive.Held, claims: Iterable[Mapping[str, Any]], without: str | None = None) -> dict[str, dict[str, str]]:
    """Of each kind the things that are taken, as texts, with who has them.

    :param of_guests: `_host.bindings.of_guests`; :param without: UUID of an instance whose claims are left out.
    """
    found = {kind: dict(things) for kind, things in of_guests.items()}
    for claim in claims:
        if claim["instance_uuid"] != without:
            _exclusive.hold(found, _exclusive.read(claim.get("exclusive")), f"{claim['instance_name']}, {_WAYS.get(claim['role'], 'which has a claim here')}")
    _exclusive.hold_listeners(found, _listeners(), _PROCESS)
    _exclusive.hold_listeners(found, (thing(_exclusive.DEVICE, name) for _index, name in socket.if_nameindex()), _ITSELF)
    return found


def told(taken: _exclusive.Held) -> dict[str, dict[str, str]]:
    """As far as another guest could want it, for the facts of the host: MAC addresses have a fact of their own."""
    return {kind: dict(things) for kind, things in taken.items() if kind != _exclusive.MAC}


def _listeners() -> Iterator[Thing]:
    """At what the processes of this host listen, those of its guests included."""
    for table, state in _LISTENS.items():
        for fields in _lines(f"/proc/self/net/{table}"):
            if len(fields) > 3 and fields[3] == state:
                address, _colon, port = fields[1].partition(":")
                yield thing(_exclusive.TCP if table.startswith("tcp") else _exclusive.UDP, int(port, 16), _address(address))
    for fields in _lines("/proc/self/net/unix"):
        if len(fields) > 7 and int(fields[3], 16) & _ACCEPTS and fields[7].startswith("/"):
            yield thing(_exclusive.SOCKET, fields[7])


def _lines(path: str) -> Iterator[list[str]]:
    with if_there(), open(path, encoding="utf-8", errors="replace") as stream:
        next(stream, None)
        for line in stream:
            yield line.split()


def _address(digits: str) -> str:
    """The kernel writes it as words of the machine."""
    words = [int(digits[at : at + 8], 16) for at in range(0, len(digits), 8)]
    return str(ipaddress.ip_address(b"".join(struct.pack("=I", word) for word in words)))
