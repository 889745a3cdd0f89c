# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Durable, private JSON files below one state directory, and the locks that guard them.

Every file carries `schema_version`; a reader that meets a newer one refuses, because it cannot know what it would lose.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import re
import secrets
import tempfile
import time
from collections.abc import Iterator
from typing import Any

from .._rules.errors import KvmfleetError
from .._system.whole_file import sync_directory

DEFAULT_STATE_PATH = "/var/lib/kvmfleet"
SCHEMA_VERSION = 1
_LOCK_SUFFIX = ".lock"
_NAME = re.compile(r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,127}$")


class StateDir:
    """The state directory of one host (mode 0700): `migrations/`, `claims/`, `locks/`, `exports/`, `digests/`."""

    def __init__(self, path: str = DEFAULT_STATE_PATH) -> None:
        self.path = path

    def ensure(self, *kind: str) -> str:
        """Create the directory (and the one for `kind`) with mode 0700 and return its path."""
        directory = self.path
        try:
            os.makedirs(directory, mode=0o700, exist_ok=True)
            for part in kind:
                directory = os.path.join(directory, part)
                with contextlib.suppress(FileExistsError):
                    os.mkdir(directory, 0o700)
        except OSError as exc:
            raise KvmfleetError("state_directory_unusable", f"The state directory {directory} cannot be created: {exc}.", path=directory) from exc
        return directory

    def file(self, kind: str, name: str, suffix: str = ".json") -> str:
        if not _NAME.match(name):
            raise KvmfleetError("invalid_name", f"{name!r} cannot name a file in {kind}/: letters, digits, '_', '.', '-' only.", value=name)
        return os.path.join(self.path, kind, name + suffix)

    def read(self, kind: str, name: str) -> dict[str, Any] | None:
        """Return the record, or None where there is none."""
        return self._load(self.file(kind, name))

    def names(self, kind: str) -> list[str]:
        """The names of all records of a kind."""
        try:
            entries = os.listdir(os.path.join(self.path, kind))
        except FileNotFoundError:
            return []
        return sorted(entry[: -len(".json")] for entry in entries if entry.endswith(".json") and not entry.startswith("."))

    def read_all(self, kind: str) -> list[dict[str, Any]]:
        records = (self._load(os.path.join(self.path, kind, f"{name}.json")) for name in self.names(kind))
        return [record for record in records if record is not None]

    def write(self, kind: str, name: str, record: dict[str, Any]) -> None:
        """Replace the record atomically; it is on disk, directory entry included, when this returns."""
        directory = self.ensure(kind)
        target = self.file(kind, name)
        data = json.dumps(dict(record, schema_version=SCHEMA_VERSION), indent=1, sort_keys=True).encode()
        try:
            descriptor, temporary = tempfile.mkstemp(prefix=".", suffix=".tmp", dir=directory)
            try:
                with os.fdopen(descriptor, "wb") as stream:
                    stream.write(data)
                    stream.flush()
                    os.fsync(stream.fileno())
                os.replace(temporary, target)
            except BaseException:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(temporary)
                raise
            sync_directory(directory)
        except OSError as exc:
            raise KvmfleetError("state_directory_unusable", f"The record {target} cannot be written: {exc}.", path=target) from exc

    def identity(self) -> str:
        """Eight hexadecimal digits, drawn once, that tell this host from the others that share a directory with it: names and machine IDs are cloned."""
        known = self.read("host", "identity")
        if known is None:
            with self.lock("host-identity"):
                known = self.read("host", "identity")
                if known is None:
                    known = {"digits": secrets.token_hex(4)}
                    self.write("host", "identity", known)
        return str(known["digits"])

    def remove(self, kind: str, name: str) -> bool:
        """Remove the record; False where there was none."""
        target = self.file(kind, name)
        try:
            os.unlink(target)
        except FileNotFoundError:
            return False
        sync_directory(os.path.dirname(target))
        return True

    @contextlib.contextmanager
    def lock(self, name: str, timeout: float = 60.0) -> Iterator[None]:
        """Hold the exclusive flock `locks/NAME`; it dies with the process that holds it. The file's time tells when that was last.

        :param timeout: seconds to wait before KvmfleetError `locked` is raised.
        """
        self.ensure("locks")
        path = self.file("locks", name, _LOCK_SUFFIX)
        deadline = time.monotonic() + timeout
        while (descriptor := _locked(path, os.O_CREAT)) is None:
            if time.monotonic() >= deadline:
                raise KvmfleetError("locked", f"{path} has been held by another process for more than {timeout:g} s.", path=path)
            time.sleep(0.05)
        try:
            os.utime(descriptor)
            yield
        finally:
            os.close(descriptor)

    def remove_unused_locks(self, before: float, *, dry_run: bool = False) -> list[str]:
        """Remove the files of locks that nobody has held since a time (in seconds since the epoch), or only say which; their names."""
        directory = os.path.join(self.path, "locks")
        removed = []
        for entry in sorted(os.listdir(directory)) if os.path.isdir(directory) else []:
            path = os.path.join(directory, entry)
            if entry.endswith(_LOCK_SUFFIX) and _is_older(path, before) and (dry_run or _remove_lock(path, before)):
                removed.append(entry[: -len(_LOCK_SUFFIX)])
        return removed

    @staticmethod
    def _load(path: str) -> dict[str, Any] | None:
        try:
            with open(path, "rb") as stream:
                record = json.load(stream)
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as exc:
            raise KvmfleetError("record_unreadable", f"The record {path} cannot be read: {exc}. Restore it from a backup or move it away.", path=path) from exc
        version = record.get("schema_version") if isinstance(record, dict) else None
        if not isinstance(version, int) or version < 1:
            raise KvmfleetError("record_unreadable", f"The record {path} carries no schema_version; it was not written by kvmfleet.compute.", path=path)
        if version > SCHEMA_VERSION:
            raise KvmfleetError(
                "schema_too_new",
                f"The record {path} has schema_version {version}, this release knows up to {SCHEMA_VERSION}: use a newer kvmfleet.compute.",
                path=path,
                have=version,
                need=SCHEMA_VERSION,
            )
        return record


def _locked(path: str, flags: int = 0) -> int | None:
    """The descriptor of a lock file that is now held, None where another process holds it or has just removed it."""
    descriptor = os.open(path, os.O_RDWR | flags | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # Whoever removes the file of a lock holds it meanwhile: what was locked here may have lost its name before that.
        if os.path.samestat(os.fstat(descriptor), os.stat(path)):
            return descriptor
    except OSError as exc:
        if exc.errno not in (errno.EAGAIN, errno.EACCES, errno.ENOENT):
            os.close(descriptor)
            raise
    os.close(descriptor)
    return None


def _remove_lock(path: str, before: float) -> bool:
    with contextlib.suppress(FileNotFoundError):
        descriptor = _locked(path)
        if descriptor is not None:
            try:
                if _is_older(path, before):
                    os.unlink(path)
                    return True
            finally:
                os.close(descriptor)
    return False


def _is_older(path: str, before: float) -> bool:
    try:
        return os.stat(path).st_mtime < before
    except FileNotFoundError:
        return False
