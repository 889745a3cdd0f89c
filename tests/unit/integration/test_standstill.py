# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A guest of the lab is taken to stand still only if it gets no further: told by what libvirt says of it, which no real guest can be made to say."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from ansible_collections.kvmfleet.compute.tests.lab.guest import standstill


def noticed_after(monkeypatch: pytest.MonkeyPatch, running: float, waiting: float, accesses: float) -> float | None:
    """Seconds until it is noticed, within two minutes.

    :param running: seconds that each of two processors runs in a second, :param waiting: and waits for one; :param accesses: to its disk in a second.
    """
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr(standstill.time, "monotonic", lambda: clock.now)

    def domstats(*_arguments: str, check: bool) -> SimpleNamespace:
        lines = [f"vcpu.{number}.{kind}={int(rate * clock.now * 1e9)}" for number in (0, 1) for kind, rate in (("time", running), ("delay", waiting))]
        return SimpleNamespace(stdout="\n".join([*lines, f"block.0.rd.reqs={int(accesses * clock.now)}", "block.0.wr.reqs=3"]))

    guest = standstill.Standstill(SimpleNamespace(virsh=domstats), "web")
    while clock.now < 120:
        clock.now += 0.5
        if guest.noticed():
            return clock.now
    return None


@pytest.mark.parametrize(
    ("running", "waiting", "accesses", "noticed"),
    [
        pytest.param(0.9, 0.1, 20, None, id="boots"),
        pytest.param(0.1, 0.9, 0.5, None, id="boots slowly, since others have the processors"),
        pytest.param(0.3, 0.6, 0.1, None, id="reads now and then"),
        pytest.param(0, 0, 0, 24, id="neither runs nor wants to"),
        pytest.param(1.0, 0, 0, 34, id="runs in circles"),
        pytest.param(0.4, 0.6, 0, 78, id="runs in circles beside others"),
    ],
)
def test_only_a_guest_that_gets_no_further_stands_still(
    monkeypatch: pytest.MonkeyPatch, running: float, waiting: float, accesses: float, noticed: float | None
) -> None:
    found = noticed_after(monkeypatch, running, waiting, accesses)
    assert found == noticed if noticed is None else found is not None and abs(found - noticed) <= 4
