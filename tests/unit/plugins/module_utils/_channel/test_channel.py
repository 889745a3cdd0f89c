# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The channel with the real tools on loopback."""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import socket
import subprocess
import time

import pytest

from ansible_collections.kvmfleet.compute.plugins.module_utils._channel import export as _export
from ansible_collections.kvmfleet.compute.plugins.module_utils._channel.checksums import tree
from ansible_collections.kvmfleet.compute.plugins.module_utils._channel.export import Server, parse_ports
from ansible_collections.kvmfleet.compute.plugins.module_utils._channel.protocol import CHECKSUM, MANIFEST, unreachable
from ansible_collections.kvmfleet.compute.plugins.module_utils._channel.pull import Client
from ansible_collections.kvmfleet.compute.plugins.module_utils._channel.serving import TRANSPORTS, choose
from ansible_collections.kvmfleet.compute.plugins.module_utils._journal.state_dir import StateDir
from ansible_collections.kvmfleet.compute.plugins.module_utils._rules.errors import KvmfleetError

PORTS = "27100-27163"


@pytest.fixture
def key():
    return secrets.token_hex(32)


@pytest.fixture
def server(tmp_path):
    server = Server(StateDir(str(tmp_path / "source")), "m-1")
    yield server
    server.close()


@pytest.fixture(params=TRANSPORTS)
def transport(request):
    return request.param


def client(tmp_path, port, key, address="127.0.0.1"):
    return Client(StateDir(str(tmp_path / "destination")), "m-1", address=address, port=port, key=key, stall_timeout=10)


def gone(port):
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)):
                return True
        time.sleep(0.05)
    return False


@pytest.mark.parametrize("tool", ["nbdcopy", "qemu-img"])
def test_files_arrive_with_their_holes_and_checksums(tmp_path, server, key, transport, tool):
    disk = tmp_path / "disk"
    with open(disk, "wb") as stream:
        stream.write(os.urandom(300_001))
        stream.seek(64 * 1024 * 1024)
        stream.write(b"end")
    port = server.open(address="127.0.0.1", ports=PORTS, key=key, idle_timeout=30, transport=transport)
    server.offer_file("vda", str(disk))
    server.offer_manifest({"files": {"vda": 1}})
    with client(tmp_path, port, key) as peer:
        peer.tool = tool
        assert peer.document(MANIFEST) == {"files": {"vda": 1}}
        peer.copy("vda", str(tmp_path / "copy"), os.path.getsize(disk))
        checksum = peer.checksum("vda", os.path.getsize(disk))
    assert (tmp_path / "copy").read_bytes() == disk.read_bytes()
    assert os.stat(tmp_path / "copy").st_blocks * 512 < 2 * 1024 * 1024
    assert checksum == tree(str(tmp_path / "copy"))
    assert not os.path.exists(tmp_path / "destination" / "exports" / "m-1.peer")


def test_files_arrive_between_hosts_that_have_ipv6_alone(tmp_path, server, key, transport):
    """Where the source listens for its peer, whatever it calls itself."""
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("no IPv6 here")
    disk = tmp_path / "disk"
    disk.write_bytes(os.urandom(300_001))
    port = server.open(address=None, peer="::1", ports=PORTS, key=key, idle_timeout=30, transport=transport)
    server.offer_file("vda", str(disk))
    with client(tmp_path, port, key, address="::1") as peer:
        peer.copy("vda", str(tmp_path / "copy"), os.path.getsize(disk))
    assert (tmp_path / "copy").read_bytes() == disk.read_bytes()


def test_a_file_has_a_checksum_before_there_is_a_manifest_and_can_be_withdrawn(tmp_path, server, key, transport):
    """As a pre-copy round needs it: layers come and go while the guest runs, one under the name of another too."""
    for name in ("old", "new"):
        (tmp_path / name).write_bytes(os.urandom(100_000))
    port = server.open(address="127.0.0.1", ports=PORTS, key=key, idle_timeout=30, transport=transport)
    with client(tmp_path, port, key) as peer:
        for name in ("old", "new"):
            server.offer_file("vda-1", str(tmp_path / name), checksum=True)
            assert peer.checksum("vda-1", 100_000) == tree(str(tmp_path / name))
        assert server.withdraw_file("vda-1")
        for name in ("vda-1", CHECKSUM + "vda-1"):
            with pytest.raises(KvmfleetError):
                peer.copy(name, str(tmp_path / "copy"))
    assert not server.withdraw_file("vda-1")
    assert os.listdir(server.files) == []


@pytest.mark.parametrize("restarted", [False, True])
def test_a_file_that_is_held_stays_what_it_was_whatever_takes_its_name(tmp_path, server, key, transport, restarted):
    """A directory of QEMU's user: who got out of a guest may put a link there, and the server opens by name."""
    (tmp_path / "secret").write_bytes(b"secret" * 100)
    (tmp_path / "variables").write_bytes(b"mine.." * 100)
    port = server.open(address="127.0.0.1", ports=PORTS, key=key, idle_timeout=30, transport=transport)
    server.offer_file("nvram", str(tmp_path / "variables"), checksum=True, held=True)
    (tmp_path / "variables").unlink()
    (tmp_path / "variables").symlink_to(tmp_path / "secret")
    if restarted:
        os.kill(int((tmp_path / "source" / "exports" / "m-1" / "server.pid").read_text()), signal.SIGKILL)
        time.sleep(0.5)
    with client(tmp_path, port, key) as peer:
        peer.copy("nvram", str(tmp_path / "copy"), 600)
        assert peer.checksum("nvram", 600) == tree(str(tmp_path / "copy"))
    assert (tmp_path / "copy").read_bytes() == b"mine.." * 100


def test_a_link_is_not_held(tmp_path, server, key):
    (tmp_path / "secret").write_text("secret")
    (tmp_path / "variables").symlink_to(tmp_path / "secret")
    server.open(address="127.0.0.1", ports=PORTS, key=key, idle_timeout=30)
    with pytest.raises(KvmfleetError) as caught:
        server.offer_file("nvram", str(tmp_path / "variables"), held=True)
    assert caught.value.code == "link_not_followed"
    assert os.listdir(server.files) == []


def test_a_file_that_cannot_be_read_has_its_error_as_digest(tmp_path, server, key, transport):
    port = server.open(address="127.0.0.1", ports=PORTS, key=key, idle_timeout=30, transport=transport)
    server.offer_file("vda", str(tmp_path / "none"), checksum=True)
    with client(tmp_path, port, key) as peer:
        assert "No such file" in peer.checksum("vda", 0)["error"]


@pytest.mark.invariant(12)
def test_only_what_is_offered_and_only_with_the_key(tmp_path, server, key, transport):
    (tmp_path / "secret").write_text("secret")
    port = server.open(address="127.0.0.1", ports=PORTS, key=key, idle_timeout=30, transport=transport)
    for used, name in ((key, "secret"), (key, "../keys.psk"), (key, "state.json"), (secrets.token_hex(32), "secret")):
        with client(tmp_path, port, used) as peer, pytest.raises(KvmfleetError) as caught:
            peer.copy(name, str(tmp_path / "copy"))
        assert caught.value.code == "copy_failed"
    plain = subprocess.run(["nbdinfo", "--list", f"nbd://127.0.0.1:{port}/"], capture_output=True, check=False)
    assert plain.returncode != 0


def test_closing_ends_the_export(server, key, transport):
    port = server.open(address="127.0.0.1", ports=PORTS, key=key, idle_timeout=30, transport=transport)
    assert server.port == port
    assert server.close()
    assert gone(port)
    assert not os.path.exists(server.directory)
    assert not server.close()


@pytest.mark.invariant(12)
def test_a_deserted_export_ends_by_itself(server, key, transport):
    port = server.open(address="127.0.0.1", ports=PORTS, key=key, idle_timeout=0.5, transport=transport)
    assert gone(port)
    deadline = time.monotonic() + 5
    while os.path.exists(server.directory) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert server.port is None


def test_connections_that_read_nothing_do_not_keep_the_export_open(server, key, transport):
    """Any user of the host can make one to a port of its loopback, which is where a tunnel ends, and say what he likes."""
    port = server.open(address="127.0.0.1", ports=PORTS, key=key, idle_timeout=1.5, transport=transport)
    with contextlib.ExitStack() as stack:
        silent, talking = map(stack.enter_context, map(socket.create_connection, [("127.0.0.1", port)] * 2))
        talking.sendall(b"\0" * 1000)
        deadline = time.monotonic() + 10
        while os.path.exists(server.directory):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        silent.settimeout(5)
        while silent.recv(1000):
            pass  # the greeting, and then the end
    assert gone(port)


def test_an_export_that_is_read_slowly_stays_open(tmp_path, server, key, transport):
    (tmp_path / "disk").write_bytes(os.urandom(4_000_000))
    port = server.open(address="127.0.0.1", ports=PORTS, key=key, idle_timeout=1.5, transport=transport, bandwidth_limit=700_000)
    server.offer_file("vda", str(tmp_path / "disk"))
    began = time.monotonic()
    with client(tmp_path, port, key) as peer:
        peer.copy("vda", str(tmp_path / "copy"))
    assert time.monotonic() - began > 3
    assert (tmp_path / "copy").read_bytes()[:4_000_000] == (tmp_path / "disk").read_bytes()


def test_a_digest_that_gets_on_no_more_is_told_as_an_error(tmp_path, server, key, monkeypatch):
    """Whoever waits for it would wait as long as the source answers at all."""

    def stuck(path, *, on_progress):
        on_progress(1)
        time.sleep(60)

    monkeypatch.setattr(_export, "tree", stuck)
    monkeypatch.setattr(_export, "_SUMMING_STALL", 0.5)
    (tmp_path / "disk").write_bytes(bytes(1000))
    port = server.open(address="127.0.0.1", ports=PORTS, key=key, idle_timeout=30)
    server.offer_file("vda", str(tmp_path / "disk"), checksum=True)
    with client(tmp_path, port, key) as peer:
        assert peer.checksum("vda", 1000) == {"error": "reading it made no progress for 0.5 s"}


def test_the_export_dies_with_its_supervisor(server, key, transport):
    port = server.open(address="127.0.0.1", ports=PORTS, key=key, idle_timeout=30, transport=transport)
    os.kill(server._state()["pid"], 9)
    assert gone(port)


def test_opening_again_replaces_the_old_channel(tmp_path, server, key):
    server.open(address="127.0.0.1", ports=PORTS, key=key, idle_timeout=30)
    fresh = secrets.token_hex(32)
    port = server.open(address="127.0.0.1", ports=PORTS, key=fresh, idle_timeout=30)
    server.offer_manifest({"files": {}})
    with client(tmp_path, port, fresh) as peer:
        assert peer.document(MANIFEST) == {"files": {}}
    with client(tmp_path, port, key) as peer, pytest.raises(KvmfleetError):
        peer.document(MANIFEST)


def test_a_busy_port_is_skipped_and_a_bad_address_is_an_error(server, key):
    with socket.socket() as busy:
        busy.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        busy.bind(("127.0.0.1", 27200))
        busy.listen()
        assert server.open(address="127.0.0.1", ports="27200-27201", key=key, idle_timeout=30) == 27201
    with pytest.raises(KvmfleetError) as caught:
        server.open(address="192.0.2.1", ports=PORTS, key=key, idle_timeout=30)
    assert caught.value.code == "channel_failed"
    assert "192.0.2.1" in caught.value.message


def test_the_key_is_no_argument_of_a_process(server, key, transport):
    server.open(address="127.0.0.1", ports=PORTS, key=key, idle_timeout=30, transport=transport)
    arguments = subprocess.run(["ps", "-eo", "args", "-ww"], capture_output=True, check=True).stdout.splitlines()
    assert not any(key.encode() in line for line in arguments)


def test_a_destination_tries_the_channel(server, key, transport):
    port = server.open(address="127.0.0.1", ports=PORTS, key=key, idle_timeout=30, transport=transport)
    assert unreachable("127.0.0.1", port, 5) is None
    server.close()
    assert "refused" in unreachable("127.0.0.1", port, 5)
    with socket.create_server(("127.0.0.1", 27210)) as silent:
        assert "timed out" in unreachable("127.0.0.1", 27210, 0.2)
        connection, _address = silent.accept()
        connection.close()


def test_qemu_serves_where_nbdkit_is_missing(tmp_path, monkeypatch):
    def install(*programs):
        for path in tmp_path.iterdir():
            path.unlink()
        for program in programs:
            (tmp_path / program).touch(mode=0o755)

    monkeypatch.setenv("PATH", str(tmp_path))
    install("nbdkit", "qemu-storage-daemon")
    assert choose("auto") == "nbdkit"
    assert choose("qemu-nbd") == "qemu-nbd"
    install("qemu-storage-daemon")
    assert choose("auto") == "qemu-nbd"
    with pytest.raises(KvmfleetError, match="No nbdkit is installed"):
        choose("nbdkit")
    install()
    with pytest.raises(KvmfleetError, match="No nbdkit nor qemu-storage-daemon is installed") as caught:
        choose("auto")
    assert caught.value.code == "tool_missing"


@pytest.mark.parametrize("text", ["", "80", "a-b", "5000-4000", "5000-70000", "-"])
def test_bad_port_ranges(text):
    with pytest.raises(KvmfleetError) as caught:
        parse_ports(text)
    assert caught.value.code == "invalid_ports"
    assert repr(text) in caught.value.message
