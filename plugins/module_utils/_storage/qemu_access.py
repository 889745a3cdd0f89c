# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""May QEMU open the files that an operation makes for a guest? It is found out before the guest stops, by trying.

QEMU runs as a user of its own. As a rule libvirt gives a guest's files to that user when the guest starts (`dynamic_ownership`) and takes them back
when it stops; a host, a definition or a single disk can say that it does not, and on some filesystems not even root can. So owner and mode travel
with a file, by name and then by number: what belonged to QEMU at the source belongs to QEMU at the destination. Where QEMU could not open such a
file, it gets one that is its own. Where it cannot open that either, which a directory on the way or the filesystem keeps it from, the claim is refused.

What is tried is a file like the one to come, in its directory, opened as the user of QEMU with its groups. SELinux and AppArmor are not asked.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import secrets
import select
import signal
import stat
import struct
import time
import xml.etree.ElementTree as ET
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from .._rules import file_names as _file_names
from .._rules.errors import KvmfleetError
from .._system import whole_file as _whole_file
from .._system.whole_file import Look
from . import files as _files, qemu_user as _qemu_user
from .incoming import exports
from .kinds import registry as _kinds

_REMEMBERED = "trusted.libvirt.security.dac"
_TRY_TIMEOUT = 30.0
_CAPABILITIES_VERSION_3 = 0x20080522
_LIBC = ctypes.CDLL(None, use_errno=True)
_NO_OWNER: Mapping[str, Any] = {
    "uid": 0,
    "gid": 0,
    "user": None,
    "group": None,
    "mode": 0o600,
    "of_qemu": [False, False],
    "given": True,
    "relabel": True,
    "label": None,
}
"""Of a file of which the plan says nothing: as libvirt makes them."""


class Obstacle(NamedTuple):
    """Why QEMU cannot open a file: in words, what it has, and what would do."""

    reason: str
    have: str | None
    need: str


def owners(conn: Any, root: ET.Element, files: Mapping[str, str], active: bool) -> dict[str, dict[str, Any]]:
    """To whom each file of a guest belongs while it is off, by its name in the channel.

    :param files: name in the channel -> path; :param active: whether the guest has them open.
    :returns: `uid`, `gid`, `user` and `group` (names, None where there are none) and `mode`; whether user and group are those of QEMU (`of_qemu`); whether
        libvirt gives the file to QEMU (`given`), and what the definition says of that: `relabel`, and the `label` of QEMU itself.
    """
    host = _qemu_user.of_host(conn)
    found = {}
    for name, path in files.items():
        with contextlib.suppress(OSError):
            status = os.lstat(path)
            label, relabel = _qemu_user.labels(root, name)
            process = _qemu_user.running_as(host, label)
            given = host.gives and relabel
            uid, gid = _own(path, status, host.remembers) if given and active else (status.st_uid, status.st_gid)
            found[name] = {
                "uid": uid,
                "gid": gid,
                "user": _qemu_user.user_name(uid),
                "group": _qemu_user.group_name(gid),
                "mode": stat.S_IMODE(status.st_mode),
                "of_qemu": [uid == process.uid, gid == process.gid],
                "given": given,
                "relabel": relabel,
                "label": label,
            }
    return found


def looks(conn: Any, record: Mapping[str, Any]) -> tuple[dict[str, list[int]], list[tuple[str, Obstacle]]]:
    """Owner and mode of each file that the operation makes on this host, by its path, found by trying; and where there are none that QEMU could open.

    Whoever is not root can try nothing: libvirt alone makes such files then.
    """
    host, chosen, obstacles = _qemu_user.of_host(conn), {}, []
    tried: dict[tuple[Any, ...], Look | Obstacle] = {}
    for path, owner, writes in _made(record) if os.geteuid() == 0 else ():
        process = _qemu_user.running_as(host, owner["label"])
        given, wanted = host.gives and owner["relabel"], _wanted(process, owner, host.gives and owner["relabel"])
        key = (os.path.dirname(path), process, given, wanted, writes)
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            if key not in tried:
                tried[key] = _settle(os.path.dirname(path), process, given, wanted, writes)
            if isinstance(tried[key], Look):
                chosen[path] = list(tried[key])
            else:
                obstacles.append((path, tried[key]))
    return chosen, obstacles + [*_of_what_is_here(host, record)]


def _of_what_is_here(host: _qemu_user.Process, record: Mapping[str, Any]) -> Iterator[tuple[str, Obstacle]]:
    """The disks that do not travel, since they are here already."""
    for disk in record["disks"] if os.geteuid() == 0 else ():
        if not _kinds.of(disk).travels:
            owner, path, writes = (record.get("owners") or {}).get(disk["target"], _NO_OWNER), disk["path"], disk["kind"] == "disk"
            process, given = _qemu_user.running_as(host, owner["label"]), host.gives and owner["relabel"]
            reason = _try(process, [(path, os.O_RDWR if writes else os.O_RDONLY)])[path]
            # One that libvirt will give to QEMU belongs to the QEMU of the source as yet.
            if reason and not (given and isinstance(_settle(os.path.dirname(path), process, given, look_of(path), writes), Look)):
                yield path, _obstacle(process, path, reason)


def require_readable(conn: Any, root: ET.Element, paths: Iterable[str]) -> None:
    """Of base images that are here: QEMU can open them.

    :raises KvmfleetError: `qemu_cannot_open`.
    """
    if os.geteuid():
        return
    host = _qemu_user.of_host(conn)
    label, relabel = _qemu_user.labels(root, None)
    process = _qemu_user.running_as(host, label)
    for path, reason in _try(process, [(path, os.O_RDONLY) for path in sorted(set(paths))]).items():
        # libvirt gives QEMU the layers too, where it gives it anything. It does not change directories.
        if reason and not (host.gives and relabel and _blocking(process, path) is None):
            obstacle = _obstacle(process, path, reason)
            raise KvmfleetError(
                "qemu_cannot_open", f"The base image cannot be used here: {obstacle.reason}.", path=path, have=obstacle.have, need=obstacle.need
            )


def look_of(path: str) -> Look:
    """Owner and mode of a file, for one that is to lie over or beside it."""
    status = os.stat(path)
    return Look(status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode))


def look_for(record: Mapping[str, Any], path: str) -> Look | None:
    """What the claim has found for a file; None in a record of a release that did not look."""
    found = record.get("looks", {}).get(path)
    return None if found is None else Look(*found)


def _made(record: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any], bool]]:
    """Path, owner and whether the guest writes to it, of all that is made here: what comes, layers, and new disks."""
    owners_of, disks = record.get("owners") or {}, {disk["target"]: disk for disk in record["disks"]}
    if record["role"] == "in_place":
        files = {name: disk["path"] for name, disk in disks.items() if disk["kind"] == "disk" and not disk.get("left_behind")}
    else:
        files = exports(dict(record))
    for name, path in files.items():
        yield path, owners_of.get(name, _NO_OWNER), name not in disks or disks[name]["kind"] == "disk"
    for disk in record.get("new_disks", ()):
        yield disk["path"], owners_of.get(disk.get("beside"), _NO_OWNER), True


def _wanted(process: _qemu_user.Process, owner: Mapping[str, Any], given: bool) -> Look:
    of_qemu = owner.get("of_qemu", (False, False))
    if owner["given"] and not given:
        of_qemu = (True, True)  # as libvirt at the source made it at each start
    return Look(*_qemu_user.numbers(process, owner, of_qemu), owner["mode"] & 0o666)  # what another host sends is no program here


def _settle(directory: str, process: _qemu_user.Process, given: bool, wanted: Look, writes: bool) -> Look | Obstacle:
    """The look that a file is to get, tried with one that is empty: the wanted one, or one of QEMU's own."""
    own = Look(process.uid, process.gid, (wanted.mode | 0o600) & 0o777)
    obstacle = None
    for look in dict.fromkeys((wanted, own)):
        found = _probe(directory, process, given, look, writes)
        if isinstance(found, Look):
            return found
        obstacle = obstacle or found
    return obstacle or Obstacle(f"nothing can be made in {directory}", None, "")


def _probe(directory: str, process: _qemu_user.Process, given: bool, look: Look, writes: bool) -> Look | Obstacle:
    path = os.path.join(directory, _file_names.PROBE + secrets.token_hex(16))
    made = contextlib.ExitStack()
    try:
        descriptor = made.enter_context(_whole_file.make(path)).fileno()
    except (FileNotFoundError, NotADirectoryError):
        raise
    except OSError as exc:
        return Obstacle(f"root can make no file in {directory}: {exc.strerror}", None, "a directory that root of this host can write to")
    except KvmfleetError as exc:
        return Obstacle(exc.message.rstrip("."), None, "a directory with room, to which no link leads but root's")
    try:
        # Where not even root may give a file away, it stays whose the filesystem says; libvirt does the same.
        with contextlib.suppress(PermissionError):
            os.fchown(descriptor, look.uid, look.gid)
        with contextlib.suppress(PermissionError):
            os.fchmod(descriptor, look.mode)
        status = os.fstat(descriptor)
        taken = Look(look.uid if status.st_uid == look.uid else -1, look.gid if status.st_gid == look.gid else -1, stat.S_IMODE(status.st_mode))
        if given:
            with contextlib.suppress(PermissionError):
                os.fchown(descriptor, process.uid, process.gid)
        reason = _try(process, [(path, os.O_RDWR if writes else os.O_RDONLY)])[path]
        return taken if reason is None else _obstacle(process, path, reason, like=f"a file in {directory}")
    finally:
        made.close()
        _files.remove_unfinished([path])


def _obstacle(process: _qemu_user.Process, path: str, reason: str, like: str | None = None) -> Obstacle:
    who = f"QEMU, which runs as {process} here,"
    blocking = _blocking(process, path)
    at = blocking or path
    have = _described(at)
    name = _qemu_user.user_name(process.uid) or process.uid
    if blocking is not None:
        why = f"{who} does not get to {like or path}: the directory {blocking} belongs to {have}"
        return Obstacle(why, have, f"a directory that lets {name} through (chmod o+x {blocking})")
    return Obstacle(f"{who} cannot open {like or path}, which belongs to {have}: {reason}", have, f"a file that {name} can open")


def _blocking(process: _qemu_user.Process, path: str) -> str | None:
    """The first directory on the way to a file that does not let QEMU through."""
    steps = {os.path.join(step, "."): step for step in _parents(os.path.realpath(os.path.dirname(path)))}
    found = _try(process, [(within, os.O_PATH) for within in steps])
    return next((step for within, step in steps.items() if found[within]), None)


def _parents(directory: str) -> Sequence[str]:
    found = [directory]
    while os.path.dirname(found[-1]) != found[-1]:
        found.append(os.path.dirname(found[-1]))
    return found[::-1]


def _try(process: _qemu_user.Process, files: Sequence[tuple[str, int]]) -> dict[str, str | None]:
    """Open files as QEMU does, in a process that becomes it; why each cannot be opened, None where it can."""
    if not files:
        return {}
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        _answer(process, files, writing)
    os.close(writing)
    answer = b""
    try:
        while select.select([reading], [], [], _TRY_TIMEOUT)[0] and (received := os.read(reading, 65536)):
            answer += received
    finally:
        os.close(reading)
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
        _reap(child)
    try:
        return dict(zip((path for path, _flags in files), json.loads(answer)))
    except ValueError:
        return dict.fromkeys((path for path, _flags in files), f"no answer within {_TRY_TIMEOUT:g} s")


def _reap(child: int) -> None:
    """One that hangs in storage which does not answer is left to the system."""
    for _attempt in range(100):
        if os.waitpid(child, os.WNOHANG)[0]:
            return
        time.sleep(0.01)


def _answer(process: _qemu_user.Process, files: Sequence[tuple[str, int]], writing: int) -> None:
    """In the child, which ends here."""
    try:
        name = _qemu_user.user_name(process.uid)
        os.setgroups([process.gid] if name is None else os.getgrouplist(name, process.gid))
        os.setresgid(process.gid, process.gid, process.gid)
        os.setresuid(process.uid, process.uid, process.uid)
        if process.uid == 0 and not process.privileged:
            _drop_capabilities()
        found: list[str | None] = []
        for path, flags in files:
            try:
                os.close(os.open(path, flags | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY))
                found.append(None)
            except OSError as exc:
                found.append(exc.strerror)
        os.write(writing, json.dumps(found).encode())
    finally:
        os._exit(0)


def _drop_capabilities() -> None:
    """A root without them opens only what root is let into, which is how libvirt starts a QEMU that runs as root."""
    header = struct.pack("Ii", _CAPABILITIES_VERSION_3, 0)
    if _LIBC.capset(header, bytes(24)):
        raise OSError(ctypes.get_errno(), "capset")


def _own(path: str, status: os.stat_result, remembers: bool) -> tuple[int, int]:
    """To whom libvirt gives a file back that the guest has open: whom it has noted, or root."""
    if remembers:
        with contextlib.suppress(OSError, KvmfleetError):
            return _qemu_user.ids(os.getxattr(path, _REMEMBERED, follow_symlinks=False).rstrip(b"\0").decode())
    return 0, 0


def _described(path: str) -> str | None:
    with contextlib.suppress(OSError):
        status = os.stat(path)
        return f"{_qemu_user.described(status.st_uid, status.st_gid)} {stat.S_IMODE(status.st_mode):04o}"
    return None
