# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A guest that takes longer to shut down than anybody waits runs in the end, however late it follows; with real guests."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import libvirt
import pytest

from ansible_collections.kvmfleet.compute.plugins.module_utils._guest import late_shutdown as _late_shutdown, power as _power
from ansible_collections.kvmfleet.compute.plugins.module_utils._journal.records import Journal
from ansible_collections.kvmfleet.compute.plugins.module_utils._journal.state_dir import StateDir
from ansible_collections.kvmfleet.compute.plugins.module_utils._libvirt import domains as _domains, lifecycle as _lifecycle
from ansible_collections.kvmfleet.compute.plugins.module_utils._operation import in_place as _in_place, sealing as _sealing
from ansible_collections.kvmfleet.compute.plugins.module_utils._rules.errors import KvmfleetError
from ansible_collections.kvmfleet.compute.tests.unit.plugins.module_utils import booted

IMPATIENT = {"timeout": 0.5, "retry_interval": 10, "on_timeout": "fail", "modes": ["agent", "acpi"]}
PATIENT = {**IMPATIENT, "timeout": 60}
WATCH = {"settle": 0, "agent_timeout": 0}
SLOW = 4.0  # seconds that the guest takes


class Died(BaseException):
    """Stands for SIGKILL."""


@pytest.fixture
def journal(state: StateDir) -> Journal:
    return Journal(state)


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the process that puts the action back: what holds has to hold without it."""
    monkeypatch.setattr(_late_shutdown, "_supervise", lambda state, domain: None)


@pytest.fixture
def web1(qemu: libvirt.virConnect, images: Path) -> Callable[..., libvirt.virDomain]:
    def boot(events: str = "", seconds: float = SLOW) -> libvirt.virDomain:
        path = booted.write(images / "web1.raw", seconds=seconds, counts=True)
        domain = qemu.defineXML(booted.definition("web1", {"vda": (path, "raw")}, events))
        booted.start(domain)
        return domain

    return boot


def fails_with(error: BaseException | type[BaseException]) -> Callable[..., None]:
    """A call that does."""

    def call(*arguments: Any) -> None:
        raise error

    return call


def disk(images: Path) -> str:
    return f"{images}/web1.raw"


class Operation:
    """One that stops the guest, and its undo."""

    def __init__(self, role: str, qemu: libvirt.virConnect, journal: Journal, domain: libvirt.virDomain, images: Path) -> None:
        self.role, self.qemu, self.journal = role, qemu, journal
        self.uuid = booted.record_of(journal, domain, role, images)["uuid"]

    def stop(self, shutdown: dict[str, Any]) -> None:
        record = self.journal.get(self.uuid)
        if self.role == "source":
            _sealing.hand_over(self.qemu, self.journal, record, shutdown)
        else:
            _in_place.resize(self.qemu, self.journal, record, shutdown=shutdown, watch=WATCH)

    def undo(self) -> str:
        record = self.journal.get(self.uuid)
        if self.role == "source":
            _sealing.restore(self.qemu, self.journal, record, status="error")
        else:
            _in_place.restore(self.qemu, self.journal, record, status="error", shutdown=PATIENT)
        return self.journal.get(self.uuid)["status"]


@pytest.mark.parametrize("role", ["source", "in_place"])
def test_a_guest_that_follows_after_the_run_has_ended_is_restarted(
    web1: Callable[..., libvirt.virDomain], qemu: libvirt.virConnect, journal: Journal, images: Path, role: str
) -> None:
    domain = web1()
    operation = Operation(role, qemu, journal, domain, images)
    with pytest.raises(KvmfleetError, match="asked through acpi.* and runs. Should it follow later, libvirt restarts it") as caught:
        operation.stop(IMPATIENT)
    assert caught.value.code == "shutdown_timeout"
    assert (operation.undo(), domain.isActive(), booted.boots(disk(images))) == ("error", True, 1)
    booted.wait_for(lambda: booted.boots(disk(images)) == 2)
    assert (_domains.state_name(domain), domain.ID() > 0) == ("running", True)


@pytest.mark.parametrize("role", ["source", "in_place"])
def test_a_paused_guest_is_not_asked(
    web1: Callable[..., libvirt.virDomain], qemu: libvirt.virConnect, journal: Journal, images: Path, state: StateDir, role: str
) -> None:
    """It would follow when somebody resumes it, in an hour."""
    domain = web1(seconds=0.0)
    operation = Operation(role, qemu, journal, domain, images)
    domain.suspend()
    with pytest.raises(KvmfleetError, match="web1 is paused.* was not asked.*virsh resume") as caught:
        operation.stop(PATIENT)
    assert caught.value.code == "unsupported_state"
    assert (operation.undo(), _domains.state_name(domain), _lifecycle.on_poweroff(domain, live=True)) == ("error", "paused", "destroy")
    assert not list(state.read_all("late_shutdowns"))
    domain.resume()
    time.sleep(1.0)
    assert (domain.isActive(), booted.boots(disk(images))) == (True, 1)


def test_the_power_of_a_paused_guest_may_be_cut(web1: Callable[..., libvirt.virDomain], qemu: libvirt.virConnect, journal: Journal, images: Path) -> None:
    domain = web1()
    operation = Operation("source", qemu, journal, domain, images)
    domain.suspend()
    operation.stop({**IMPATIENT, "on_timeout": "destroy"})
    assert (journal.get(operation.uuid)["stopped"]["method"], qemu.listAllDomains()) == ("destroy", [])


@pytest.mark.parametrize("role", ["source", "in_place"])
def test_a_guest_whose_run_died_while_it_waited_is_restarted(
    web1: Callable[..., libvirt.virDomain], qemu: libvirt.virConnect, journal: Journal, images: Path, monkeypatch: pytest.MonkeyPatch, role: str
) -> None:
    domain = web1()
    operation = Operation(role, qemu, journal, domain, images)

    def die(seconds: float) -> None:
        raise Died

    with monkeypatch.context() as patch:
        patch.setattr(_power.time, "sleep", die)
        with pytest.raises(Died):
            operation.stop(PATIENT)
    assert journal.get(operation.uuid)["step"] == "stopping"
    assert operation.undo() == "error"
    booted.wait_for(lambda: booted.boots(disk(images)) == 2)
    assert domain.isActive()


def test_one_that_has_gone_off_when_the_undo_comes_is_started(
    web1: Callable[..., libvirt.virDomain], qemu: libvirt.virConnect, journal: Journal, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    domain = web1(seconds=0.0)
    operation = Operation("source", qemu, journal, domain, images)
    with monkeypatch.context() as patch:
        patch.setattr(_late_shutdown, "let_go_off", lambda state, domain: domain.shutdown() and None)
        patch.setattr(_lifecycle, "request_shutdown", fails_with(Died))
        with pytest.raises(Died):
            operation.stop(PATIENT)
    booted.wait_for(lambda: not domain.isActive())
    assert (operation.undo(), domain.isActive()) == ("error", True)


def test_one_that_goes_off_at_the_last_moment_has_followed(web1: Callable[..., libvirt.virDomain], state: StateDir, monkeypatch: pytest.MonkeyPatch) -> None:
    domain = web1(seconds=0.0)
    real = _late_shutdown.neutralise

    def neutralise(state: StateDir, domain: libvirt.virDomain) -> bool:
        domain.shutdownFlags(libvirt.VIR_DOMAIN_SHUTDOWN_ACPI_POWER_BTN)
        booted.wait_for(lambda: not domain.isActive())
        return real(state, domain)

    monkeypatch.setattr(_late_shutdown, "neutralise", neutralise)
    assert _power.stop(domain, state, **{**IMPATIENT, "timeout": 0.0})["was_running"]
    assert (domain.isActive(), state.read_all("late_shutdowns")) == (False, [])


def test_the_next_request_means_off_again(web1: Callable[..., libvirt.virDomain], state: StateDir, images: Path) -> None:
    domain = web1()
    with pytest.raises(KvmfleetError):
        _power.stop(domain, state, **IMPATIENT)
    stopped = _power.stop(domain, state, **PATIENT)
    assert (stopped["was_running"], stopped["method"], domain.isActive()) == (True, "acpi", False)
    assert booted.boots(disk(images)) == 1
    assert state.read_all("late_shutdowns") == []


def test_a_later_shutdown_by_the_owner_means_off_again(
    web1: Callable[..., libvirt.virDomain], qemu: libvirt.virConnect, state: StateDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    domain = web1()
    with pytest.raises(KvmfleetError):
        _power.stop(domain, state, **IMPATIENT)
    _late_shutdown.settle(qemu, state)
    assert _lifecycle.on_poweroff(domain, live=True) == "restart"
    monkeypatch.setattr(_late_shutdown, "PATIENCE", 0.0)
    _late_shutdown.settle(qemu, state)
    assert _lifecycle.on_poweroff(domain, live=True) == "destroy"
    assert state.read_all("late_shutdowns") == []


def test_what_is_left_of_a_guest_that_went_off_or_was_started_anew_is_forgotten(
    web1: Callable[..., libvirt.virDomain], qemu: libvirt.virConnect, state: StateDir
) -> None:
    domain = web1()
    with pytest.raises(KvmfleetError):
        _power.stop(domain, state, **IMPATIENT)
    domain.destroy()
    domain.create()
    _late_shutdown.settle(qemu, state)
    assert (state.read_all("late_shutdowns"), _lifecycle.on_poweroff(domain, live=True)) == ([], "destroy")


def test_a_guest_that_its_definition_restarts_can_be_stopped_and_is_restarted_as_before(
    web1: Callable[..., libvirt.virDomain], state: StateDir, images: Path
) -> None:
    domain = web1("<on_poweroff>restart</on_poweroff>")
    with pytest.raises(KvmfleetError):
        _power.stop(domain, state, **IMPATIENT)
    assert (_lifecycle.on_poweroff(domain, live=True), state.read_all("late_shutdowns")) == ("restart", [])
    _power.stop(domain, state, **PATIENT)
    assert (domain.isActive(), booted.boots(disk(images))) == (False, 1)


def test_a_guest_that_its_definition_restarts_is_not_asked_where_libvirt_does_not_set_that_aside(
    web1: Callable[..., libvirt.virDomain], state: StateDir, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would boot again at each request, until the time is over."""
    domain = web1("<on_poweroff>restart</on_poweroff>", seconds=0.0)
    monkeypatch.setattr(_lifecycle, "set_on_poweroff", fails_with(libvirt.libvirtError("not with -no-reboot")))
    with pytest.raises(KvmfleetError, match=r"was not asked to shut down\. 1\. .*; or 2\. ") as caught:
        _power.stop(domain, state, **IMPATIENT)
    time.sleep(1)
    assert (caught.value.code, domain.isActive(), booted.boots(disk(images))) == ("poweroff_restarts", True, 1)


def test_where_libvirt_cannot_restart_it_the_operation_stays_open_until_it_has_gone_off(
    web1: Callable[..., libvirt.virDomain], qemu: libvirt.virConnect, journal: Journal, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    domain = web1()
    operation = Operation("source", qemu, journal, domain, images)

    def refuse(domain: libvirt.virDomain, action: str) -> None:
        raise libvirt.libvirtError("not with -no-reboot")

    monkeypatch.setattr(_lifecycle, "set_on_poweroff", refuse)
    for act in (lambda: operation.stop(IMPATIENT), operation.undo):
        with pytest.raises(KvmfleetError, match="It runs now, but it may still shut down") as caught:
            act()
        assert caught.value.code == "shutdown_pending"
    assert journal.get(operation.uuid)["step"] == "stopping"
    booted.wait_for(lambda: not domain.isActive())
    assert (operation.undo(), domain.isActive()) == ("error", True)


def test_where_libvirt_cannot_restart_it_the_operation_ends_after_a_long_patience(
    web1: Callable[..., libvirt.virDomain], qemu: libvirt.virConnect, journal: Journal, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    domain = web1(seconds=booted.NEVER)
    operation = Operation("source", qemu, journal, domain, images)
    monkeypatch.setattr(_lifecycle, "set_on_poweroff", fails_with(libvirt.libvirtError("no")))
    with pytest.raises(KvmfleetError):
        operation.stop(IMPATIENT)
    monkeypatch.setattr(_late_shutdown, "PATIENCE", 0.0)
    assert (operation.undo(), domain.isActive()) == ("error", True)


@pytest.mark.parametrize(
    "events", ["<on_reboot>destroy</on_reboot>", "<on_poweroff>destroy</on_poweroff><on_reboot>destroy</on_reboot><on_crash>destroy</on_crash>"]
)
def test_a_guest_that_its_definition_does_not_reboot_is_off_or_comes_back(
    web1: Callable[..., libvirt.virDomain], qemu: libvirt.virConnect, journal: Journal, images: Path, events: str
) -> None:
    """libvirt may refuse to restart what its definition does not reboot; then the operation stays open until the guest is back."""
    domain = web1(events)
    operation = Operation("source", qemu, journal, domain, images)
    with pytest.raises(KvmfleetError) as caught:
        operation.stop(IMPATIENT)
    if caught.value.code == "shutdown_timeout":
        operation.undo()
    else:
        assert caught.value.code == "shutdown_pending"
        booted.wait_for(lambda: not domain.isActive())
        operation.undo()
    booted.wait_for(lambda: booted.boots(disk(images)) == 2)
    time.sleep(0.2)
    assert domain.isActive()


def test_the_first_request_that_was_taken_is_told_and_an_agent_gets_time(
    monkeypatch: pytest.MonkeyPatch, web1: Callable[..., libvirt.virDomain], state: StateDir
) -> None:
    """An agent that took the request is shutting the guest down; the power button comes later."""
    domain, asked = web1(seconds=0.0), []

    def request(domain: libvirt.virDomain, modes: list[str]) -> str:
        asked.append((modes[0], time.monotonic()))
        if modes[0] == "acpi":
            domain.shutdownFlags(libvirt.VIR_DOMAIN_SHUTDOWN_ACPI_POWER_BTN)
        return modes[0]

    monkeypatch.setattr(_lifecycle, "request_shutdown", request)
    stopped = _power.stop(domain, state, **{**PATIENT, "retry_interval": 0.5})
    assert [mode for mode, _at in asked][:2] == ["agent", "acpi"]
    assert asked[1][1] - asked[0][1] >= 1.5
    assert stopped["method"] == "agent"
