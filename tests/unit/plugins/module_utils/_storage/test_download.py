# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Downloads from a real HTTP server on loopback that can do what servers do wrong."""

from __future__ import annotations

import errno
import os
import re
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.kvmfleet.compute.plugins.module_utils._rules.errors import KvmfleetError
from ansible_collections.kvmfleet.compute.plugins.module_utils._storage import download as _download
from ansible_collections.kvmfleet.compute.plugins.module_utils._storage.download import Download, shown, url_of
from ansible_collections.kvmfleet.compute.plugins.modules.base_image import open_http

CONTENT = os.urandom(700_000) + bytes(900_000) + os.urandom(400_001)
BASE = {"sha256": "ab" * 32, "format": "qcow2", "path": "/images/my base.qcow2"}


class Store(ThreadingHTTPServer):
    """An image store with one file, which breaks the first `breaks` connections after `until` bytes of the file."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Answer)
        self.content, self.ranges, self.breaks, self.until, self.status, self.location = CONTENT, True, 0, 1_000_000, 0, ""
        self.asked: list[str | None] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/base"


class _Answer(BaseHTTPRequestHandler):
    server: Store

    def do_GET(self) -> None:
        store = self.server
        store.asked.append(self.headers["Range"])
        if store.location or store.status:
            self.send_response(302 if store.location else store.status)
            self.send_header("Location", store.location)
            self.end_headers()
            return
        start = int(re.findall(r"\d+", self.headers["Range"] or "0")[0]) if store.ranges else 0
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(store.content) - 1}/{len(store.content)}")
        self.send_header("Content-Length", str(len(store.content) - start))
        self.end_headers()
        end = None
        if store.breaks:
            store.breaks, end = store.breaks - 1, store.until
        self.wfile.write(store.content[start:end])

    def log_message(self, *arguments: Any) -> None:
        pass


@pytest.fixture
def store() -> Iterator[Store]:
    with Store() as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture
def part(tmp_path: Path) -> Path:
    return tmp_path / "image.part"


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_download, "_RETRY", 0.05)


def fill(url: str, part: Path, **options: Any) -> int:
    return Download(url, open_http, **{"stall_timeout": 3, **options}).fill(str(part), len(CONTENT))


def code(url: str, part: Path, **options: Any) -> str:
    with pytest.raises(KvmfleetError) as caught:
        fill(url, part, **options)
    return caught.value.code


def test_a_file_arrives_with_holes_where_zeros_are(store: Store, part: Path) -> None:
    assert fill(store.url, part) == len(CONTENT)
    assert part.read_bytes() == CONTENT
    assert part.stat().st_blocks * 512 < len(CONTENT) - 700_000
    assert part.stat().st_mode & 0o777 == 0o600


def test_a_broken_connection_goes_on_where_it_broke(store: Store, part: Path) -> None:
    store.breaks = 2
    store.until = 1_200_000  # among the zeros, which leave no trace in the file but its length
    assert fill(store.url, part) == len(CONTENT)
    assert part.read_bytes() == CONTENT
    assert store.asked == [None, "bytes=1200000-", "bytes=1200000-"]


def test_what_an_earlier_attempt_left_is_not_fetched_again(store: Store, part: Path) -> None:
    part.write_bytes(CONTENT[:500_000])
    assert fill(store.url, part) == len(CONTENT) - 500_000
    assert part.read_bytes() == CONTENT
    store.asked.clear()
    assert fill(store.url, part) == 0  # complete; a size is all that can be known of it here
    assert store.asked == []


def test_a_part_that_is_too_long_is_begun_again(store: Store, part: Path) -> None:
    part.write_bytes(bytes(len(CONTENT) + 1))
    assert fill(store.url, part) == len(CONTENT)
    assert part.read_bytes() == CONTENT


def test_a_server_without_ranges_begins_again(store: Store, part: Path) -> None:
    store.ranges, store.breaks = False, 1
    assert fill(store.url, part) == len(CONTENT) + store.until
    assert part.read_bytes() == CONTENT


def test_a_server_that_never_gets_further_ends_it_and_leaves_what_came(store: Store, part: Path) -> None:
    store.ranges, store.breaks = False, 10**6
    started = time.monotonic()
    assert code(store.url, part, stall_timeout=1) == "download_broke"
    assert time.monotonic() - started >= 1
    assert CONTENT.startswith(part.read_bytes())


def test_a_server_that_is_silent_ends_it(part: Path) -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as listening:  # takes connections and never answers
        assert code(f"http://127.0.0.1:{listening.server_address[1]}/", part, stall_timeout=1) == "download_broke"


@pytest.mark.parametrize("size", [len(CONTENT) - 1, len(CONTENT) + 1])
@pytest.mark.parametrize("begun", [0, 1000])
def test_another_size_is_refused_before_anything_is_written(store: Store, part: Path, size: int, begun: int) -> None:
    store.content = bytes(size)
    part.write_bytes(CONTENT[:begun])
    assert code(store.url, part) == "download_refused"
    assert part.stat().st_size == begun or begun == 0


@pytest.mark.parametrize(("status", "expected"), [(404, "download_refused"), (403, "download_refused"), (204, "download_refused"), (503, "download_broke")])
def test_a_server_that_says_no(store: Store, part: Path, status: int, expected: str) -> None:
    store.status = status
    assert code(store.url, part) == expected
    assert len(store.asked) == 1


def test_redirects_are_bounded_and_lead_to_no_file(store: Store, part: Path, tmp_path: Path) -> None:
    store.location = store.url + "/again"
    code(store.url, part)
    assert len(store.asked) < 20
    (tmp_path / "secret").write_bytes(CONTENT)
    store.location = f"file://{tmp_path}/secret"
    code(store.url, part)
    assert part.read_bytes() == b""


def test_a_file_of_the_host(part: Path, tmp_path: Path) -> None:
    image = tmp_path / "an image"
    image.write_bytes(CONTENT)
    part.write_bytes(CONTENT[:1000])
    assert fill(f"file://{tmp_path}/an%20image", part) == len(CONTENT) - 1000
    assert part.read_bytes() == CONTENT
    part.unlink()
    os.mkfifo(tmp_path / "pipe")
    for name in ("none", "pipe", ""):
        assert code(f"file://{tmp_path}/{name}", part) == "download_refused"
    image.write_bytes(CONTENT[:-1])
    assert code(f"file://{tmp_path}/an%20image", part) == "download_refused"


def test_a_symbolic_link_in_place_of_the_part_is_not_followed(store: Store, part: Path, tmp_path: Path) -> None:
    part.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(KvmfleetError, match="it is not followed"):
        fill(store.url, part)
    assert not (tmp_path / "elsewhere").exists()


def test_a_full_disk_is_told_from_a_broken_link(store: Store, part: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_arguments: Any) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)
    assert code(store.url, part) == "no_space"


def test_a_limit_holds(store: Store, part: Path) -> None:
    started = time.monotonic()
    fill(store.url, part, bandwidth_limit=len(CONTENT))
    assert time.monotonic() - started > 0.9


@pytest.mark.parametrize(
    ("template", "url"),
    [
        ("https://images.example/base/", f"https://images.example/base/{'ab' * 32}.qcow2"),
        ("http://images.example/{sha256}/{name}?format={format}", f"http://images.example/{'ab' * 32}/my%20base.qcow2?format=qcow2"),
        ("file:///srv/images", f"file:///srv/images/{'ab' * 32}.qcow2"),
    ],
)
def test_where_a_store_has_an_image(template: str, url: str) -> None:
    assert url_of(template, BASE) == url


@pytest.mark.parametrize("template", ["/srv/images", "ftp://images.example", "file://server/share", "http:///x", "https://me:secret@images.example", ""])
def test_what_is_no_url_of_a_store(template: str) -> None:
    with pytest.raises(KvmfleetError) as caught:
        url_of(template, BASE)
    assert caught.value.code == "invalid_value"


def test_what_is_said_of_a_url_has_no_token_and_no_password() -> None:
    assert shown("https://images.example/base?token=secret#x") == "https://images.example/base"
    with pytest.raises(KvmfleetError) as caught:
        url_of("https://me:secret@images.example", BASE)
    assert "secret" not in str(caught.value.message)
