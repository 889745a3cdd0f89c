# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The socket that one address can reach, on loopback, where every address is this host's."""

from __future__ import annotations

import socket

import pytest

from ansible_collections.kvmfleet.compute.plugins.module_utils._channel import listening as _listening
from ansible_collections.kvmfleet.compute.plugins.module_utils._channel.listening import closed, found_way, listen, way_to
from ansible_collections.kvmfleet.compute.plugins.module_utils._rules.errors import KvmfleetError

ANY_PORT = [0]


def reaches(source, listener):
    with socket.socket(listener.family) as probe:
        probe.settimeout(0.5)
        probe.bind((source, 0))
        try:
            probe.connect(listener.getsockname()[:2])
        except TimeoutError:
            return False
        return True


@pytest.mark.parametrize("peer", ["127.0.0.2", "127.1.2.3"])
def test_only_the_peer_gets_through(peer):
    with listen("127.0.0.1", ANY_PORT, peer) as listener:
        assert reaches(peer, listener)
        for other in ("127.0.0.1", "127.0.0.3", "127.1.2.2"):
            assert not reaches(other, listener)


def test_only_the_peer_gets_through_ipv6():
    try:
        listener = listen("::1", ANY_PORT, "::2")
    except OSError:
        pytest.skip("no IPv6 here")
    with listener:
        assert not reaches("::1", listener)
    with listen("::1", ANY_PORT, "::1") as listener:
        assert reaches("::1", listener)


def test_without_a_peer_everyone_does():
    with listen("127.0.0.1", ANY_PORT) as listener:
        assert reaches("127.0.0.1", listener)
        assert reaches("127.0.0.9", listener)


@pytest.mark.parametrize("peer", ["kvm2", "192.0.2.0/24", "::1", ""])
def test_a_peer_is_an_address_of_the_same_kind(peer):
    with pytest.raises(KvmfleetError) as caught:
        listen("127.0.0.1", ANY_PORT, peer)
    assert caught.value.code == "invalid_value"


def test_no_port_is_free():
    with listen("127.0.0.1", ANY_PORT) as listener, pytest.raises(OSError, match="in use"):
        listen("127.0.0.1", [listener.getsockname()[1]])


def test_the_next_port_is_taken_when_one_is_in_use():
    with listen("127.0.0.1", ANY_PORT) as taken, listen("127.0.0.1", [taken.getsockname()[1], 0]) as listener:
        assert listener.getsockname() != taken.getsockname()


def test_the_address_towards_another_host_is_the_one_it_sees():
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as connection:
        assert way_to("127.0.0.1") == ("127.0.0.1", connection.getsockname()[0])
    with pytest.raises(KvmfleetError) as caught:
        way_to("no.such.host.invalid")
    assert caught.value.code == "no_route"


@pytest.mark.parametrize(("peer", "family", "everywhere"), [("127.0.0.2", socket.AF_INET, "0.0.0.0"), ("::1", socket.AF_INET6, "::")])  # noqa: S104
def test_a_source_listens_where_its_peer_can_reach_it_whatever_it_calls_itself(peer, family, everywhere):
    """Debian's own name of a host means 127.0.1.1; an IPv6-only peer reaches no IPv4 address."""
    try:
        listener = listen(None, ANY_PORT, peer)
    except OSError:
        pytest.skip("no IPv6 here")
    with listener:
        assert (listener.family, listener.getsockname()[0]) == (family, everywhere)
        assert reaches(peer, listener)
        if family == socket.AF_INET:
            assert not reaches("127.0.0.3", listener)


def test_a_host_without_a_peer_does_not_listen_everywhere():
    with pytest.raises(KvmfleetError, match="expected an IP address"):
        listen(None, ANY_PORT)


def test_the_way_is_the_first_address_that_there_is_a_route_to(monkeypatch):
    """A name may have an IPv6 address although this host has no IPv6."""
    known = socket.getaddrinfo("127.0.0.1", 9, type=socket.SOCK_DGRAM)
    nowhere = (socket.AF_INET, socket.SOCK_DGRAM, 17, "", ("255.255.255.255", 9))
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **kwargs: [nowhere, *known])
    assert way_to("kvm1").address == "127.0.0.1"


def test_no_way_is_an_answer_and_no_failure():
    """The copy can travel through a tunnel."""
    assert found_way(None) == {"source_address": None, "local_address": None, "no_way": None}
    found = found_way("no.such.host.invalid")
    assert (found["source_address"], found["local_address"]) == (None, None)
    assert found["no_way"].startswith("This host has no way to no.such.host.invalid")


@pytest.mark.parametrize("name", ["127.0.0.1", "127.0.1.1", "localhost", "::1"])
def test_another_host_is_never_reached_at_this_one(name):
    """The source is `localhost` for an Ansible that runs there, and for nobody else."""
    try:
        way_to(name)
    except KvmfleetError:
        pytest.skip("no IPv6 here")
    assert found_way(name) == {"source_address": None, "local_address": None, "no_way": f"{name} means this host itself here"}


def test_another_host_is_never_reached_at_an_address_of_this_one(monkeypatch):
    monkeypatch.setattr(_listening, "way_to", lambda other: _listening.Way("192.0.2.7", "192.0.2.7"))
    assert found_way("kvm1")["no_way"] == "kvm1 means this host itself here"
    monkeypatch.setattr(_listening, "way_to", lambda other: _listening.Way("192.0.2.7", "192.0.2.8"))
    assert found_way("kvm1") == {"source_address": "192.0.2.7", "local_address": "192.0.2.8", "no_way": None}


def test_a_port_is_closed_if_nothing_is_said_there_and_open_if_only_that_nobody_listens():
    with listen("127.0.0.1", ANY_PORT) as listener:
        port = listener.getsockname()[1]
        assert closed("127.0.0.1", port, 0.5) is None
    assert closed("127.0.0.1", port, 0.5) is None
    with listen("127.0.0.1", ANY_PORT, "127.0.0.9") as listener:
        port = listener.getsockname()[1]
        assert closed("127.0.0.1", port, 0.2) == f"nothing gets to port {port} of 127.0.0.1 (timed out)"
