# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Files into which QEMU or virtlogd writes what a guest's console says, to be continued where the guest goes on.

They travel in the manifest, as far as anything of them outlives the next start: libvirt empties a log whose definition does not say
`append='on'`. The source keeps its own for good, as libvirt keeps logs. No move fails for a log.
"""

from __future__ import annotations

import base64
import contextlib
import os
import xml.etree.ElementTree as ET
import zlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, BinaryIO

from ..._journal.records import Journal
from ..._rules import file_names as _file_names
from ..._rules.errors import KvmfleetError, shown
from ..._rules.value_kinds import BASE64, FLAG, LOG_DIRECTORY, MOST_FILES, SOURCE_PATH, logs_below
from ..._rules.values import Each
from ..._storage import files as _files
from ..._storage.disk_use import DiskUses
from ..._system import whole_file as _whole_file
from .belonging import Belonging, Guest, OwnFile

LIMIT = 2 * 1024 * 1024
"""Bytes of a log that travel, its last ones: so long is a log when virtlogd begins another one, unless told otherwise."""
_ALL = 4 * LIMIT  # bytes of all logs of a guest


class ConsoleLogs(Belonging):
    name = "console_logs"
    form = Each({"path": SOURCE_PATH, "content": BASE64, "whole": FLAG}, MOST_FILES)

    def facts(self, guest: Guest) -> dict[str, Any]:
        return {self.name: facts(guest.root)}

    def refusals(self, guest: Guest, facts: Mapping[str, Any], directories: Sequence[str]) -> Iterator[tuple[str, str]]:
        return refusals(facts[self.name], directories)

    def files(self, told: Mapping[str, Any], directories: Sequence[str]) -> Iterator[OwnFile]:
        return (OwnFile(log["path"], logs_below(directories)) for log in told.get(self.name) or ())

    def offer(self, conn: Any, record: Mapping[str, Any]) -> list[dict[str, Any]]:
        return read(record)

    def strange(self, root: ET.Element, record: Mapping[str, Any]) -> Iterator[str]:
        planned = {log["path"] for log in record.get(self.name) or ()}
        return (f"it writes the log {shown(log['path'])}, which is none of the plan" for log in facts(root) if log["path"] not in planned)

    def receive(self, conn: Any, journal: Journal, record: dict[str, Any], given: Any) -> dict[str, Any]:
        return receive(journal, record, given)

    def withdraw(self, conn: Any, journal: Journal, uses: DiskUses, record: dict[str, Any]) -> None:
        remove(uses, record)


def facts(root: ET.Element) -> list[dict[str, Any]]:
    """The logs of a definition, each `path` once, and whether it is to `append` to what is there."""
    found: dict[str, bool] = {}
    for device in root.findall("devices/*"):
        source = device.find("source") if device.get("type") == "file" else None
        for element, path in ((source, "path"), (device.find("log"), "file")):
            if element is not None and element.get(path):
                found[element.attrib[path]] = found.get(element.attrib[path], False) or element.get("append") == "on"
    return [{"path": path, "append": append} for path, append in found.items()]


def refusals(logs: Sequence[Mapping[str, Any]], directories: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Code and sentence of each log that a host will not write to, since nobody said that logs are there."""
    allowed = logs_below(directories)
    for log in logs:
        if not any(_below(log["path"], directory) for directory in allowed):
            yield (
                "unsupported_log_file",
                f"{log['path']}: the log is in none of the directories {', '.join(allowed)}, so it is not carried: write it below {LOG_DIRECTORY}, or add its "
                "directory to kvmfleet_image_directories.",
            )


def read(record: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Of each log that outlives the next start the `path`, the end of its `content` (zlib, Base64), and whether that is the `whole` of it.

    One that cannot be read is left out.
    """
    logs = [log["path"] for log in record.get("console_logs", ()) if log["append"] or not record["was_running"]]
    limit = min(LIMIT, _ALL // max(1, len(logs)))
    found = []
    for path in logs:
        with contextlib.suppress(OSError, KvmfleetError), _opened(path) as stream:
            size = os.fstat(stream.fileno()).st_size
            stream.seek(max(0, size - limit))
            content = base64.b64encode(zlib.compress(stream.read(limit), 1)).decode()
            found.append({"path": path, "content": content, "whole": size <= limit})
    return found


def receive(journal: Journal, record: dict[str, Any], given: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Let the logs be here for QEMU to go on with. One that is here and is how the given one begins gets the rest; any other one is left as it is.

    :returns: the record, which knows the files that were made, and in its history what did not come.
    """
    made: dict[str, int] = {}
    notes = []
    for log in given:
        path = log["path"]
        if path in {known["path"] for known in record.get("console_logs", ())}:
            try:
                content = _content(log)
                if os.path.lexists(path):
                    notes += [] if _extend(path, content) else [f"console log {path} is another one here, to which the guest adds"]
                else:
                    made[path] = _make(_part(record, path), content)
                    notes += [] if log["whole"] else [f"of console log {path} the last {len(content)} bytes came"]
            except (OSError, ValueError, zlib.error, KvmfleetError) as exc:
                notes.append(f"console log {path} did not come: {exc}")
    if made or notes:
        record = journal.update(record, log_inodes={**record.get("log_inodes", {}), **made}, note="; ".join(notes) or None)
    for path in made:
        with contextlib.suppress(OSError, KvmfleetError):
            _whole_file.publish(_part(record, path), path)
    _remove_parts(record)
    return record


def remove(uses: DiskUses, record: Mapping[str, Any]) -> None:
    """Delete the files that `receive` has made, but for those that something else writes to by now, and what an interrupted one has left."""
    _remove_parts(record)
    with contextlib.suppress(OSError):
        _files.remove_unused(uses, [path for path, inode in record.get("log_inodes", {}).items() if _is(path, inode)], operation=record["uuid"])


def _is(path: str, inode: int) -> bool:
    try:
        return os.lstat(path).st_ino == inode
    except OSError:
        return False


def _remove_parts(record: Mapping[str, Any]) -> None:
    with contextlib.suppress(OSError):
        _files.remove_unfinished(_part(record, log["path"]) for log in record.get("console_logs", ()))


def _part(record: Mapping[str, Any], path: str) -> str:
    return _file_names.beside(path, _file_names.PART, record)


def _below(path: str, directory: str) -> bool:
    """Whether the path lies in the directory, as written and wherever symbolic links lead."""
    pairs = ((os.path.normpath(path), os.path.normpath(directory)), (os.path.realpath(path), os.path.realpath(directory)))
    return all(lower.startswith(upper.rstrip("/") + "/") for lower, upper in pairs)


@contextlib.contextmanager
def _opened(path: str, *, writable: bool = False) -> Iterator[BinaryIO]:
    with _whole_file.opened(path, writable=writable) as descriptor, os.fdopen(descriptor, "r+b" if writable else "rb", closefd=False) as stream:
        yield stream


def _content(log: Mapping[str, Any]) -> bytes:
    content = zlib.decompressobj().decompress(base64.b64decode(log["content"], validate=True), LIMIT + 1)
    if len(content) > LIMIT:
        raise ValueError(f"it has more than {LIMIT} bytes")
    return content


def _extend(path: str, content: bytes) -> bool:
    """Append what of the content the file does not have yet; False, and nothing done, where it has something else."""
    with _opened(path, writable=True) as stream:
        known = stream.read(LIMIT + 1)
        if content.startswith(known):
            stream.write(content[len(known) :])
        return content.startswith(known)


def _make(path: str, content: bytes) -> int:
    """A new file that only root reads, as virtlogd makes it; its inode."""
    _files.remove_unfinished([path])
    with _whole_file.make(path) as stream:
        stream.write(content)
    return _whole_file.complete(path).st_ino
