# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""As whom QEMU runs on this host, and whether libvirt gives it the files of a guest: the host, a definition and a single disk have a say in that."""

from __future__ import annotations

import contextlib
import grp
import os
import pwd
import re
import urllib.parse
import xml.etree.ElementTree as ET
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from .._domain import definition as _definition
from .._libvirt import connection as _connection
from .._rules.errors import KvmfleetError

_CONFIGURATION = "/etc/libvirt/qemu.conf"


@dataclass(frozen=True)
class Process:
    """As whom QEMU runs on this host, and whether libvirt gives files to it."""

    uid: int
    gid: int
    gives: bool
    remembers: bool
    privileged: bool

    def __str__(self) -> str:
        return described(self.uid, self.gid)


def of_host(conn: Any) -> Process:
    """What libvirt says of the user, and its configuration of the rest; without one its defaults count."""
    label = _definition.parse_document(_connection.host_capabilities(conn)).findtext("host/secmodel[model='dac']/baselabel", "+0:+0")
    configured = _configuration(conn)
    uid, gid = ids(label)
    return Process(
        uid=uid,
        gid=gid,
        gives=configured.get("dynamic_ownership", 1) != 0,
        remembers=configured.get("remember_owner", 1) != 0,
        privileged=configured.get("clear_emulator_capabilities", 1) == 0,
    )


def facts(conn: Any) -> dict[str, Any]:
    """The same as plain JSON."""
    process = of_host(conn)
    return {
        "user": user_name(process.uid),
        "group": group_name(process.gid),
        "uid": process.uid,
        "gid": process.gid,
        "dynamic_ownership": process.gives,
        "remember_owner": process.remembers,
    }


def labels(root: ET.Element, name: str | None) -> tuple[str | None, bool]:
    """As whom the definition lets QEMU run, None for as the host does; and whether libvirt may give it the file of that name in the channel."""
    label = root.find("seclabel[@model='dac']")
    text = None if label is None or label.get("type") != "static" else (label.findtext("label") or None)
    relabel = True if label is None else label.get("relabel", "yes" if label.get("type", "dynamic") == "dynamic" else "no") == "yes"
    disk = next((disk for disk in root.findall("devices/disk") for place in disk.findall("target") if place.get("dev") == name), None)
    of_disk = None if disk is None else disk.find("source/seclabel[@model='dac']")
    return text, relabel and (of_disk is None or of_disk.get("relabel", "yes") == "yes")


def running_as(host: Process, label: str | None) -> Process:
    """The process of a guest whose definition has this label, None where it has none."""
    if label is None:
        return host
    uid, gid = ids(label)
    return replace(host, uid=uid, gid=gid)


def ids(label: str) -> tuple[int, int]:
    """User and group of a label such as `+64055:+108` or `libvirt-qemu:kvm`: names go first, unless there is a plus sign."""
    user, _colon, group = label.partition(":")
    return _id(user, lambda name: pwd.getpwnam(name).pw_uid), _id(group or user, lambda name: grp.getgrnam(name).gr_gid)


def numbers(process: Process, owner: Mapping[str, Any], of_qemu: Sequence[bool]) -> tuple[int, int]:
    """User and group here of what belongs to `owner` on another host: the ones of QEMU where they are that there, else by name, and then by number.

    :param owner: `uid`, `gid`, and the names `user` and `group`, None where there are none.
    """
    uid = process.uid if of_qemu[0] else _number(owner["user"], owner["uid"], lambda name: pwd.getpwnam(name).pw_uid)
    gid = process.gid if of_qemu[1] else _number(owner["group"], owner["gid"], lambda name: grp.getgrnam(name).gr_gid)
    return uid, gid


def _number(name: str | None, number: int, find: Any) -> int:
    if name is not None:
        with contextlib.suppress(KeyError):
            return int(find(name))
    return number


def _id(text: str, find: Any) -> int:
    if not text.startswith("+"):
        with contextlib.suppress(KeyError):
            return int(find(text))
    try:
        return int(text)
    except ValueError:
        raise KvmfleetError("unknown_user", f"QEMU is to run as {text!r}, and this host has no such user or group.", value=text) from None


def _configuration(conn: Any) -> dict[str, int]:
    """The numbers in the configuration of libvirt's QEMU driver."""
    url = urllib.parse.urlsplit(conn.getURI())
    root = urllib.parse.parse_qs(url.query).get("root", [None])[0] if url.path == "/embed" else None
    path = _CONFIGURATION if root is None else os.path.join(root, "etc/qemu.conf")
    with contextlib.suppress(OSError), open(path, encoding="utf-8", errors="replace") as stream:
        return {name: int(value) for name, value in re.findall(r"^[ \t]*(\w+)[ \t]*=[ \t]*(\d+)", stream.read(), re.MULTILINE)}
    return {}


def user_name(uid: int) -> str | None:
    with contextlib.suppress(KeyError):
        return pwd.getpwuid(uid).pw_name
    return None


def group_name(gid: int) -> str | None:
    with contextlib.suppress(KeyError):
        return grp.getgrgid(gid).gr_name
    return None


def described(uid: int, gid: int) -> str:
    return f"{user_name(uid) or uid}:{group_name(gid) or gid}"
