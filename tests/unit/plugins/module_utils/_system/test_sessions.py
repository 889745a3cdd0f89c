# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The supervisor of a channel does not end with the login in which it was started. systemd is a program that does what busctl would ask it to."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ansible_collections.kvmfleet.compute.plugins.module_utils._system import sessions as _sessions

LOGIN = "0::/user.slice/user-1000.slice/session-3.scope\n"
OLD_LOGIN = "12:pids:/user.slice/user-0.slice/session-c1.scope\n1:name=systemd:/user.slice/user-0.slice/session-c1.scope\n"
SERVICE = "0::/system.slice/ssh.service\n"


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine that systemd has booted, and on which this process was started by a login."""
    for name in ("booted", "bin"):
        (tmp_path / name).mkdir()
    (tmp_path / "cgroup").write_text(LOGIN)
    busctl = tmp_path / "bin" / "busctl"
    moves = f"[ -e {tmp_path}/refuse ] && exit 1\necho 0::/system.slice/own.scope >{tmp_path}/cgroup\n"
    busctl.write_text(f"#!/bin/sh\nprintf '%s\\n' \"$@\" >{tmp_path}/asked\n{moves}")
    busctl.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
    monkeypatch.setattr(_sessions, "_BOOTED", str(tmp_path / "booted"))
    monkeypatch.setattr(_sessions, "_CGROUP", str(tmp_path / "cgroup"))
    return tmp_path


@pytest.mark.parametrize("cgroup", [LOGIN, OLD_LOGIN])
def test_a_process_of_a_login_gets_a_scope_of_its_own(machine: Path, cgroup: str) -> None:
    (machine / "cgroup").write_text(cgroup)
    assert _sessions.leave("kvmfleet-export-1") is True
    asked = (machine / "asked").read_text().splitlines()
    assert asked[1:8] == [
        "call", "org.freedesktop.systemd1", "/org/freedesktop/systemd1", "org.freedesktop.systemd1.Manager", "StartTransientUnit", "ssa(sv)a(sa(sv))",
        f"kvmfleet-export-1-{os.getpid()}.scope",
    ]  # fmt: skip
    assert asked[8:] == ["fail", "2", "PIDs", "au", "1", str(os.getpid()), "CollectMode", "s", "inactive-or-failed", "0"]


def test_nothing_is_asked_where_nothing_is_to_be_left(machine: Path) -> None:
    (machine / "cgroup").write_text(SERVICE)
    assert _sessions.leave("kvmfleet-export-1") is False
    (machine / "cgroup").write_text(LOGIN)
    (machine / "booted").rmdir()
    assert _sessions.leave("kvmfleet-export-1") is False
    assert not (machine / "asked").exists()


def test_a_systemd_that_refuses_is_no_reason_not_to_serve(machine: Path) -> None:
    (machine / "refuse").touch()
    assert _sessions.leave("kvmfleet-export-1") is False
    assert (machine / "asked").exists()
