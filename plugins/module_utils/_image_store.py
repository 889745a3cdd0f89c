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

from . import _identity, _qemu_img
from ._download import BROKE
from ._errors import KvmfleetError
from ._incoming import allocated, shortage_for
from ._journal import Journal
from ._state_dir import StateDir, sync_directory

STORE = "_base"
PART_SUFFIX = ".part"
_LOCK_TIMEOUT = 24 * 3600.0


def lock_name(sha256: str) -> str:
    """The lock under which an image is looked for, fetched and removed."""
    return f"base-{sha256}"


class ImageStore:
    """Finds and fetches base images.

    :param images_path: fetched images lie in `_base/SHA256.FORMAT` below it.
    :param directories: searched for images, all levels; symlinks are not followed.
    :param writable: paths that guests of this host write to; such a file is never a base, whatever it contains now.
    """

    def __init__(self, state: StateDir, images_path: str, directories: list[str], writable: set[str]) -> None:
        self.state = state
        self.images_path = images_path
        self.directories = directories
        self.writable = writable

    def look(self, base: dict[str, Any]) -> str | None:
        """The path of a file with exactly this content, or None. Waits for a fetch or a removal that runs, so that what it says is not outdated."""
        with self._locked(base):
            return self._find(base)

    def refuse_impostor(self, base: dict[str, Any]) -> None:
        """Refuse if another file bears the base's name here: somebody expects that name to mean this content.

        :raises KvmfleetError: `base_differs`.
        """
        path = base["path"]
        if os.path.lexists(path):
            found = (
                _identity.identity(self.state, path, base["format"]) if os.path.isfile(path) and not os.path.islink(path) else {"sha256": "not a regular file"}
            )
            raise KvmfleetError(
                "base_differs",
                f"{path} on this host is not the base image of the guest: its sha256 is {found['sha256']}, the guest needs {base['sha256']}. Rename it (no "
                "guest here may lose its own base by that) or put the right image there; the guest was not touched.",
                path=path,
                have=found,
                need={key: base[key] for key in ("sha256", "format", "virtual_size")},
            )

    def fetch(self, base: dict[str, Any], fill: Callable[[str, int], int], *, resumable: bool = False) -> tuple[str, int]:
        """Fetch the base unless it came meanwhile; one fetch a host, others wait for it and find it.

        :param fill: `fill(path, size)` writes the file and returns the bytes that travelled.
        :param resumable: it goes on with what an earlier fetch left, and what it leaves when it breaks is kept.
        :returns: the path, and the bytes that travelled.
        """
        directory = os.path.join(self.images_path, STORE)
        with contextlib.suppress(FileExistsError):
            os.mkdir(directory, 0o755)
        path = os.path.join(directory, f"{base['sha256']}.{base['format']}")
        with self._locked(base):
            found = self._find(base)
            if found is not None:
                return found, 0
            part = path + PART_SUFFIX
            self._require_space(directory, part, base)
            continued = resumable and os.path.lexists(part)
            try:
                sent = fill(part, base["size_bytes"])
                sha256 = _identity.digest(self.state, part)
                if continued and sha256 != base["sha256"]:
                    # What an earlier fetch left was not what this source has, or a crash has spoilt it.
                    os.unlink(part)
                    sent += fill(part, base["size_bytes"])
                    sha256 = _identity.digest(self.state, part)
                self._prove(part, sha256, base)
                # Read-only for everyone: no tool may commit an overlay into a file that other guests stand on.
                os.chmod(part, 0o444)
                os.rename(part, path)
                sync_directory(directory)
            except BaseException as exc:
                if not (resumable and getattr(exc, "code", BROKE) == BROKE):
                    with contextlib.suppress(FileNotFoundError):
                        os.unlink(part)
                raise
            _identity.remember(self.state, path, base["sha256"])
        return path, sent

    def _locked(self, base: dict[str, Any]) -> contextlib.AbstractContextManager[None]:
        return self.state.lock(lock_name(base["sha256"]), timeout=_LOCK_TIMEOUT)

    def _find(self, base: dict[str, Any]) -> str | None:
        """Only files of the right size are read."""
        for path in self._candidates(base):
            if path not in self.writable and self._has_content(path, base):
                return path
        return None

    def _prove(self, path: str, sha256: str, base: dict[str, Any]) -> None:
        """The digest goes first: no tool of QEMU looks at anything else."""
        if sha256 != base["sha256"]:
            raise KvmfleetError(
                "base_differs",
                f"What was fetched is not the base image {base['path']}: its sha256 is {sha256}, expected {base['sha256']}. It was thrown away.",
                need=base["sha256"],
                have=sha256,
            )
        layers = _qemu_img.chain(path, base["format"], [os.path.dirname(path)])
        if len(layers) != 1:
            raise KvmfleetError("chain_too_deep", f"The base image {base['path']} has a backing file of its own, which is not supported yet.")
        if layers[0].virtual_size != base["virtual_size"]:
            raise KvmfleetError(
                "base_differs",
                f"As {base['format']}, the base image {base['path']} has {layers[0].virtual_size} bytes for a guest, expected {base['virtual_size']}.",
                need=base["virtual_size"],
                have=layers[0].virtual_size,
            )

    def _candidates(self, base: dict[str, Any]) -> Iterator[str]:
        likely = [os.path.join(self.images_path, STORE, f"{base['sha256']}.{base['format']}"), base["path"]]
        for path in likely:
            if self._may_be(path, base):
                yield path
        for directory in dict.fromkeys([self.images_path, *self.directories]):
            for parent, subdirectories, names in os.walk(directory):
                subdirectories.sort()
                for path in (os.path.join(parent, name) for name in sorted(names)):
                    if path not in likely and self._may_be(path, base):
                        yield path

    def _may_be(self, path: str, base: dict[str, Any]) -> bool:
        if path.endswith(PART_SUFFIX) or not any(path.startswith(directory.rstrip("/") + "/") for directory in [self.images_path, *self.directories]):
            return False
        try:
            status = os.lstat(path)
        except OSError:
            return False  # gone since it was listed
        return stat.S_ISREG(status.st_mode) and status.st_size == base["size_bytes"]

    def _has_content(self, path: str, base: dict[str, Any]) -> bool:
        try:
            _identity.require(self.state, path, base)
        except (KvmfleetError, FileNotFoundError):
            return False
        return True

    def _require_space(self, directory: str, part: str, base: dict[str, Any]) -> None:
        shortage = shortage_for(Journal(self.state), directory, max(0, base["size_bytes"] - allocated(part)))
        if shortage:
            raise KvmfleetError("no_space", f"There is no room for the base image {base['path']}: {shortage}.", **shortage.numbers())
