# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import subprocess
from typing import Any

import libvirt
import pytest

from ansible_collections.kvmfleet.compute.plugins.module_utils._host import networks as _networks

LISTED = b'[{},{"ifname":"br0","mtu":9000},{"ifname":"virbr0","mtu":1500}]'


class Network:
    def __init__(self, bridge: str | None) -> None:
        self.bridge = bridge

    def bridgeName(self) -> str:  # noqa: N802
        if self.bridge is None:
            raise libvirt.libvirtError("no bridge")
        return self.bridge


class Connection:
    """One with two networks, of which one is not made of a bridge."""

    def networkLookupByName(self, name: str) -> Network:  # noqa: N802
        if name not in ("default", "direct"):
            raise libvirt.libvirtError("no network")
        return Network("virbr0" if name == "default" else None)


@pytest.mark.parametrize(
    ("kind", "source", "expected"),
    [
        ("bridge", "br0", 9000),
        ("bridge", "absent", None),
        ("network", "default", 1500),
        ("network", "direct", None),
        ("network", "absent", None),
        ("direct", "eth0", None),
    ],
)
def test_the_mtu_is_that_of_the_bridge(kind: str, source: str, expected: int | None) -> None:
    assert _networks.mtu(Connection(), kind, source, {"br0": 9000, "virbr0": 1500}) == expected


def test_only_frames_that_do_not_fit_matter() -> None:
    wanted = [{"type": kind, "source": source, "mtu": mtu} for kind, source, mtu in (("bridge", "br0", 9000), ("network", "default", 9000), ("bridge", "x", 1))]
    assert [(nic["source"], have) for nic, have in _networks.shorter(Connection(), wanted, {"br0": 9000, "virbr0": 1500})] == [("default", 1500)]


def test_bridges_with_and_without_ip(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(argv: list[str], **options: Any) -> subprocess.CompletedProcess[str]:
        return subprocess.CompletedProcess(argv, 0, LISTED)

    monkeypatch.setattr(_networks._processes, "run", run)
    assert _networks.bridges() == {"br0": 9000, "virbr0": 1500}

    def missing(argv: list[str], **options: Any) -> None:
        raise FileNotFoundError(argv[0])

    monkeypatch.setattr(_networks._processes, "run", missing)
    assert all(mtu > 0 for mtu in _networks.bridges().values())
