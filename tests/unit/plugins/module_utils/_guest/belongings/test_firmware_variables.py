# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The variables of a guest's firmware are never replaced by what is not whole or not its own: real libvirt, real QEMU, real firmware."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import uuid
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ansible_collections.kvmfleet.compute.plugins.module_utils._channel.export import Server
from ansible_collections.kvmfleet.compute.plugins.module_utils._guest import fitness as _fitness
from ansible_collections.kvmfleet.compute.plugins.module_utils._guest.belongings import firmware_variables as _firmware
from ansible_collections.kvmfleet.compute.plugins.module_utils._guest.belongings.belonging import Claim
from ansible_collections.kvmfleet.compute.plugins.module_utils._journal.records import Journal
from ansible_collections.kvmfleet.compute.plugins.module_utils._journal.state_dir import StateDir
from ansible_collections.kvmfleet.compute.plugins.module_utils._libvirt import binding as _binding, definitions as _definitions, domains as _domains
from ansible_collections.kvmfleet.compute.plugins.module_utils._operation import (
    admission as _admission,
    in_place as _in_place,
    receiving as _receiving,
    sealing as _sealing,
    withdrawing as _withdrawing,
)
from ansible_collections.kvmfleet.compute.plugins.module_utils._rules.errors import KvmfleetError
from ansible_collections.kvmfleet.compute.plugins.module_utils._storage import qemu_img as _qemu_img
from ansible_collections.kvmfleet.compute.plugins.modules import source_copy
from ansible_collections.kvmfleet.compute.tests.unit.plugins.module_utils.durability import CALLS, Killed, Recorder, dying, small_filesystem
from ansible_collections.kvmfleet.compute.tests.unit.plugins.module_utils.handed import disk, plan

SHUTDOWN = {"timeout": 0, "retry_interval": 1, "on_timeout": "destroy", "modes": ["acpi"]}
WATCH = {"settle": 0.1, "agent_timeout": 0}
CODE, TEMPLATE = "/usr/share/OVMF/OVMF_CODE_4M.fd", "/usr/share/OVMF/OVMF_VARS_4M.fd"
FLAVOR = {"name": None, "vcpus": 1, "ram": 32, "disk": 1, "ephemeral": 0, "swap": 0, "extra_specs": {}}


@pytest.fixture
def nvram(tmp_path: Path) -> Path:
    """The directory of variables, all names in it, and what they contain."""
    directory = tmp_path / "nvram"
    directory.mkdir()
    return directory


@pytest.fixture
def uefi(guest: Callable[..., Any], images: Path, nvram: Path, qemu_img: Callable[[str], str]) -> Callable[..., Any]:
    """Define a guest with a disk and firmware, under the names that a tool would take for it."""

    def make(name: str = "web", *, content: bytes | None = None, **options: Any) -> Any:
        qemu_img(f"create -q -f qcow2 {name}.qcow2 8M")
        variables = nvram / f"{name}_VARS.fd"
        shutil.copy(TEMPLATE, variables)
        if content is not None:
            write(variables, content)
        firmware = f"<loader readonly='yes' type='pflash'>{CODE}</loader><nvram>{variables}</nvram>"
        return guest(name, {"vda": images / f"{name}.qcow2"}, os=firmware, **options)

    return make


@pytest.fixture
def begin(state: Any, images: Path, nvram: Path) -> Callable[..., dict[str, Any]]:
    def begin(domain: Any, role: str) -> dict[str, Any]:
        path = f"{images}/{domain.name()}.qcow2"
        layers = _qemu_img.chain(path, "qcow2", [str(images)], force_share=True)
        disk = {"target": "vda", "kind": "disk", "path": path, "format": "qcow2", "chain": [[layer.path, layer.format, layer.virtual_size] for layer in layers]}
        disk.update(virtual_size=8 << 20, allocated_bytes=0, base=None, bases=[], grow_to=None)
        return Journal(state).begin(
            {
                "uuid": str(uuid.uuid4()),
                "owner": "run",
                "role": role,
                "instance_uuid": domain.UUIDString(),
                "instance_name": domain.name(),
                "source_host": "kvm1",
                "destination_host": "kvm2",
                "old_flavor": FLAVOR,
                "new_flavor": {**FLAVOR, "name": "large", "ram": 64},
                "xml_digest": _definitions.fingerprint(domain),
                "disks": [disk],
                "nvram": f"{nvram}/{domain.name()}_VARS.fd",
                "tpm": False,
                "availability_zone": None,
                "image_directories": [str(images)],
                "agent_expected": False,
            }
        )

    return begin


@pytest.fixture
def journal(state: Any) -> Journal:
    return Journal(state)


def write(variables: Path, text: bytes) -> None:
    """What a guest does: in place, the length stays."""
    with variables.open("r+b") as stream:
        stream.write(text)


def told(directory: Path) -> dict[str, bytes]:
    """What the files of a directory begin with, and what of them is not whole."""
    size = os.path.getsize(TEMPLATE)
    return {path.name: path.read_bytes()[:8] if path.stat().st_size == size else b"broken" for path in sorted(directory.iterdir())}


@pytest.mark.parametrize(
    ("plant", "code"),
    [
        (lambda path: path.symlink_to("secret"), "link_not_followed"),
        (os.mkfifo, "not_a_regular_file"),
        (lambda path: path.write_text("variables"), None),
        (lambda path: None, None),
    ],
    ids=["link", "pipe", "file", "none yet"],
)
def test_what_is_no_file_is_refused_before_the_guest_stops(nvram: Path, plant: Callable[[Path], None], code: str | None) -> None:
    (nvram / "secret").write_text("secret")
    plant(nvram / "web_VARS.fd")
    assert [refused for refused, _sentence in _firmware.link_refusals(f"{nvram}/web_VARS.fd")] == ([code] if code else [])


def test_a_disk_to_which_a_link_of_somebody_leads_is_refused_before_the_guest_stops(tmp_path: Path, images: Path) -> None:
    (tmp_path / "way").symlink_to(images)
    assert list(_fitness._link_refusals([f"{tmp_path}/way/web.qcow2"])) == []
    os.lchown(tmp_path / "way", 65534, 65534)
    assert [code for code, _sentence in _fitness._link_refusals([f"{tmp_path}/way/web.qcow2"])] == ["link_not_followed"]


class TestInPlace:
    @pytest.fixture
    def record(self, uefi: Any, begin: Any) -> dict[str, Any]:
        return begin(uefi(content=b"before.."), "in_place")

    def resize(self, qemu: Any, journal: Journal, record: dict[str, Any]) -> dict[str, Any]:
        _in_place.resize(qemu, journal, record, shutdown=SHUTDOWN, watch=WATCH)
        return journal.get(record["uuid"])

    def restore(self, qemu: Any, journal: Journal, record: dict[str, Any]) -> dict[str, Any]:
        record = journal.get(record["uuid"])
        status = "reverted" if record["status"] in ("finished", "reverting", "reverted") else "error"
        _in_place.restore(qemu, journal, record, status=status, shutdown=SHUTDOWN)
        return journal.get(record["uuid"])

    def test_a_copy_is_known_as_complete_before_the_guest_can_write(self, qemu: Any, journal: Journal, record: dict[str, Any], nvram: Path) -> None:
        after = self.resize(qemu, journal, record)
        kept = Path(_firmware.kept_path(record))
        assert told(nvram) == {"web_VARS.fd": b"before..", kept.name: b"before.."}
        assert after["kept_nvram"]["size"] == kept.stat().st_size
        noted = next(entry["step"] for entry in after["history"] if entry["step"] in ("layering", "defined", "finished"))
        assert noted == "layering"

    def test_a_revert_brings_those_of_the_switch(self, qemu: Any, journal: Journal, record: dict[str, Any], nvram: Path) -> None:
        self.resize(qemu, journal, record)
        write(nvram / "web_VARS.fd", b"later...")
        self.restore(qemu, journal, record)
        assert told(nvram) == {"web_VARS.fd": b"before.."}

    def test_a_confirm_leaves_those_of_now(self, qemu: Any, journal: Journal, record: dict[str, Any], nvram: Path) -> None:
        after = self.resize(qemu, journal, record)
        write(nvram / "web_VARS.fd", b"later...")
        _in_place.confirm(qemu, journal, after, timeout=5)
        assert told(nvram) == {"web_VARS.fd": b"later..."}

    @pytest.mark.parametrize("size", ["700k", "1500k"])
    def test_on_a_full_filesystem_the_good_variables_stay(self, qemu: Any, uefi: Any, begin: Any, journal: Journal, nvram: Path, size: str) -> None:
        with small_filesystem(nvram, size) as small:
            record = begin(uefi(content=b"before.."), "in_place")
            with (small / "other").open("wb") as stream:  # all but some blocks are taken
                left = os.statvfs(small)
                stream.write(bytes(left.f_bavail * left.f_frsize - 64 * 1024))
            claim = Claim(qemu, journal, {}, None)
            (reason,) = _admission._belonging_reasons(claim, record)  # the guest is not stopped for that, unless the room is gone since
            assert (reason["code"], reason["need"]) == ("no_space", os.path.getsize(TEMPLATE))
            with pytest.raises(KvmfleetError, match="No space left") as caught:
                self.resize(qemu, journal, record)
            assert caught.value.code == "no_space"
            assert self.restore(qemu, journal, record)["status"] == "error"
            (small / "other").unlink()
            assert told(small) == {"web_VARS.fd": b"before.."}

    def test_killed_by_a_signal_in_the_middle_of_the_copy_they_stay(self, qemu: Any, journal: Journal, record: dict[str, Any], nvram: Path) -> None:
        record = journal.update(record, step="layering", status="migrating", private={"domain_xml": qemu.lookupByName("web").XMLDesc()}, autostart=False)
        child = os.fork()
        if not child:
            reads = iter(range(99))
            read = os.read
            os.read = lambda *args: read(*args) if next(reads) < 2 else os.kill(os.getpid(), signal.SIGKILL)
            _firmware.keep(journal, record)
            os._exit(0)
        assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL
        assert "broken" in str(told(nvram))
        self.restore(qemu, journal, record)
        assert told(nvram) == {"web_VARS.fd": b"before.."}

    @pytest.mark.parametrize("call", [*range(12), 99])
    def test_killed_at_any_call_nothing_stays(
        self, qemu: Any, journal: Journal, record: dict[str, Any], images: Path, nvram: Path, monkeypatch: pytest.MonkeyPatch, call: int
    ) -> None:
        with dying(monkeypatch, call, below=nvram.parent, names=CALLS):
            try:
                self.resize(qemu, journal, record)
                write(nvram / "web_VARS.fd", b"later...")
            except Killed:
                pass
        assert self.restore(qemu, journal, record)["status"] in ("error", "reverted")
        assert (told(nvram), os.listdir(images)) == ({"web_VARS.fd": b"before.."}, ["web.qcow2"])

    @pytest.mark.parametrize("call", range(8))
    def test_a_revert_that_is_killed_is_repeated_and_takes_nothing_from_the_guest_twice(
        self, qemu: Any, journal: Journal, record: dict[str, Any], nvram: Path, monkeypatch: pytest.MonkeyPatch, call: int
    ) -> None:
        self.resize(qemu, journal, record)
        write(nvram / "web_VARS.fd", b"later...")
        with dying(monkeypatch, call, below=nvram), contextlib.suppress(Killed):
            self.restore(qemu, journal, record)
        if told(nvram) == {"web_VARS.fd": b"before.."}:
            write(nvram / "web_VARS.fd", b"started.")  # it was started again before the run died
            self.restore(qemu, journal, record)
            assert told(nvram) == {"web_VARS.fd": b"started."}
        else:
            self.restore(qemu, journal, record)
            assert told(nvram) == {"web_VARS.fd": b"before.."}

    @pytest.mark.parametrize("damage", [lambda path: os.truncate(path, 4096), lambda path: write(path, b"rotten.."), os.unlink], ids=["short", "other", "gone"])
    def test_a_copy_that_is_not_what_was_kept_never_replaces_them(
        self, qemu: Any, uefi: Any, begin: Any, journal: Journal, nvram: Path, damage: Callable[[Path], None]
    ) -> None:
        """And the guest is not stopped for a revert that cannot be."""
        record = begin(uefi(content=b"before.."), "in_place")
        self.resize(qemu, journal, record)
        write(nvram / "web_VARS.fd", b"later...")
        kept = Path(_firmware.kept_path(record))
        damage(kept)
        domain = qemu.lookupByName("web")
        domain.create()
        with pytest.raises(KvmfleetError, match=f"cannot be put back: their copy {kept} is ") as caught:
            self.restore(qemu, journal, record)
        assert caught.value.code == "kept_copy_broken"
        assert domain.isActive()
        assert journal.get(record["uuid"])["status"] == "finished"
        assert told(nvram)["web_VARS.fd"] == b"later..."
        # What the message says.
        shutil.copy2(nvram / "web_VARS.fd", kept)
        self.restore(qemu, journal, record)
        assert told(nvram) == {"web_VARS.fd": b"later..."}

    def test_a_broken_copy_does_no_harm_where_the_guest_wrote_nothing(self, qemu: Any, journal: Journal, record: dict[str, Any], nvram: Path) -> None:
        self.resize(qemu, journal, record)
        os.truncate(_firmware.kept_path(record), 4096)
        self.restore(qemu, journal, record)
        assert told(nvram) == {"web_VARS.fd": b"before.."}

    @pytest.mark.parametrize(
        ("status", "size", "expected"),
        [
            ("migrating", 4096, b"later..."),  # the copy was never complete, and the guest has not run
            ("migrating", None, b"later..."),
            ("finished", None, b"before.."),
        ],
    )
    def test_an_operation_that_an_older_release_began(
        self, qemu: Any, journal: Journal, record: dict[str, Any], nvram: Path, status: str, size: int | None, expected: bytes
    ) -> None:
        after = self.resize(qemu, journal, record)
        del after["kept_nvram"]
        after.update(status=status, step="layering" if status == "migrating" else "finished")
        journal.state.write("migrations", after["uuid"], after)
        write(nvram / "web_VARS.fd", b"later...")
        if size:
            os.truncate(_firmware.kept_path(record), size)
        self.restore(qemu, journal, record)
        assert told(nvram) == {"web_VARS.fd": expected}

    def test_a_copy_of_an_older_release_that_is_not_whole_never_replaces_them(self, qemu: Any, journal: Journal, record: dict[str, Any], nvram: Path) -> None:
        after = self.resize(qemu, journal, record)
        del after["kept_nvram"]
        journal.state.write("migrations", after["uuid"], after)
        write(nvram / "web_VARS.fd", b"later...")
        os.truncate(_firmware.kept_path(record), 4096)
        with pytest.raises(KvmfleetError, match="is not what was kept"):
            self.restore(qemu, journal, record)
        assert told(nvram)["web_VARS.fd"] == b"later..."

    def test_a_link_that_somebody_planted_is_neither_read_nor_written(self, qemu: Any, journal: Journal, record: dict[str, Any], nvram: Path) -> None:
        secret = nvram.parent / "secret"
        shutil.copy(nvram / "web_VARS.fd", secret)
        (nvram / "web_VARS.fd").rename(nvram / "aside")
        (nvram / "web_VARS.fd").symlink_to(secret)
        with pytest.raises(KvmfleetError) as caught:
            self.resize(qemu, journal, record)
        assert caught.value.code == "link_not_followed"
        assert sorted(os.listdir(nvram)) == ["aside", "web_VARS.fd"]

    def test_each_file_is_on_the_disk_before_the_journal_goes_on(
        self, qemu: Any, journal: Journal, record: dict[str, Any], nvram: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with monkeypatch.context() as patch:
            recorder = Recorder(patch, journal.state)
            self.resize(qemu, journal, record)
        recorder.require_order()
        kept = _firmware.kept_path(record)
        assert ("replace", f"{kept}.new", kept) in recorder.events
        write(nvram / "web_VARS.fd", b"later...")
        with monkeypatch.context() as patch:
            recorder = Recorder(patch, journal.state)
            self.restore(qemu, journal, record)
        recorder.require_order(kept)
        assert ("replace", kept, f"{nvram}/web_VARS.fd") in recorder.events


class TestSealed:
    @pytest.fixture
    def record(self, uefi: Any, begin: Any) -> dict[str, Any]:
        return begin(uefi(content=b"old....."), "source")

    def seal(self, qemu: Any, journal: Journal, record: dict[str, Any]) -> dict[str, Any]:
        return _sealing.hand_over(qemu, journal, journal.get(record["uuid"]), SHUTDOWN)

    def finish(self, journal: Journal, record: dict[str, Any]) -> dict[str, Any]:
        return journal.update(journal.get(record["uuid"]), status="finished", step="finished")

    def revert(self, qemu: Any, journal: Journal, record: dict[str, Any]) -> None:
        _sealing.restore(qemu, journal, journal.get(record["uuid"]), status="reverted")

    def reverting(self, journal: Journal, record: dict[str, Any]) -> None:
        journal.update(self.finish(journal, record), status="reverting", step="reverting")

    def test_they_get_another_name_with_the_disks_and_travel_under_it(self, qemu: Any, journal: Journal, record: dict[str, Any], nvram: Path) -> None:
        offered = self.seal(qemu, journal, record)
        sealed = f"web_VARS.fd.sealed-{record['uuid']}"
        assert told(nvram) == {sealed: b"old....."}
        assert offered["files"]["nvram"] == str(nvram / sealed)
        assert offered["manifest"]["sizes"]["nvram"] == (nvram / sealed).stat().st_size

    def test_a_new_guest_of_that_name_keeps_its_own_when_the_old_one_is_confirmed(
        self, qemu: Any, journal: Journal, record: dict[str, Any], uefi: Any, nvram: Path
    ) -> None:
        self.seal(qemu, journal, record)
        uefi("web", content=b"new.....", running=True)
        _sealing.discard(qemu, journal, self.finish(journal, record))
        assert told(nvram) == {"web_VARS.fd": b"new....."}
        assert qemu.lookupByName("web").isActive()

    def test_a_revert_is_refused_while_another_guest_has_the_name(
        self, qemu: Any, journal: Journal, record: dict[str, Any], uefi: Any, images: Path, nvram: Path
    ) -> None:
        self.seal(qemu, journal, record)
        before = sorted(os.listdir(images))
        new = uefi("web", content=b"new.....")
        asked = self.finish(journal, record)
        with pytest.raises(KvmfleetError, match="another guest has this name"):
            source_copy.ask({}, qemu, journal, asked)  # before the guest is stopped at its destination
        journal.update(asked, status="reverting", step="reverting")
        with pytest.raises(KvmfleetError, match=f"another guest has this name now .{new.UUIDString()}") as caught:
            self.revert(qemu, journal, record)
        assert caught.value.code == "name_taken"
        assert told(nvram) == {"web_VARS.fd": b"new.....", f"web_VARS.fd.sealed-{record['uuid']}": b"old....."}
        assert sorted(os.listdir(images)) == sorted([*before, "web.qcow2"])
        # What the message says.
        new.undefineFlags(_binding.libvirt.VIR_DOMAIN_UNDEFINE_KEEP_NVRAM)
        for path in (images / "web.qcow2", nvram / "web_VARS.fd"):
            path.unlink()
        self.revert(qemu, journal, record)
        assert told(nvram) == {"web_VARS.fd": b"old....."}
        assert qemu.lookupByName("web").UUIDString() == record["instance_uuid"]

    def test_no_file_gets_its_name_back_while_one_of_the_names_is_taken(
        self, qemu: Any, journal: Journal, record: dict[str, Any], guest: Any, nvram: Path, images: Path
    ) -> None:
        """By a guest of any name; who it is, is said."""
        self.seal(qemu, journal, record)
        shutil.copy(TEMPLATE, nvram / "web_VARS.fd")
        guest("other", {}, os=f"<loader readonly='yes' type='pflash'>{CODE}</loader><nvram>{nvram}/web_VARS.fd</nvram>")
        before = (sorted(os.listdir(images)), told(nvram))
        self.reverting(journal, record)
        with pytest.raises(KvmfleetError, match=r"web_VARS.fd exists again, used by guest other \(nvram\)") as caught:
            self.revert(qemu, journal, record)
        assert caught.value.code == "sealed_path_taken"
        assert (sorted(os.listdir(images)), told(nvram)) == before

    @pytest.mark.parametrize("call", [*range(8), 99])
    def test_killed_at_any_call_it_is_as_before(
        self, qemu: Any, journal: Journal, record: dict[str, Any], images: Path, nvram: Path, monkeypatch: pytest.MonkeyPatch, call: int
    ) -> None:
        """Whether the seal died, or the way back."""
        with dying(monkeypatch, call, below=nvram.parent, names=CALLS), contextlib.suppress(Killed):
            self.seal(qemu, journal, record)
        with dying(monkeypatch, max(0, call - 4), below=nvram.parent, names=CALLS), contextlib.suppress(Killed):
            _sealing.restore(qemu, journal, journal.get(record["uuid"]), status="error")
        _sealing.restore(qemu, journal, journal.get(record["uuid"]), status="error")
        assert (told(nvram), os.listdir(images)) == ({"web_VARS.fd": b"old....."}, ["web.qcow2"])
        assert _domains.find_domain(qemu, record["instance_uuid"]) is not None

    @pytest.mark.parametrize("end", ["confirm", "revert"])
    @pytest.mark.parametrize("foreign", [False, True], ids=["own", "taken by a new guest"])
    def test_an_operation_that_an_older_release_sealed(
        self, qemu: Any, journal: Journal, record: dict[str, Any], uefi: Any, guest: Any, nvram: Path, end: str, foreign: bool
    ) -> None:
        """It left them under their own name: they come back, and go unless a new guest has taken them."""
        self.seal(qemu, journal, record)
        os.rename(_firmware.sealed_path(journal.get(record["uuid"])), nvram / "web_VARS.fd")
        old = journal.get(record["uuid"])
        del old["sealed_nvram"]
        journal.state.write("migrations", old["uuid"], old)
        if foreign:
            guest("web", {}, os=f"<loader readonly='yes' type='pflash'>{CODE}</loader><nvram>{nvram}/web_VARS.fd</nvram>")
        if end == "confirm":
            _sealing.discard(qemu, journal, self.finish(journal, record))
            assert told(nvram) == ({"web_VARS.fd": b"old....."} if foreign else {})
            return
        self.reverting(journal, record)
        if foreign:
            with pytest.raises(KvmfleetError) as caught:
                self.revert(qemu, journal, record)
            assert caught.value.code == "name_taken"
        else:
            self.revert(qemu, journal, record)
        assert told(nvram) == {"web_VARS.fd": b"old....."}

    def test_each_name_is_on_the_disk_before_the_journal_goes_on(
        self, qemu: Any, journal: Journal, record: dict[str, Any], images: Path, nvram: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def back() -> None:
            _sealing.restore(qemu, journal, journal.get(record["uuid"]), status="error")

        def confirm() -> None:
            _sealing.discard(qemu, journal, self.finish(journal, record))

        begun = journal.get(record["uuid"])
        for act, event in ((lambda: self.seal(qemu, journal, record), "rename"), (back, "rename"), (confirm, "unlink")):
            if act is confirm:
                journal.state.write("migrations", record["uuid"], begun)
                self.seal(qemu, journal, record)
            with monkeypatch.context() as patch:
                recorder = Recorder(patch, journal.state)
                act()
            recorder.require_order()
            touched = {os.path.dirname(paths[0]) for happened, *paths in recorder.events if happened == event}
            assert touched == {str(images), str(nvram)}

    def test_what_is_there_already_is_refused_by_the_claim(self, qemu: Any, record: dict[str, Any], nvram: Path) -> None:
        """Left by a guest that was undefined with --keep-nvram, say."""
        given = {**record, "instance_uuid": str(uuid.uuid4()), "instance_name": "web2", "disks": [], "nvram": f"{nvram}/web_VARS.fd"}
        reasons = _admission._conflicts(qemu, StateDir(str(nvram / "state")), given, {"macs": []})
        assert [(reason["code"], reason["reason"]) for reason in reasons] == [("path_taken", f"{nvram}/web_VARS.fd exists here already")]


class TestMoved:
    """Through the real channel; both ends are this host, with other directories."""

    @pytest.fixture
    def there(self, tmp_path: Path, uefi: Any, begin: Any, qemu: Any, journal: Journal) -> Any:
        """The destination's directory of variables, its journal with a record, and how to receive."""
        record = begin(uefi(content=b"mine...."), "source")
        nvram, images = tmp_path / "there-nvram", tmp_path / "there-images"
        for directory in (nvram, images):
            directory.mkdir()
        os.chown(nvram, 65534, 65534)
        other = Journal(StateDir(str(tmp_path / "there")))
        given = {**{key: record[key] for key in record if key not in ("status", "step", "history")}, "role": "destination"}
        given["disks"] = [{**disk(f"{images}/web.qcow2"), **record["disks"][0], "path": f"{images}/web.qcow2"}]
        given.update(nvram=f"{nvram}/web_VARS.fd", image_directories=[str(images), str(nvram)])
        given = {**plan(record["instance_name"], record["instance_uuid"], []), **given}
        other.update(other.begin(given), step="admitted")
        key = secrets.token_hex(32)
        server = Server(journal.state, record["uuid"])
        port = server.open(address="127.0.0.1", ports="27700-27763", key=key, idle_timeout=30)
        wanted = {"shutdown_timeout": 0, "shutdown_retry_interval": 1, "on_shutdown_timeout": "destroy", "shutdown_modes": ["acpi"]}
        source_copy.seal({"destination_host": "kvm2", "secrets": [], **wanted}, qemu, journal, journal.get(record["uuid"]))

        def receive() -> None:
            channel = {"address": "127.0.0.1", "port": port, "key": key, "stall_timeout": 10}
            _receiving.receive(qemu, other, other.get(record["uuid"]), channel=channel, bases={}, verify="extents", watch=WATCH)

        yield SimpleNamespace(nvram=nvram, images=images, journal=other, uuid=record["uuid"], receive=receive)
        server.close()

    def test_they_arrive_whole_and_a_link_under_their_temporary_name_is_not_written_through(self, there: Any, tmp_path: Path) -> None:
        (tmp_path / "secret").write_bytes(b"precious")
        part = there.nvram / f"web_VARS.fd.{there.uuid}.part"
        part.symlink_to(tmp_path / "secret")
        os.lchown(part, 65534, 65534)
        there.receive()
        assert (told(there.nvram), (tmp_path / "secret").read_bytes()) == ({"web_VARS.fd": b"mine...."}, b"precious")
        assert sorted(os.listdir(there.images)) == ["web.qcow2"]

    @pytest.mark.parametrize("call", range(2, 20, 3))
    def test_killed_at_any_call_nothing_stays(self, qemu: Any, there: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: int) -> None:
        with contextlib.suppress(Killed), dying(monkeypatch, call, below=tmp_path / "there-"):
            there.receive()
        record = there.journal.get(there.uuid)
        _withdrawing.undefine(qemu, there.journal, record, SHUTDOWN)
        _withdrawing.withdraw(qemu, there.journal, record, status="reverted" if record["status"] == "reverting" else "error")
        assert (os.listdir(there.nvram), os.listdir(there.images)) == ([], [])

    def test_content_and_names_are_on_the_disk_before_the_journal_goes_on(self, there: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        with monkeypatch.context() as patch:
            recorder = Recorder(patch, there.journal.state)
            there.receive()
        recorder.require_order()
        named = [event for event in recorder.events if event[0] == "link"]
        assert [event[2] for event in named] == [f"{there.images}/web.qcow2", f"{there.nvram}/web_VARS.fd"]
