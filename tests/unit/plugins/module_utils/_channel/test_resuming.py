# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Copies that break, with real tools on loopback: what travels is counted by a proxy, which can also pull the cable."""

from __future__ import annotations

import contextlib
import ctypes
import mmap
import os
import secrets
import signal
import socket
import subprocess
import tempfile
import threading
import time
from pathlib import Path

import pytest

from ansible_collections.kvmfleet.compute.plugins.module_utils._channel import export as _export, pull as _pull
from ansible_collections.kvmfleet.compute.plugins.module_utils._channel.checksums import tree
from ansible_collections.kvmfleet.compute.plugins.module_utils._channel.serving import TRANSPORTS
from ansible_collections.kvmfleet.compute.plugins.module_utils._journal import progress as _progress
from ansible_collections.kvmfleet.compute.plugins.module_utils._journal.state_dir import StateDir
from ansible_collections.kvmfleet.compute.plugins.module_utils._rules.errors import KvmfleetError

MIB = 1024 * 1024
PORTS = "27500-27563"


class Proxy:
    """Forwards to a port, counts the bytes that come back, and drops all connections when they reach `cut_at`."""

    def __init__(self, port, cut_at=None, silent=False):
        self.target, self.cut_at, self.silent = port, cut_at, silent
        self.bytes = 0
        self.cuts = 0
        self.connections = []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        with contextlib.suppress(OSError):
            while True:
                near, _address = self.listener.accept()
                far = socket.create_connection(("127.0.0.1", self.target))
                self.connections += [near, far]
                threading.Thread(target=self.pump, args=(near, far, False), daemon=True).start()
                threading.Thread(target=self.pump, args=(far, near, True), daemon=True).start()

    def pump(self, source, target, counted):
        with contextlib.suppress(OSError):
            while data := source.recv(256 * 1024):
                if counted:
                    self.bytes += len(data)
                    if self.cut_at is not None and self.bytes > self.cut_at:
                        self.cut_at = None
                        self.cuts += 1
                        self.drop()
                        return
                target.sendall(data)
        for end in (source, target):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def drop(self):
        if self.silent:
            self.connections.clear()
            threading.Event().wait()
        for connection in self.connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        self.connections.clear()

    def close(self):
        self.listener.close()
        self.drop()


@pytest.fixture
def key():
    return secrets.token_hex(32)


@pytest.fixture
def server(tmp_path):
    server = _export.Server(StateDir(str(tmp_path / "source")), "m-1")
    yield server
    server.close()


def client(tmp_path, port, key, stall_timeout=10.0):
    return _pull.Client(StateDir(str(tmp_path / "destination")), "m-1", address="127.0.0.1", port=port, key=key, stall_timeout=stall_timeout)


def offer(server, path, key, **options):
    port = server.open(address="127.0.0.1", ports=PORTS, key=key, idle_timeout=30, **options)
    server.offer_file("vda", str(path), checksum=True)
    return port


def write(path, size, tail=0):
    """Data, then a hole, then some bytes that do not fill a sector."""
    with open(path, "wb") as stream:
        block = os.urandom(MIB)
        for number in range(size // MIB):
            stream.write(number.to_bytes(8, "big") + block[8:])
        if tail:
            stream.seek(size + 40 * MIB)
            stream.write(os.urandom(tail))


def test_a_copy_that_broke_in_the_middle_sends_the_other_half(tmp_path, server, key):
    size = 384 * MIB
    disk, copy = tmp_path / "disk", tmp_path / "copy"
    write(disk, size, tail=777)
    proxy = Proxy(offer(server, disk, key), cut_at=size // 2)
    with client(tmp_path, proxy.port, key) as peer:
        peer.progress.begin(size + 777)
        peer.copy_persistently("vda", str(copy), size + 777, disk.stat().st_size)
        assert peer.progress.resumed > 0
    proxy.close()
    assert proxy.cuts == 1
    assert copy.read_bytes() == disk.read_bytes()
    assert os.stat(copy).st_blocks * 512 < size + 2 * MIB
    # Each of four connections may leave a segment incomplete at each of the ranges that it worked on.
    assert proxy.bytes < 1.25 * size


def test_what_was_copied_is_in_memory_for_the_digest(tmp_path, server, key):
    """Nobody has to read it back from the disk while the guest is down; how long it takes to get there is waited for at the end."""
    disk, copy = tmp_path / "disk", tmp_path / "copy"
    write(disk, 64 * MIB, tail=777)
    # The address of a socket is shorter than what pytest's directories may come to.
    with tempfile.TemporaryDirectory() as short, client(Path(short), offer(server, disk, key), key) as peer:
        peer.copy("vda", str(copy), disk.stat().st_size)
        peer.settle()
        in_memory = _mib_in_memory(copy)
    assert in_memory > 48  # nbdcopy on its own leaves two
    assert copy.read_bytes() == disk.read_bytes()


def _mib_in_memory(path):
    """How many MiB of a file begin in memory, by mincore(2), which every filesystem has; the mapping reads nothing."""
    with open(path, "r+b") as stream, mmap.mmap(stream.fileno(), 0) as mapped:
        pages = (ctypes.c_ubyte * -(-len(mapped) // mmap.PAGESIZE))()
        start = ctypes.c_char.from_buffer(mapped)
        failed = ctypes.CDLL(None, use_errno=True).mincore(ctypes.c_void_p(ctypes.addressof(start)), ctypes.c_size_t(len(mapped)), pages)
        del start  # the mapping cannot be closed before
    assert not failed, os.strerror(ctypes.get_errno())
    return sum(page & 1 for page in pages[:: MIB // mmap.PAGESIZE])


@pytest.mark.parametrize("tail", [0, 1, 512, 513])
def test_segments_are_mended_in_place(tmp_path, server, key, tail):
    """What differs is fetched and nothing else, zeros over data too, whatever the length."""
    disk, copy = tmp_path / "disk", tmp_path / "copy"
    write(disk, 48 * MIB, tail)
    proxy = Proxy(offer(server, disk, key))
    copy.write_bytes(disk.read_bytes())
    with open(copy, "r+b") as stream:
        stream.seek(17 * MIB)
        stream.write(b"wrong")
        if tail:
            stream.seek(60 * MIB)
            stream.write(b"zeros there")
            stream.seek(-1, os.SEEK_END)
            stream.write(b"!")
        else:
            stream.write(b"longer")
            stream.truncate(50 * MIB)
    error = KvmfleetError("copy_failed", "it broke")
    with client(tmp_path, proxy.port, key) as peer:
        peer._mend("vda", str(copy), 0, 48 * MIB, disk.stat().st_size, error)
    proxy.close()
    assert copy.read_bytes() == disk.read_bytes()
    assert proxy.bytes < 18 * MIB


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_server_that_is_killed_comes_back_on_its_port(tmp_path, server, key, transport):
    disk, copy = tmp_path / "disk", tmp_path / "copy"
    write(disk, 64 * MIB)
    port = offer(server, disk, key, bandwidth_limit=24 * MIB, transport=transport)
    pidfile = os.path.join(server.directory, "server.pid")
    with open(pidfile, encoding="ascii") as stream:
        pid = int(stream.read())
    threading.Timer(0.5, os.kill, (pid, 9)).start()
    with client(tmp_path, port, key) as peer:
        peer.copy_persistently("vda", str(copy), 64 * MIB, 64 * MIB)
        assert peer.progress.resumed > 0
    assert copy.read_bytes() == disk.read_bytes()
    assert server.port == port


def test_what_never_gets_on_is_given_up_for_the_first_reason(tmp_path, server, key):
    disk = tmp_path / "disk"
    write(disk, 32 * MIB)
    proxy = Proxy(offer(server, disk, key), cut_at=16 * MIB)
    with client(tmp_path, proxy.port, key, stall_timeout=1) as peer:
        threading.Thread(target=lambda: (_until(lambda: proxy.cuts), proxy.listener.close(), server.close()), daemon=True).start()
        with pytest.raises(KvmfleetError) as caught:
            peer.copy_persistently("vda", str(tmp_path / "copy"), 32 * MIB, 32 * MIB)
    assert caught.value.code in ("copy_failed", "copy_stalled")
    assert "Copying vda" in caught.value.message


def test_a_digest_is_waited_for_as_long_as_the_source_answers(tmp_path, server, key):
    """A large file takes longer than a stall."""
    disk = tmp_path / "disk"
    write(disk, MIB)
    port = server.open(address="127.0.0.1", ports=PORTS, key=key, idle_timeout=30)
    server.offer_manifest({"files": {}})
    threading.Timer(2.5, server.offer_file, ("vda", str(disk), True)).start()
    with client(tmp_path, port, key, stall_timeout=1) as peer:
        began = time.monotonic()
        assert peer.checksum("vda", MIB) == tree(str(disk))
        assert time.monotonic() - began > 2
        server.close()
        with pytest.raises(KvmfleetError):
            peer.checksum("vda", MIB)


def test_silence_is_a_stall_and_a_slow_copy_is_none(tmp_path, server, key):
    """It is the lack of progress that ends a copy, not its length."""
    disk = tmp_path / "disk"
    write(disk, 24 * MIB)
    port = offer(server, disk, key, bandwidth_limit=4 * MIB)
    began = time.monotonic()
    with client(tmp_path, port, key, stall_timeout=2) as peer:
        peer.copy_persistently("vda", str(tmp_path / "copy"), 24 * MIB, 24 * MIB)
    assert time.monotonic() - began > 3
    proxy = Proxy(port, cut_at=4 * MIB, silent=True)
    with client(tmp_path, proxy.port, key, stall_timeout=2) as peer, pytest.raises(KvmfleetError) as caught:
        peer.copy_persistently("vda", str(tmp_path / "other"), 24 * MIB, 24 * MIB)
    assert caught.value.code == "copy_stalled"


def test_nothing_writes_any_more_when_the_client_is_killed(tmp_path, server, key):
    disk, copy = tmp_path / "disk", tmp_path / "copy"
    write(disk, 64 * MIB)
    port = offer(server, disk, key, bandwidth_limit=4 * MIB)
    child = os.fork()
    if not child:
        try:
            with client(tmp_path, port, key) as peer:
                peer.copy_persistently("vda", str(copy), 64 * MIB, 64 * MIB)
        finally:
            os._exit(1)
    _until(lambda: copy.exists() and copy.stat().st_blocks)
    assert _tools(str(tmp_path / "destination"))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    deadline = time.monotonic() + 5
    while _tools(str(tmp_path / "destination")):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def _tools(mention):
    """Processes of a copy whose command line mentions something."""
    listed = subprocess.run(["ps", "-ww", "-eo", "comm=,args="], capture_output=True, text=True, check=True).stdout
    return [line for line in listed.splitlines() if line.startswith(("nbdkit", "nbdcopy")) and mention in line]


def test_a_full_disk_is_not_tried_again(tmp_path, key, monkeypatch):
    """Nor is it mistaken for a link that broke, whichever tool says so."""
    with client(tmp_path, 1, key) as peer:
        with pytest.raises(KvmfleetError) as caught:
            peer._run(["sh", "-c", "echo 'nbdcopy: write: No space left on device' >&2; exit 1"], "vda", MIB)
        assert caught.value.code == "no_space"
        monkeypatch.setattr(peer, "copy", lambda *_args: peer._run(["sh", "-c", "echo 'qemu-img: Disk quota exceeded' >&2; exit 1"], "vda", MIB))
        monkeypatch.setattr(peer, "_mend", lambda *_args: pytest.fail("it was tried again"))
        with pytest.raises(KvmfleetError) as caught:
            peer.copy_persistently("vda", str(tmp_path / "copy"), MIB, MIB)
        assert caught.value.code == "no_space"


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_the_limit_is_that_of_all_connections(tmp_path, server, key, transport):
    """Two seconds' worth may pass at once with nbdkit; nbdcopy uses four connections."""
    size, limit = 40 * MIB, 8 * MIB
    write(tmp_path / "disk", size)
    port = offer(server, tmp_path / "disk", key, bandwidth_limit=limit, transport=transport)
    began = time.monotonic()
    with client(tmp_path, port, key) as peer:
        peer.copy("vda", str(tmp_path / "copy"), size)
    seconds = time.monotonic() - began
    assert seconds > size / limit - 2.2


def test_a_running_copy_can_be_watched(tmp_path, server, key):
    state, size = StateDir(str(tmp_path / "destination")), 40 * MIB
    write(tmp_path / "disk", size)
    port = offer(server, tmp_path / "disk", key, bandwidth_limit=8 * MIB)
    seen = []

    def watch():
        while not seen or _progress.read(state, "m-1"):
            progress = _progress.read(state, "m-1")
            if progress and (not seen or progress["updated_at"] != seen[-1]["updated_at"]):
                seen.append(progress)
            time.sleep(0.05)

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    with client(tmp_path, port, key) as peer:
        peer.progress.begin(size)
        peer.copy_persistently("vda", str(tmp_path / "copy"), size, size)
    watcher.join(10)
    assert len(seen) >= 3
    done = [progress["bytes_done"] for progress in seen]
    assert done == sorted(done)
    assert seen[-1]["bytes_total"] == size
    assert 4 * MIB < seen[-1]["rate"] < 24 * MIB
    assert 0 < seen[-1]["percent"] <= 100
    assert _progress.added(state, {"uuid": "m-1"}) == {"uuid": "m-1"}


def _until(condition):
    while not condition():
        time.sleep(0.01)


def test_what_an_earlier_operation_brought_does_not_travel_again(tmp_path, server, key):
    """Half of it, then something that was written there since, then nothing."""
    disk, copy = tmp_path / "disk", tmp_path / "copy"
    write(disk, 96 * MIB, tail=777)
    proxy = Proxy(offer(server, disk, key))
    content = bytearray(disk.read_bytes()[: 48 * MIB])
    content[20 * MIB] ^= 1
    copy.write_bytes(content)
    with client(tmp_path, proxy.port, key) as peer:
        peer.copy_persistently("vda", str(copy), 96 * MIB + 777, disk.stat().st_size)
        spared = peer.spared
    proxy.close()
    assert copy.read_bytes() == disk.read_bytes()
    assert 46 * MIB <= spared <= 47 * MIB
    assert proxy.bytes < 52 * MIB
