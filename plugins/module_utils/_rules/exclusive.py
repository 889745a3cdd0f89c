# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Things of which a host can have one: what of a definition nobody else of its host may have, or one of both guests cannot start.

A table of places in a definition, which everybody reads who asks about such things: the facts of a guest and of a host, placement, the claim, and the
destination before it defines the guest. A new kind is a row.
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple


class Kind(NamedTuple):
    """What messages say of one kind.

    :param code: of a refusal; :param what: before the value; :param way_out: what to do about it at the guest.
    """

    code: str
    what: str
    way_out: str


MAC, TCP, UDP, VSOCK, DEVICE, SOCKET, LOG = "mac", "tcp_port", "udp_port", "vsock_cid", "device", "socket", "log"
_ANOTHER_PORT = "give one of both another port, or let libvirt choose it (autoport='yes' of <graphics>), with virsh edit"
KINDS: Mapping[str, Kind] = {
    MAC: Kind("mac_in_use", "the MAC address", "give one of both guests another MAC address, with virsh edit"),
    TCP: Kind("port_in_use", "the TCP port", _ANOTHER_PORT),
    UDP: Kind("port_in_use", "the UDP port", _ANOTHER_PORT),
    VSOCK: Kind("vsock_in_use", "the vsock context id", "let libvirt choose the context id (<cid auto='yes'/>), with virsh edit"),
    DEVICE: Kind("device_in_use", "the network device", "take the name out of <target dev=''> of the interface, with virsh edit, so that libvirt chooses one"),
    SOCKET: Kind("socket_in_use", "the socket", "take the path out of the <source> of the device, with virsh edit, so that libvirt chooses one"),
    LOG: Kind("path_taken", "the console log", "let one of both guests write into another file, with virsh edit"),
}
OTHER_HOST = "name a host that has none of this (target_host)"
LEAVE = "move away, or undefine, what has it there"
_PORTS = (TCP, UDP)
_OF_LIBVIRT = {
    DEVICE: re.compile(r"(vnet|macvtap|macvlan|vif)\d+"),
    SOCKET: re.compile(r"(/var)?(/lib|/run)/libvirt/(qemu/(channel/)?(target/)?(domain-)?\d+-|[^/]*-sock|common/|virtlogd|virtlockd).*"),
}
"""Names that libvirt gives by itself, and takes out of a definition: no guest can want them."""
_ANYWHERE = ("", "*", "0.0.0.0", "::", "localhost")  # noqa: S104 - compared with, not bound to


class Thing(NamedTuple):
    """One of them; `address` is where a port is listened at, None for all addresses or one that is not told."""

    kind: str
    value: str
    address: str | None = None

    @property
    def text(self) -> str:
        """As it stands in facts, plans and claims, beside its kind."""
        return self.value if self.address is None else f"{self.value}@{self.address}"


class Conflict(NamedTuple):
    """A thing that somebody has already."""

    thing: Thing
    holder: str

    @property
    def code(self) -> str:
        return KINDS[self.thing.kind].code

    @property
    def described(self) -> str:
        return f"{KINDS[self.thing.kind].what} {self.thing.value} belongs to {self.holder}"


Held = Mapping[str, Mapping[str, str]]
"""Of each kind the things, as texts, with who has them."""
_Found = Iterable[tuple[Any, Any]]


class _Row(NamedTuple):
    """One place in a definition.

    :param select: ElementTree path below `<domain>`; :param read: values there, each with the address that it belongs to.
    :param chosen: whether libvirt has chosen the value, for as long as the guest runs, and another one would do.
    """

    kind: str
    select: str
    read: Callable[[ET.Element], _Found]
    chosen: Callable[[ET.Element], bool] = lambda element: False


def things(root: ET.Element, *, lasting: bool) -> list[Thing]:
    """What a definition has to itself, each once.

    :param lasting: only what it wants again with its next start, wherever that is, and not what libvirt has chosen while it runs.
    """
    found = [
        thing(row.kind, value, address)
        for row in _ROWS
        for element in root.findall(row.select)
        if not (lasting and row.chosen(element))
        for value, address in row.read(element)
        if value and not (row.kind in _PORTS and not _is_port(value)) and not is_of_libvirt(row.kind, str(value))
    ]
    return list(dict.fromkeys(found))


def thing(kind: str, value: Any, address: Any = None) -> Thing:
    """A thing by what a definition, or the host, calls it."""
    value = str(value).lower() if kind == MAC else str(value)
    return Thing(kind, value, str(address) if kind in _PORTS and address and address not in _ANYWHERE else None)


def by_kind(found: Iterable[Thing]) -> dict[str, list[str]]:
    """As plans and claims hold them."""
    texts: dict[str, list[str]] = {}
    for item in found:
        texts.setdefault(item.kind, []).append(item.text)
    return texts


def read(given: Mapping[str, Sequence[str]] | None) -> list[Thing]:
    """The way back; a kind of a later release is left out."""
    return [_parsed(kind, text) for kind, texts in (given or {}).items() if kind in KINDS for text in texts]


def wanted(requirements: Mapping[str, Any]) -> list[Thing]:
    """What the requirements of a plan say that the guest wants to itself."""
    return list(dict.fromkeys([*(thing(MAC, mac) for mac in requirements.get("macs") or ()), *read(requirements.get("exclusive"))]))


def hold(held: dict[str, dict[str, str]], found: Iterable[Thing], holder: str) -> None:
    """Note who has these, unless it is known of somebody already. At which address a guest listens is not told: libvirt gives a port once for all of them."""
    for item in found:
        held.setdefault(item.kind, {}).setdefault(item.value, holder)


def hold_listeners(held: dict[str, dict[str, str]], found: Iterable[Thing], holder: str) -> None:
    """The same of the host itself, whose processes listen at single addresses too."""
    for item in found:
        if is_of_libvirt(item.kind, item.value):
            continue
        known = held.setdefault(item.kind, {})
        if item.value not in known:
            known.setdefault(item.text, holder)


def conflicts(wanted_things: Iterable[Thing], held: Held) -> list[Conflict]:
    """Which of them somebody has, with who that is."""
    return [Conflict(item, holder) for item in wanted_things if (holder := _holder(item, held.get(item.kind, {}))) is not None]


def ways_out(kinds: Iterable[str]) -> list[str]:
    """What can be done where things of these kinds are taken, one way after the other; nothing for no kind."""
    ways = list(dict.fromkeys(KINDS[kind].way_out for kind in kinds))
    return [OTHER_HOST, *ways, LEAVE] if ways else []


def _holder(item: Thing, held: Mapping[str, str]) -> str | None:
    if item.value in held:
        return held[item.value]
    if item.address is not None:
        return held.get(item.text)
    if item.kind in _PORTS:
        return next((holder for text, holder in held.items() if text.startswith(f"{item.value}@")), None)
    return None


def _parsed(kind: str, text: str) -> Thing:
    value, _at, address = text.partition("@") if kind in _PORTS else (text, "", "")
    return Thing(kind, value, address or None)


def is_of_libvirt(kind: str, value: str) -> bool:
    """Whether libvirt has given the name by itself, for as long as the guest runs."""
    return kind in _OF_LIBVIRT and bool(_OF_LIBVIRT[kind].fullmatch(value))


def _is_port(value: Any) -> bool:
    return str(value).isdecimal() and 0 < int(value) < 65536


def _attribute(name: str) -> Callable[[ET.Element], _Found]:
    return lambda element: [(element.get(name), None)]


def _port_of_graphics(name: str) -> Callable[[ET.Element], _Found]:
    def read_port(element: ET.Element) -> _Found:
        listen = element.find("listen")
        address = element.get("listen") or (None if listen is None else listen.get("address"))
        return [(element.get(name), address)]

    return read_port


def _service(element: ET.Element) -> _Found:
    return [(element.get("service"), element.get("host"))]


def _socket_address(element: ET.Element) -> _Found:
    return [(element.get("port"), element.get("address"))]


def _forwarded(protocol: str) -> Callable[[ET.Element], _Found]:
    def read_ports(element: ET.Element) -> _Found:
        for ports in element.findall("range") if element.get("proto") == protocol else ():
            first, last = ports.get("start") or "", ports.get("end") or ports.get("start") or ""
            if ports.get("exclude") != "yes" and _is_port(first) and _is_port(last):
                yield from ((port, element.get("address")) for port in range(int(first), int(last) + 1))

    return read_ports


_TCP_SERVER = re.compile(r"(?:tcp|telnet|tn3270|websocket):(?P<host>\[[^]]*\]|[^:,]*):(?P<port>\d+)(?P<options>.*)")
_UNIX_SERVER = re.compile(r"unix:(?P<path>[^,]+)(?P<options>.*)")
_FORWARD = re.compile(r"hostfwd=(?P<protocol>tcp|udp):(?P<host>[^:]*):(?P<port>\d+)-")
_CHARACTER_OPTIONS = ("-serial", "-parallel", "-monitor", "-qmp", "-qmp-pretty", "-gdb")
_FIRST_DISPLAY = 5900
_GDB = 1234


def _arguments(root: ET.Element) -> list[str]:
    return [element.get("value") or "" for element in root.iter() if isinstance(element.tag, str) and element.tag.endswith(":arg")]


def _of_arguments(kind: str) -> Callable[[ET.Element], _Found]:
    """What arguments for QEMU listen at, as far as it is written there. A destination refuses such a guest; the host that has one has its ports taken."""

    def read_arguments(element: ET.Element) -> _Found:
        given = _arguments(element)
        for option, value in zip(given, [*given[1:], ""]):
            option = "-" + option.lstrip("-") if option.startswith("-") else option
            yield from ((found.value, found.address) for found in _listened_at(option, value) if found.kind == kind)

    return read_arguments


def _listened_at(option: str, value: str) -> Iterator[Thing]:
    properties = dict(item.partition("=")[::2] for item in value.split(","))
    if option == "-s":
        yield thing(TCP, _GDB)
    elif option in _CHARACTER_OPTIONS:
        found, path = _TCP_SERVER.fullmatch(value), _UNIX_SERVER.fullmatch(value)
        if found and (option == "-gdb" or _serves(found["options"])):
            yield thing(TCP, found["port"], found["host"].strip("[]"))
        elif path and _serves(path["options"]):
            yield thing(SOCKET, path["path"])
    elif option == "-vnc":
        host, _colon, display = value.partition(",")[0].rpartition(":")
        if display.isdecimal() and not host.startswith("unix"):
            yield thing(TCP, _FIRST_DISPLAY + int(display), host.strip("[]"))
    elif option == "-spice":
        yield from (thing(TCP, properties[name], properties.get("addr")) for name in ("port", "tls-port") if properties.get(name))
    elif option == "-chardev" and value.startswith("socket,") and _serves(value):
        yield from [thing(SOCKET, properties["path"])] if properties.get("path") else [thing(TCP, properties.get("port"), properties.get("host"))]
    elif option in ("-netdev", "-nic", "-net"):
        for found in _FORWARD.finditer(value):
            yield thing(TCP if found["protocol"] == "tcp" else UDP, found["port"], found["host"])


def _serves(options: str) -> bool:
    return bool(re.search(r",server(=on)?(,|$)", options))


def _chosen_port(element: ET.Element) -> bool:
    return element.get("autoport") == "yes"


_ROWS: tuple[_Row, ...] = (
    _Row(MAC, "devices/interface/mac", _attribute("address")),
    *(_Row(TCP, "devices/graphics", _port_of_graphics(name), _chosen_port) for name in ("port", "tlsPort")),
    _Row(TCP, "devices/graphics", _port_of_graphics("websocket")),
    _Row(TCP, "devices/*[@type='tcp']/source[@mode='bind']", _service),
    _Row(UDP, "devices/*[@type='udp']/source[@mode='bind']", _service),
    _Row(TCP, "devices/interface[@type='server']/source", _socket_address),
    _Row(UDP, "devices/interface[@type='udp']/source/local", _socket_address),
    _Row(TCP, "devices/interface/portForward", _forwarded("tcp")),
    _Row(UDP, "devices/interface/portForward", _forwarded("udp")),
    *(_Row(kind, ".", _of_arguments(kind)) for kind in (TCP, UDP, SOCKET)),
    _Row(VSOCK, "devices/vsock/cid", _attribute("address"), lambda element: element.get("auto") == "yes"),
    _Row(DEVICE, "devices/interface/target", _attribute("dev")),
    _Row(SOCKET, "devices/*[@type='unix']/source[@mode='bind']", _attribute("path")),
    _Row(SOCKET, "devices/graphics", _attribute("socket")),
    _Row(SOCKET, "devices/graphics/listen", _attribute("socket")),
    _Row(LOG, "devices/*[@type='file']/source", _attribute("path")),
    _Row(LOG, "devices/*/log", _attribute("file")),
)
