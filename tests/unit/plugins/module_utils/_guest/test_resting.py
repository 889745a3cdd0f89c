# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A guest that rests during the maintenance of its host."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.kvmfleet.compute.plugins.module_utils._guest import power as _power, resting as _resting
from ansible_collections.kvmfleet.compute.plugins.module_utils._journal.state_dir import StateDir
from ansible_collections.kvmfleet.compute.plugins.module_utils._rules.errors import KvmfleetError

CUT = {"timeout": 0.0, "retry_interval": 1.0, "on_timeout": "destroy"}
ASK = {**CUT, "timeout": 0.5, "on_timeout": "fail"}


def lay_down(domain: Any, state: StateDir, how: dict[str, Any]) -> bool:
    return _resting.lay_down(domain, state, how)


@pytest.mark.parametrize("autostart", [False, True])
def test_a_guest_that_rests_does_not_start_with_its_host_and_does_again_once_it_is_woken(state: StateDir, guest: Any, autostart: bool) -> None:
    domain = guest("web1", {}, running=True)
    domain.setAutostart(int(autostart))
    assert lay_down(domain, state, CUT)
    assert (domain.isActive(), domain.autostart()) == (0, 0)
    assert not lay_down(domain, state, CUT)
    assert _resting.wake(domain, state)
    assert (domain.isActive(), domain.autostart()) == (1, int(autostart))
    assert not _resting.wake(domain, state)


def test_one_that_does_not_shut_down_goes_on_as_before(state: StateDir, guest: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    domain = guest("web1", {}, running=True)
    domain.setAutostart(1)
    monkeypatch.setattr(_power._late_shutdown, "neutralise", lambda *_arguments: True)
    with pytest.raises(KvmfleetError) as caught:
        lay_down(domain, state, ASK)
    assert (caught.value.code, domain.isActive(), domain.autostart()) == ("shutdown_timeout", 1, 1)
    assert not _resting.wake(domain, state)


def test_one_that_would_vanish_is_not_stopped(state: StateDir, guest: Any) -> None:
    domain = guest("web1", {}, running=True)
    domain.undefine()
    with pytest.raises(KvmfleetError) as caught:
        lay_down(domain, state, CUT)
    assert (caught.value.code, domain.isActive()) == ("not_persistent", 1)
    domain.destroy()
