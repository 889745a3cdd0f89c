# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A run that goes while its module works: what nobody but this host can have to do with is taken back by it; with real guests."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import libvirt
import pytest

from ansible_collections.kvmfleet.compute.plugins.module_utils import _module
from ansible_collections.kvmfleet.compute.plugins.module_utils._channel import export as _export
from ansible_collections.kvmfleet.compute.plugins.module_utils._guest import power as _power
from ansible_collections.kvmfleet.compute.plugins.module_utils._journal.records import Journal
from ansible_collections.kvmfleet.compute.plugins.module_utils._journal.state_dir import StateDir
from ansible_collections.kvmfleet.compute.plugins.module_utils._libvirt import connection as _connection, lifecycle as _lifecycle
from ansible_collections.kvmfleet.compute.plugins.module_utils._operation import sealing as _sealing
from ansible_collections.kvmfleet.compute.plugins.module_utils._storage import incoming as _incoming
from ansible_collections.kvmfleet.compute.plugins.module_utils._system import watchdog as _watchdog
from ansible_collections.kvmfleet.compute.plugins.modules import destination_copy, resize_in_place, source_copy
from ansible_collections.kvmfleet.compute.tests.unit.plugins.module_utils import booted

SHUTDOWN = {"shutdown_timeout": 60.0, "shutdown_retry_interval": 10.0, "on_shutdown_timeout": "fail", "shutdown_modes": ["acpi"]}
WATCH = {"settle_time": 0.1, "agent_timeout": 0.0}


@pytest.fixture
def journal(state: StateDir) -> Journal:
    return Journal(state, lease=300)


@pytest.fixture
def act(monkeypatch: pytest.MonkeyPatch, qemu: libvirt.virConnect, journal: Journal) -> Callable[..., dict[str, Any]]:
    """Call a module in this process, on the libvirt of the tests."""
    monkeypatch.setattr(_connection, "connect", lambda _uri: contextlib.nullcontext(qemu))
    monkeypatch.setattr(source_copy, "open_server", lambda _journal, _record: None)
    common = {"state_path": journal.state.path, "lease": 300.0, "uri": "", "history_days": 0, "lost_host": None, "error": None, "secrets": [], **SHUTDOWN}

    def call(module: Any, record: dict[str, Any], **params: Any) -> dict[str, Any]:
        given = SimpleNamespace(check_mode=False, params={**common, "migration_uuid": record["uuid"], "owner": record["owner"], **params})
        results: list[dict[str, Any]] = []
        monkeypatch.setattr(_module, "run", lambda main, *_spec, **_options: results.append(main(given)))
        module.main()
        return results[0]

    return call


@pytest.fixture
def run_goes(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Let the run go now, as the work is told; it ends where it is, or behind what it finishes first."""
    gone: list[bool] = []
    monkeypatch.setattr(_watchdog, "is_gone", lambda: bool(gone))
    monkeypatch.setattr(_watchdog, "_ending", False)

    def goes() -> None:
        gone.append(True)
        _watchdog._notice(signal.SIGUSR1, None)

    return goes


def guest(qemu: libvirt.virConnect, images: Path, seconds: float) -> libvirt.virDomain:
    """It runs, and takes so long to shut down."""
    domain = qemu.defineXML(booted.definition("web1", {"vda": (booted.write(images / "web1.raw", counts=True, seconds=seconds), "raw")}))
    booted.start(domain)
    return domain


@pytest.mark.parametrize(("module", "role", "wanted"), [(source_copy, "source", "sealed"), (resize_in_place, "in_place", "finished")])
def test_a_guest_that_was_asked_to_shut_down_goes_on(
    module: Any, role: str, wanted: str, act: Any, run_goes: Any, monkeypatch: pytest.MonkeyPatch, qemu: libvirt.virConnect, journal: Journal, images: Path
) -> None:
    """Not even restarted, and should it follow later, libvirt restarts it."""
    domain = guest(qemu, images, booted.NEVER)
    number, record = domain.ID(), booted.record_of(journal, domain, role, images)
    ask = _lifecycle.request_shutdown
    monkeypatch.setattr(_lifecycle, "request_shutdown", lambda *asked: (ask(*asked), run_goes()))
    with pytest.raises(_watchdog.RunGoneError):
        act(module, record, state=wanted, destination_host="kvm2", **WATCH)
    left = journal.get(record["uuid"])
    assert (left["status"], left.get("abandoned")) == ("error", False)
    assert "its run went before the guest was" in left["error"]
    assert (domain.isActive(), domain.ID(), _lifecycle.on_poweroff(domain, live=True)) == (True, number, "restart")


@pytest.mark.parametrize("step", ["_undefine_unchanged", "measured"])
def test_a_guest_that_is_being_sealed_is_started_again(
    step: str, act: Any, run_goes: Any, monkeypatch: pytest.MonkeyPatch, qemu: libvirt.virConnect, journal: Journal, images: Path
) -> None:
    """It is off, defined or with sealed disks; the answer has not gone out, so that nobody has begun to start it elsewhere."""
    domain = guest(qemu, images, 0)
    record = booted.record_of(journal, domain, "source", images)
    monkeypatch.setattr(_sealing, step, lambda *_arguments: run_goes())
    with pytest.raises(_watchdog.RunGoneError):
        act(source_copy, record, state="sealed", destination_host="kvm2")
    assert journal.get(record["uuid"])["status"] == "error"
    assert qemu.lookupByName("web1").isActive()
    assert sorted(path.name for path in images.iterdir()) == ["web1.raw"]


@pytest.mark.parametrize("place", ["start", "watch"])
def test_a_guest_that_was_started_with_its_new_flavor_stays_so(
    place: str, act: Any, run_goes: Any, monkeypatch: pytest.MonkeyPatch, qemu: libvirt.virConnect, journal: Journal, images: Path
) -> None:
    """It may have written: the operation is left open for recover, at once. A start that has begun is finished and noted, so that nobody has to guess."""
    domain = guest(qemu, images, 0)
    record = booted.record_of(journal, domain, "in_place", images)
    step = getattr(_power, place)
    monkeypatch.setattr(_power, place, lambda *arguments, **more: (run_goes(), step(*arguments, **more))[1])
    with pytest.raises(_watchdog.RunGoneError):
        act(resize_in_place, record, state="finished", **WATCH)
    left = journal.get(record["uuid"])
    assert (left["status"], left["step"], left["abandoned"]) == ("post-migrating", "started", True)
    assert left["started_at"] > 0
    assert qemu.lookupByName("web1").isActive()
    assert journal.await_idle(record["uuid"], "next", 0) is False


def test_a_resize_in_place_that_is_finished_is_not_taken_back(
    act: Any, run_goes: Any, monkeypatch: pytest.MonkeyPatch, qemu: libvirt.virConnect, journal: Journal, images: Path
) -> None:
    """The run goes in the moment in which it is noted; the guest has written with its new flavor for a while."""
    domain = guest(qemu, images, 0)
    record = booted.record_of(journal, domain, "in_place", images)
    update = Journal.update

    def note(self: Journal, old: dict[str, Any], **changes: Any) -> dict[str, Any]:
        new = update(self, old, **changes)
        if changes.get("status") == "finished":
            run_goes()
        return new

    monkeypatch.setattr(Journal, "update", note)
    with pytest.raises(_watchdog.RunGoneError):
        act(resize_in_place, record, state="finished", **WATCH)
    assert journal.get(record["uuid"])["status"] == "finished"
    assert qemu.lookupByName("web1").isActive()


def test_a_copy_whose_run_goes_ends_at_once_and_keeps_what_came(tmp_path: Path, images: Path, qemu: libvirt.virConnect, journal: Journal) -> None:
    """A real one, in a process of its own whose output is closed, as sshd does it; its lock and its lease are free for whoever comes next."""
    domain = qemu.defineXML(booted.definition("web1", {"vda": (str(images / "web1.raw"), "raw")}))
    sent, sent_size = images / "web1.raw", 16 * 2**20
    sent.write_bytes(os.urandom(sent_size))
    record = booted.record_of(journal, domain, "destination", images)
    sent = sent.replace(tmp_path / "sent.raw")  # at the source; here it is not yet
    server, key = _export.Server(StateDir(str(tmp_path / "source")), record["uuid"]), secrets.token_hex(32)
    try:
        port = server.open(address="127.0.0.1", ports="27500-27563", key=key, idle_timeout=60, bandwidth_limit=256 * 2**10)
        server.offer_file("vda", str(sent))
        server.offer_manifest({"migration_uuid": record["uuid"], "round": 0, "files": {"vda": sent_size}, "sizes": {"vda": sent_size}})
        given = {"state": "precopied", "migration_uuid": record["uuid"], "owner": "me", "address": "127.0.0.1", "port": port, "key": key, "lease": 300}
        module = subprocess.Popen(
            [sys.executable, "-m", destination_copy.__name__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(destination_copy.__file__).parents[5]), *sys.path])},
        )
        module.stdin.write(json.dumps({"ANSIBLE_MODULE_ARGS": {**given, "state_path": journal.state.path, "uri": "test:///default"}}).encode())
        module.stdin.close()
        (part,) = _incoming.exports(record).values()
        part = Path(_incoming.part_path(record, part))
        booted.wait_for(lambda: module.poll() is not None or (part.exists() and part.stat().st_blocks * 512 >= 2**20))
        assert module.poll() is None, module.stdout.read()
        module.stdout.close()
        assert journal.take_over(record["uuid"], "next", 30)["owner"] == "next"
        assert module.wait(20) != 0
        assert [entry.get("note") for entry in journal.get(record["uuid"])["history"]][-2:] == ["its run has gone", "taken over"]
        assert 2**20 <= part.stat().st_blocks * 512 < sent_size
    finally:
        server.close()
