# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later


"""Base images of one host, known by what they contain."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import Any

from . import _identity, _qemu_img
from ._content_digest import data_bytes
from ._errors import KvmfleetError
from ._incoming import shortage_for
from ._journal import Journal
from ._pull import Client
from ._state_dir import StateDir, sync_directory

STORE = "_base"


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

    def find(self, base: dict[str, Any]) -> str | None:
        """The path of a file with exactly this content, or None. Only files of the right size are read."""
        for path in self._candidates(base):
            if path not in self.writable and self._has_content(path, base):
                return path
        return None

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

    def fetch(self, base: dict[str, Any], client: Client) -> tuple[str, int]:
        """Fetch the base through the channel; one fetch a host, others wait for it and find it.

        :returns: the path, and the bytes that travelled.
        """
        directory = os.path.join(self.images_path, STORE)
        with contextlib.suppress(FileExistsError):
            os.mkdir(directory, 0o755)
        path = os.path.join(directory, f"{base['sha256']}.{base['format']}")
        with self.state.lock(f"base-{base['sha256']}", timeout=24 * 3600):
            found = self.find(base)
            if found is not None:
                return found, 0
            self._require_space(directory, base)
            part = path + ".part"
            try:
                client.copy(f"base-{base['sha256']}", part, base["size_bytes"])
                _identity.require(self.state, part, base)
                if len(_qemu_img.chain(part, base["format"], [directory])) != 1:
                    raise KvmfleetError("chain_too_deep", f"The base image {base['path']} has a backing file of its own, which is not supported yet.")
                sent = data_bytes(part)
                # Read-only for everyone: no tool may commit an overlay into a file that other guests stand on.
                os.chmod(part, 0o444)
                os.rename(part, path)
                sync_directory(directory)
            except BaseException:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(part)
                raise
        return path, sent

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
        inside = any(path.startswith(directory.rstrip("/") + "/") for directory in [self.images_path, *self.directories])
        return inside and not path.endswith(".part") and os.path.isfile(path) and not os.path.islink(path) and os.path.getsize(path) == base["size_bytes"]

    def _has_content(self, path: str, base: dict[str, Any]) -> bool:
        try:
            _identity.require(self.state, path, base)
        except KvmfleetError:
            return False
        return True

    def _require_space(self, directory: str, base: dict[str, Any]) -> None:
        shortage = shortage_for(Journal(self.state), directory, base["size_bytes"])
        if shortage:
            raise KvmfleetError("no_space", f"There is no room for the base image {base['path']}: {shortage}.", **shortage.numbers())
