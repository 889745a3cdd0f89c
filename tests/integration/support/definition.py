# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Changing the definition of a guest on its host."""

from __future__ import annotations

import contextlib
import xml.etree.ElementTree as ET
from collections.abc import Iterator

from .faults import write_files
from .lab import Host

_FILE = "/tmp/definition.xml"


@contextlib.contextmanager
def edited(host: Host, name: str) -> Iterator[ET.Element]:
    """The definition, to be changed; it is in force from the next start on."""
    root = ET.fromstring(host.virsh("dumpxml", "--inactive", "--security-info", name))  # noqa: S314 - of the lab's own libvirt
    yield root
    _define(host, ET.tostring(root, encoding="unicode"))


def add(parent: ET.Element, text: str) -> None:
    """Append the elements that are written there."""
    parent.extend(ET.fromstring(f"<all>{text}</all>"))  # noqa: S314 - written by a test


def replace(host: Host, name: str, old: str, new: str) -> None:
    """Change what the definition says literally."""
    definition = host.virsh("dumpxml", "--inactive", "--security-info", name)
    assert old in definition
    _define(host, definition.replace(old, new))


def add_devices(host: Host, name: str, text: str) -> None:
    """Append devices to the definition."""
    with edited(host, name) as root:
        devices = root.find("devices")
        assert devices is not None
        add(devices, text)


def _define(host: Host, definition: str) -> None:
    write_files(host, {_FILE: definition})
    host.virsh("define", _FILE)
    host.run("rm", _FILE)
