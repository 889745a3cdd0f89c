# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A listening TCP socket that only one address can reach, and the way from this host to another one.

nbdkit's filter `ip` refuses every rule with an address in Debian 12 (1.32), so the kernel does it: what another address sends to the socket is
dropped before it becomes a connection. nbdkit inherits the socket, which outlives it: a server that is started again serves the same port.
"""

from __future__ import annotations

import ctypes
import errno
import ipaddress
import socket
import struct
from collections.abc import Iterable
from typing import NamedTuple

from .._rules.errors import KvmfleetError

_SO_ATTACH_FILTER = 26
_BACKLOG = 64
_LOAD_WORD, _JUMP_IF_EQUAL, _RETURN = 0x20, 0x15, 0x06
_NETWORK_HEADER = 0xFFF00000  # SKF_NET_OFF: offsets from the start of the IP header
_SOURCE_OFFSET = {4: 12, 6: 8}


class Way(NamedTuple):
    """How this host reaches another one: the `address` that its name means here, and the `local_address` that the other one sees."""

    address: str
    local_address: str


def listen(address: str | None, ports: Iterable[int], peer: str | None = None, dead_after: float = 60.0) -> socket.socket:
    """Listen on the first free port.

    :param address: the local address, or a name of it. None for all addresses of the peer's kind, of which only the peer gets through: what a host
        calls itself (127.0.1.1, the other kind of address) need not be where others find it.
    :param peer: the only address that is let in.
    :param dead_after: seconds without a sign of life after which a connection is dropped, so that a host that vanished does not keep it open.
    """
    local = ("::" if _parsed(peer).version == 6 else "0.0.0.0") if address is None else address  # noqa: S104 - the filter lets the peer alone in
    family, _kind, _protocol, _name, target = socket.getaddrinfo(local, None, type=socket.SOCK_STREAM)[0]
    for port in ports:
        listener = socket.socket(family, socket.SOCK_STREAM)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            _give_up_after(listener, dead_after)
            if family == socket.AF_INET6:
                listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            if peer is not None:
                _admit_only(listener, peer)
            listener.bind((target[0], port, *target[2:]))
            listener.listen(_BACKLOG)
            return listener
        except OSError as exc:
            listener.close()
            if exc.errno != errno.EADDRINUSE:
                raise
    raise OSError(errno.EADDRINUSE, "all ports are in use")


def way_to(other: str) -> Way:
    """The way to another host, by the first of its addresses that this host has a route to. Nothing is sent.

    :raises KvmfleetError: `no_route`.
    """
    reason: OSError | None = None
    try:
        for family, kind, protocol, _name, target in socket.getaddrinfo(other, 9, type=socket.SOCK_DGRAM):
            try:
                with socket.socket(family, kind, protocol) as probe:
                    probe.connect(target)
                    return Way(target[0], probe.getsockname()[0].partition("%")[0])
            except OSError as exc:
                reason = reason or exc
    except OSError as exc:
        reason = exc
    raise KvmfleetError("no_route", f"This host has no way to {other}: {reason}.", address=other) from reason


def found_way(other: str | None) -> dict[str, str | None]:
    """The same as results of a module: `source_address` and `local_address`, or why there are none (`no_way`)."""
    found: dict[str, str | None] = {"source_address": None, "local_address": None, "no_way": None}
    if other:
        try:
            way = way_to(other)
            if _is_here(way):
                found["no_way"] = f"{other} means this host itself here"
            else:
                found.update(source_address=way.address, local_address=way.local_address)
        except KvmfleetError as exc:
            found["no_way"] = exc.message.rstrip(".")
    return found


def closed(address: str, port: int, timeout: float) -> str | None:
    """Why no packet gets to a port of another host, or None where one does: somebody listens, or the host says that nobody does."""
    try:
        socket.create_connection((address, port), timeout).close()
    except ConnectionRefusedError:
        return None
    except OSError as exc:
        return f"nothing gets to port {port} of {address} ({exc})"
    return None


def _is_here(way: Way) -> bool:
    """Whether what is known as another host is this one, as `localhost` is for everybody."""
    return way.address == way.local_address or ipaddress.ip_address(way.address.partition("%")[0]).is_loopback


def _give_up_after(listener: socket.socket, seconds: float) -> None:
    """Connections inherit these."""
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option in (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL):
        listener.setsockopt(socket.IPPROTO_TCP, option, max(1, int(seconds / 4)))
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, max(1, int(seconds * 1000)))


def _parsed(peer: str | None) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    try:
        return ipaddress.ip_address(peer or "")
    except ValueError as exc:
        raise KvmfleetError("invalid_value", f"peer: expected an IP address, got {peer!r}.", value=peer) from exc


def _admit_only(listener: socket.socket, peer: str) -> None:
    source = _parsed(peer)
    if (source.version == 6) != (listener.family == socket.AF_INET6):
        raise KvmfleetError("invalid_value", f"peer: {peer} cannot reach an address of the other IP version.", value=peer)
    words = struct.unpack(f">{len(source.packed) // 4}I", source.packed)
    program = []
    for number, word in enumerate(words):
        program.append((_LOAD_WORD, 0, 0, _NETWORK_HEADER + _SOURCE_OFFSET[source.version] + 4 * number))
        program.append((_JUMP_IF_EQUAL, 0, 2 * (len(words) - number) - 1, word))
    program += [(_RETURN, 0, 0, 0xFFFFFFFF), (_RETURN, 0, 0, 0)]
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *instruction) for instruction in program))
    listener.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, struct.pack("HP", len(program), ctypes.addressof(code)))
