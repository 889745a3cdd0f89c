# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later


"""Base images of one host, known by what they contain."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Callable, Iterator
from typing import Any

from .._journal.records import Journal
from .._journal.state_dir import StateDir
from .._rules.errors import KvmfleetError
from .._system import whole_file as _whole_file
from . import files as _files, identity as _identity, leftovers as _leftovers, qemu_img as _qemu_img
from .download import BROKE
from .incoming import allocated, shortage_for

STORE = "_base"
PART_SUFFIX = ".part"
_READ_ONLY = _whole_file.Look(-1, -1, 0o444)
_GOES_ON = (BROKE, "copy_failed", "copy_stalled", "no_space")
_LOCK_TIMEOUT = 24 * 3600.0


def lock_name(sha256: str) -> str:
    """The lock under which an image is looked for, fetched and removed."""
    return f"base-{sha256}"


class ImageStore:
    """Finds and fetches base images.

    :param images_path: fetched images lie in `_base/SHA256.FORMAT` below it, or beside that where another file has the name.
    :param directories: searched for images, all levels; symlinks are not followed.
    :param writable: paths that guests of this host write to; such a file is never a base, whatever it contains now.
    """

    def __init__(self, state: StateDir, images_path: str, directories: list[str], writable: set[str]) -> None:
        self.state = state
        self.images_path = images_path
        self.directories = list(dict.fromkeys([images_path, *directories]))
        self.writable = writable

    def look(self, base: dict[str, Any]) -> str | None:
        """The path of a file with exactly this content, or None. Waits for a fetch or a removal that runs, so that what it says is not outdated."""
        with self._locked(base):
            return self._find(base)

    def namesake(self, base: dict[str, Any]) -> str | None:
        """The path of the base where that is a file of other content here. It is left alone: ours bears the name of its content. Nothing is waited for."""
        path = base["path"]
        there = self._is_ours(path) and os.path.lexists(path)
        return path if there and not (self._may_be(path, base) and self._has_content(path, base)) else None

    def fetch(self, base: dict[str, Any], fill: Callable[[str, int], int]) -> tuple[str, int]:
        """Fetch the base unless it came meanwhile; one fetch a host, others wait for it and find it. Hosts that share the store fetch apart from each other.

        :param fill: `fill(path, size)` writes the file and returns the bytes that travelled.
            It goes on with what an earlier fetch has left, and what it leaves itself when it breaks is kept.
        :returns: the path, and the bytes that travelled.
        :raises KvmfleetError: `image_is_symlink` where a link lies in the way of what would be written.
        """
        directory = os.path.join(self.images_path, STORE)
        _whole_file.make_directory(directory, 0o755)
        path = self._names(base)[0]
        with self._locked(base):
            found = self._find(base)
            if found is not None:
                return found, 0
            part = _qemu_img.check_path(f"{path}.{self.state.identity()}{PART_SUFFIX}", [self.images_path])
            below = self._below(base)
            self._require_space(directory, part, base)
            continued = os.path.lexists(part)
            try:
                sent = fill(part, base["size_bytes"])
                content = _identity.content(self.state, part, base["backing"])
                if continued and _identity.combined(content, base["backing"]) != base["sha256"]:
                    # What an earlier fetch left was not what this source has, or a crash has spoilt it.
                    _files.remove_unfinished([part])
                    sent += fill(part, base["size_bytes"])
                    content = _identity.content(self.state, part, base["backing"])
                self._prove(part, _identity.combined(content, base["backing"]), base, below)
                # Read-only for everyone: no tool may commit an overlay into a file that other guests stand on.
                _whole_file.complete(part, _READ_ONLY)
                path = self._name(part, base)
            except BaseException as exc:
                with contextlib.suppress(FileNotFoundError):
                    if getattr(exc, "code", BROKE) in _GOES_ON:
                        _leftovers.give_back(part)
                    else:
                        _files.remove_unfinished([part])
                raise
            _identity.remember(self.state, path, content, base["backing"])
        return path, sent

    def _names(self, base: dict[str, Any]) -> list[str]:
        """What an image may be called in the store: by its content, and where that name is taken by anything else, with the digits of this host as well."""
        names = [f"{base['sha256']}.{base['format']}", f"{base['sha256']}.{self.state.identity()}.{base['format']}"]
        return [os.path.join(self.images_path, STORE, name) for name in names]

    def _name(self, part: str, base: dict[str, Any]) -> str:
        """Give a complete image its name. Another host that shares the store may have been faster, and guests may stand on its file already."""
        names = self._names(base)
        for path in names:
            try:
                _whole_file.publish(part, path)
            except KvmfleetError as exc:
                if exc.code != "path_taken":
                    raise
                if not self._has_content(path, base):
                    continue
                _files.remove_unfinished([part])
            return path
        raise KvmfleetError(
            "base_differs",
            f"Neither {names[0]} nor {names[1]} contains what its name says. Move away the one that no guest stands on (virsh domblklist, qemu-img info), and "
            "repeat; the guest was not touched.",
            path=names[0],
            need=base["sha256"],
        )

    def _below(self, base: dict[str, Any]) -> str | None:
        """Where the image that a layer stands on is here."""
        if base["backing"] is None:
            return None
        path = self.look({**base["backing"], "backing": None})
        if path is None:
            raise KvmfleetError(
                "base_missing",
                f"The base image {base['path']} is a layer on {base['backing']['path']} (sha256 {base['backing']['sha256']}), which this host lacks.",
                need=base["backing"]["sha256"],
            )
        return path

    def _locked(self, base: dict[str, Any]) -> contextlib.AbstractContextManager[None]:
        return self.state.lock(lock_name(base["sha256"]), timeout=_LOCK_TIMEOUT)

    def _find(self, base: dict[str, Any]) -> str | None:
        """Only files of the right size are read."""
        for path in self._candidates(base):
            if path not in self.writable and self._has_content(path, base):
                return path
        return None

    def _prove(self, path: str, sha256: str, base: dict[str, Any], below: str | None) -> None:
        """The SHA-256 goes first: no tool of QEMU looks at anything else. A layer is then put on this host's file below."""
        if sha256 != base["sha256"]:
            raise KvmfleetError(
                "base_differs",
                f"What was fetched is not the base image {base['path']}: its sha256 is {sha256}, expected {base['sha256']}. It was thrown away.",
                need=base["sha256"],
                have=sha256,
            )
        if below is not None:
            _qemu_img.rebase_unsafe(path, base["format"], below, base["backing"]["format"])
        layers = _qemu_img.chain(path, base["format"], self.directories)
        if (layers[0].backing_path is None) != (below is None):
            raise KvmfleetError("base_differs", f"The base image {base['path']} names a backing file; the one of the guest stands on nothing.")
        if layers[0].virtual_size != base["virtual_size"]:
            raise KvmfleetError(
                "base_differs",
                f"As {base['format']}, the base image {base['path']} has {layers[0].virtual_size} bytes for a guest, expected {base['virtual_size']}.",
                need=base["virtual_size"],
                have=layers[0].virtual_size,
            )

    def _candidates(self, base: dict[str, Any]) -> Iterator[str]:
        likely = [*self._names(base), base["path"]]
        for path in likely:
            if self._may_be(path, base):
                yield path
        for directory in self.directories:
            for parent, subdirectories, names in os.walk(directory):
                subdirectories.sort()
                for path in (os.path.join(parent, name) for name in sorted(names)):
                    if path not in likely and self._may_be(path, base):
                        yield path

    def _may_be(self, path: str, base: dict[str, Any]) -> bool:
        if path.endswith(PART_SUFFIX) or not self._is_ours(path):
            return False
        try:
            status = os.lstat(path)
        except OSError:
            return False  # gone since it was listed
        return stat.S_ISREG(status.st_mode) and status.st_size == base["size_bytes"]

    def _is_ours(self, path: str) -> bool:
        return any(path.startswith(directory.rstrip("/") + "/") for directory in self.directories)

    def _has_content(self, path: str, base: dict[str, Any]) -> bool:
        try:
            _identity.require(self.state, path, base, self.directories)
        except (KvmfleetError, FileNotFoundError):
            return False
        return True

    def _require_space(self, directory: str, part: str, base: dict[str, Any]) -> None:
        need = max(0, base["size_bytes"] - allocated(part))
        shortage = shortage_for(Journal(self.state), directory, need)
        if shortage and _leftovers.make_room(self.state):
            shortage = shortage_for(Journal(self.state), directory, need)
        if shortage:
            raise KvmfleetError("no_space", f"There is no room for the base image {base['path']}: {shortage}.", **shortage.numbers())
