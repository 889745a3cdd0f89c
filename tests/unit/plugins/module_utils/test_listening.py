# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The socket that one address can reach, on loopback, where every address is this host's."""

from __future__ import annotations

import socket

import pytest

from ansible_collections.kvmfleet.compute.plugins.module_utils._errors import KvmfleetError
from ansible_collections.kvmfleet.compute.plugins.module_utils._listening import address_towards, listen

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
        assert address_towards("127.0.0.1") == connection.getsockname()[0]
    with pytest.raises(KvmfleetError) as caught:
        address_towards("no.such.host.invalid")
    assert caught.value.code == "no_route"
