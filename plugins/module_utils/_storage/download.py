# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A file of known size over HTTP or from a path, written where an earlier attempt stopped. What it contains is for the caller to prove."""

from __future__ import annotations

import contextlib
import os
import re
import stat
import time
from collections.abc import Callable
from http.client import HTTPException
from typing import Any
from urllib.error import HTTPError
from urllib.parse import quote, unquote, urlsplit

from .._rules.errors import KvmfleetError
from .._system import whole_file as _whole_file

BROKE = "download_broke"  # what has arrived is worth keeping
_CHUNK = 1024 * 1024
_BLOCK = 64 * 1024
_ZERO = bytes(_BLOCK)
_RETRY = 1.0
_ANSWER = 30.0  # seconds of silence; a connection is made again rather than that it looks like a host that hangs
_PROGRESS = 64 * 1024
_PASSING = frozenset({408, 429, 500, 502, 503, 504})
_CONTENT_RANGE = re.compile(r"bytes (\d+)-\d+/(\d+|\*)$")


def url_of(store: str, base: dict[str, Any]) -> str:
    """Where an image store has a base image: `{sha256}`, `{format}` and `{name}` are replaced; without any, it is `STORE/SHA256.FORMAT`.

    :raises KvmfleetError: `invalid_value`.
    """
    values = {"sha256": base["sha256"], "format": base["format"], "name": quote(os.path.basename(base["path"]), safe="")}
    url = store
    for name, value in values.items():
        url = url.replace("{" + name + "}", value)
    if url == store:
        url = f"{store.rstrip('/')}/{base['sha256']}.{base['format']}"
    parts = urlsplit(url)
    local = parts.scheme == "file" and parts.netloc in ("", "localhost") and parts.path.startswith("/")
    if not local and not (parts.scheme in ("http", "https") and parts.hostname):
        raise KvmfleetError("invalid_value", f"url: expected http://, https:// or file:///, got {store!r}.")
    if parts.username is not None or parts.password is not None:
        raise KvmfleetError("invalid_value", "url: a user or password does not belong into a URL, which logs show; put it into the host's ~/.netrc.")
    return url


def shown(url: str) -> str:
    """The URL without what might be a token."""
    return urlsplit(url)._replace(query="", fragment="").geturl()


class Download:
    """One file of an image store.

    :param opener: `opener(url, headers, timeout)` answers with a response as urllib's, following a bounded number of redirects.
    :param stall_timeout: seconds without progress after which it is given up; a connection that breaks is made again within them.
    :param bandwidth_limit: bytes a second, 0 for none.
    :param reached: is told the bytes of the file that are here, each time there are more.
    """

    def __init__(
        self,
        url: str,
        opener: Callable[[str, dict[str, str], float], Any],
        *,
        stall_timeout: float,
        bandwidth_limit: int = 0,
        reached: Callable[[int], None] = lambda length: None,
    ) -> None:
        self.url = url
        self.name = shown(url)
        self.stall_timeout = stall_timeout
        self.bandwidth_limit = bandwidth_limit
        self._opener = opener
        self._reached = reached

    def fill(self, path: str, size: int) -> int:
        """Complete the file, which becomes `size` bytes long and is on disk when this returns.

        :returns: the bytes that travelled.
        :raises KvmfleetError: `download_broke`, `download_refused`, `no_space`.
        """
        travelled, answered, started = 0, False, time.monotonic()
        with _Part(path, size) as part:
            best, since = part.length, started
            while part.length < size:
                try:
                    with contextlib.closing(self._open(part, size)) as stream:
                        answered = True
                        while part.length < size:
                            chunk = stream.read1(min(_CHUNK, size - part.length))
                            if not chunk:
                                raise OSError("the connection ended early")
                            part.append(chunk)
                            travelled += len(chunk)
                            self._reached(part.length)
                            # Only more of the file than ever counts, so that a server that begins again each time ends it.
                            if part.length >= min(best + _PROGRESS, size):
                                best, since = part.length, time.monotonic()
                            elif time.monotonic() - since > self.stall_timeout:
                                raise OSError(f"no progress for {self.stall_timeout:g} s")
                            self._pace(travelled, started)
                except (OSError, HTTPException) as exc:
                    if not answered or time.monotonic() - since > self.stall_timeout:
                        raise KvmfleetError(BROKE, f"{self.name}: {part.length} of {size} bytes arrived: {exc}.", url=self.name) from exc
                    time.sleep(_RETRY)
            part.finish()
        return travelled

    def _open(self, part: _Part, size: int) -> Any:
        """What follows on the part; a server that cannot continue lets the part begin again."""
        if urlsplit(self.url).scheme == "file":
            return self._open_file(part, size)
        headers = {"Accept-Encoding": "identity", **({"Range": f"bytes={part.length}-"} if part.length else {})}
        try:
            response = self._opener(self.url, headers, max(1.0, min(_ANSWER, self.stall_timeout / 3)))
        except HTTPError as exc:
            exc.close()
            if exc.code in _PASSING:
                raise OSError(f"HTTP status {exc.code}") from exc
            raise self._refusal(f"HTTP status {exc.code}") from exc
        try:
            self._check(response, part, size)
        except BaseException:
            response.close()
            raise
        return response

    def _check(self, response: Any, part: _Part, size: int) -> None:
        if urlsplit(response.geturl()).scheme not in ("http", "https"):
            raise self._refusal(f"it leads to {shown(response.geturl())}")
        if response.status == 206:
            found = _CONTENT_RANGE.match(response.headers.get("Content-Range", ""))
            if found is None or int(found[1]) != part.length:
                raise self._refusal(f"it answered the request for what follows on {part.length} bytes with {response.headers.get('Content-Range')!r}")
            total = None if found[2] == "*" else int(found[2])
        elif response.status == 200:
            total = None if response.headers.get("Content-Length") is None else int(response.headers["Content-Length"])
            part.begin_again()
        else:
            raise self._refusal(f"HTTP status {response.status}")
        if total not in (None, size):
            raise self._refusal(f"it has {total} bytes, the base image {size}")

    def _open_file(self, part: _Part, size: int) -> Any:
        path = unquote(urlsplit(self.url).path)
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as exc:
            raise self._refusal(exc.strerror) from exc
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or status.st_size != size:
            os.close(descriptor)
            raise self._refusal(f"it has {status.st_size} bytes, the base image {size}" if stat.S_ISREG(status.st_mode) else "not a regular file")
        stream = os.fdopen(descriptor, "rb")
        stream.seek(part.length)
        return stream

    def _refusal(self, reason: str) -> KvmfleetError:
        return KvmfleetError("download_refused", f"{self.name}: {reason}.", url=self.name)

    def _pace(self, travelled: int, started: float) -> None:
        # In short sleeps, so that it does not look like one that hangs.
        while self.bandwidth_limit and (early := started + travelled / self.bandwidth_limit - time.monotonic()) > 0:
            time.sleep(min(early, _RETRY))


class _Part:
    """The file as far as it has come: its length says how far. Zeros become holes; it never grows beyond `size`."""

    def __init__(self, path: str, size: int) -> None:
        self._path = path
        self._opened = contextlib.ExitStack()
        self._descriptor = self._opened.enter_context(_whole_file.part(path))
        self.length = os.fstat(self._descriptor).st_size
        if self.length > size:
            self.begin_again()

    def __enter__(self) -> _Part:
        return self

    def __exit__(self, *_exc: object) -> None:
        try:
            os.ftruncate(self._descriptor, self.length)
        finally:
            self._opened.close()

    def begin_again(self) -> None:
        os.ftruncate(self._descriptor, 0)
        self.length = 0

    def append(self, chunk: bytes) -> None:
        try:
            for start in range(0, len(chunk), _BLOCK):
                block = chunk[start : start + _BLOCK]
                if block != _ZERO[: len(block)]:
                    self._write(block)
                self.length += len(block)
        except OSError as exc:
            code = "no_space" if exc.errno in _whole_file.NO_ROOM else "os_error"
            raise KvmfleetError(code, f"Writing {self._path} failed: {exc.strerror}.", path=self._path) from exc

    def finish(self) -> None:
        os.ftruncate(self._descriptor, self.length)
        os.fsync(self._descriptor)

    def _write(self, block: bytes) -> None:
        done = 0
        while done < len(block):
            done += os.pwrite(self._descriptor, block[done:], self.length + done)
