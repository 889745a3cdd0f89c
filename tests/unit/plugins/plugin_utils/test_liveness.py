# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Ansible's own ssh gives up a host that stopped without a word."""

from __future__ import annotations

import io
import os
from typing import Any

import pytest
from ansible.playbook.play_context import PlayContext
from ansible.plugins.loader import connection_loader

from ansible_collections.kvmfleet.compute.plugins.plugin_utils.liveness import keep_asking


def command(arguments: dict[str, Any], **options: str) -> list[str]:
    """What ssh is told, with options of the user."""
    connection = connection_loader.get("ssh", PlayContext(), io.StringIO())
    connection.set_options(direct={"host": "kvm1", **options})
    keep_asking(connection, arguments)
    return [os.fsdecode(word) for word in connection._build_command("ssh", "ssh", "kvm1")]


def value(words: list[str], option: str) -> str:
    """The first value counts for ssh."""
    return next(word.partition("=")[2] for word in words if word.startswith(f"{option}="))


@pytest.mark.parametrize(("arguments", "interval"), [({}, "15"), ({"hang_timeout": 30}, "8"), ({"hang_timeout": "1"}, "1")])
def test_ssh_asks_for_a_sign_of_life(arguments: dict[str, Any], interval: str) -> None:
    words = command(arguments)
    assert (value(words, "ServerAliveInterval"), value(words, "ServerAliveCountMax")) == (interval, "4")
    assert value(words, "ControlMaster") == "auto"  # what Ansible says by itself stays


@pytest.mark.parametrize("where", ["ssh_args", "ssh_common_args", "ssh_extra_args"])
def test_what_the_user_says_of_it_goes_first(where: str) -> None:
    words = command({}, **{where: "-o ServerAliveInterval=7 -o ProxyJump=gate"})
    assert value(words, "ServerAliveInterval") == "7"
    assert value(words, "ProxyJump") == "gate"


def test_other_connections_are_left_alone() -> None:
    connection = connection_loader.get("local", PlayContext(), io.StringIO())
    keep_asking(connection, {})
    keep_asking(connection_loader.get("ssh", PlayContext(), io.StringIO()), {"hang_timeout": "soon"})
