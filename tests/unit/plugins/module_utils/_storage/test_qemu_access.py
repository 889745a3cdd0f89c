# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What QEMU's user may open is tried before the guest stops, and owner and mode go with a file, to where QEMU can open it."""

from __future__ import annotations

import os
import pwd
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.kvmfleet.compute.plugins.module_utils._domain import definition as _definition
from ansible_collections.kvmfleet.compute.plugins.module_utils._journal.records import Journal
from ansible_collections.kvmfleet.compute.plugins.module_utils._rules.errors import KvmfleetError
from ansible_collections.kvmfleet.compute.plugins.module_utils._storage import (
    incoming as _incoming,
    new_files as _new_files,
    qemu_access as _qemu_access,
    qemu_user as _qemu_user,
)
from ansible_collections.kvmfleet.compute.plugins.module_utils._storage.qemu_user import Process
from ansible_collections.kvmfleet.compute.plugins.module_utils._system.whole_file import Look

NOBODY = pwd.getpwnam("nobody")
QEMU = Process(NOBODY.pw_uid, NOBODY.pw_gid, gives=False, remembers=True, privileged=False)
OWN = {"uid": 0, "gid": 0, "user": "root", "group": "root", "mode": 0o640, "of_qemu": [False, False], "given": False, "relabel": True, "label": None}


@pytest.fixture(autouse=True)
def _root() -> Iterator[None]:
    """Under a umask that lets nobody in."""
    if os.geteuid():
        pytest.skip("only root can become QEMU's user")
    before = os.umask(0o077)
    yield
    os.umask(before)


@pytest.fixture
def open_images() -> Iterator[Path]:
    """Where every user gets to. Not so the directories of tests, which each pytest that starts closes again."""
    with tempfile.TemporaryDirectory(prefix="kvmfleet-") as directory:
        Path(directory).chmod(0o711)
        yield Path(directory)


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Let QEMU run here as nobody."""

    def runs(**changes: Any) -> Process:
        process = replace(QEMU, **changes)
        monkeypatch.setattr(_qemu_user, "of_host", lambda _conn: process)
        return process

    runs()
    return runs


def record(path: str, owner: dict[str, Any] | None, role: str = "destination", **more: Any) -> dict[str, Any]:
    disk = {"target": "vda", "kind": "disk", "path": path, "format": "qcow2"}
    owners = {} if owner is None else {"vda": owner}
    return {"uuid": "m-1", "role": role, "instance_uuid": "i-1", "instance_name": "web", "disks": [disk], "nvram": None, "owners": owners, **more}


def look(path: Path) -> Look:
    return _qemu_access.look_of(str(path))


def test_the_user_of_qemu_is_what_libvirt_says(qemu: Any) -> None:
    told = _qemu_user.of_host(qemu)
    assert (told.uid, told.gid, told.gives, told.remembers) == (0, 0, True, True)
    assert _qemu_user.facts(qemu)["user"] == "root"


@pytest.mark.parametrize(
    ("text", "gives", "remembers", "privileged"),
    [
        ("dynamic_ownership = 0\n", False, True, False),
        ("#dynamic_ownership = 0\nremember_owner=0\n", True, False, False),
        ("  clear_emulator_capabilities = 0 # comment\n", True, True, True),
    ],
)
def test_whether_libvirt_gives_it_files_is_in_its_configuration(
    qemu: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, text: str, gives: bool, remembers: bool, privileged: bool
) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/qemu.conf").write_text(text)

    class Elsewhere:
        getCapabilities = qemu.getCapabilities  # noqa: N815

        def getURI(self) -> str:  # noqa: N802
            return f"qemu:///embed?root={tmp_path}"

    found = _qemu_user.of_host(Elsewhere())
    assert (found.gives, found.remembers, found.privileged) == (gives, remembers, privileged)


@pytest.mark.parametrize(
    ("seclabel", "of_disk", "label", "relabel"),
    [
        ("", "", None, True),
        ("<seclabel type='dynamic' model='dac' relabel='yes'/>", "", None, True),
        ("<seclabel type='static' model='dac' relabel='no'><label>+7:+8</label></seclabel>", "", "+7:+8", False),
        ("<seclabel type='static' model='dac'><label>nobody:nogroup</label></seclabel>", "", "nobody:nogroup", False),
        ("<seclabel type='static' model='dac' relabel='yes'><label>+7:+8</label></seclabel>", "", "+7:+8", True),
        ("<seclabel type='none' model='dac'/>", "", None, False),
        ("<seclabel type='none' model='selinux'/>", "", None, True),
        ("", "<seclabel model='dac' relabel='no'/>", None, False),
        ("", "<seclabel model='selinux' relabel='no'/>", None, True),
    ],
)
def test_a_definition_and_a_disk_have_a_say(seclabel: str, of_disk: str, label: str | None, relabel: bool) -> None:
    root = _definition.parse_document(
        f"<domain><devices><disk><source file='/a'>{of_disk}</source><target dev='vda'/></disk><disk><target dev='vdb'/></disk></devices>{seclabel}</domain>"
    )
    assert _qemu_user.labels(root, "vda") == (label, relabel)


@pytest.mark.parametrize("label", ["nobody:nogroup", f"+{NOBODY.pw_uid}:+{NOBODY.pw_gid}", f"{NOBODY.pw_uid}:{NOBODY.pw_gid}"])
def test_labels_are_names_or_numbers(label: str) -> None:
    assert _qemu_user.ids(label) == (NOBODY.pw_uid, NOBODY.pw_gid)


def test_a_label_that_is_neither_is_refused() -> None:
    with pytest.raises(KvmfleetError, match="no such user or group") as caught:
        _qemu_user.ids("no-such-user:+0")
    assert caught.value.code == "unknown_user"


@pytest.mark.parametrize(
    ("owner", "gives", "expected"),
    [
        # What libvirt gives to QEMU keeps the owner that it has while the guest is off.
        (OWN, True, (0, 0, 0o640)),
        # Where it does not, root's file would not do, and QEMU gets one of its own.
        (OWN, False, (QEMU.uid, QEMU.gid, 0o640)),
        # What QEMU owns at the source, under whatever number, it owns here.
        ({**OWN, "uid": 64055, "gid": 108, "user": "libvirt-qemu", "group": "kvm", "of_qemu": [True, True]}, False, (QEMU.uid, QEMU.gid, 0o640)),
        # An owner of another name stays, if QEMU gets in by the group or as anybody.
        ({**OWN, "uid": 1, "user": "daemon", "gid": 108, "group": "kvm", "of_qemu": [False, True], "mode": 0o660}, False, (1, QEMU.gid, 0o660)),
        ({**OWN, "uid": 77777, "user": None, "gid": 77777, "group": None, "mode": 0o666}, False, (77777, 77777, 0o666)),
        # The name counts before the number.
        ({**OWN, "uid": 77777, "user": "daemon", "mode": 0o666}, False, (1, 0, 0o666)),
        # A source that gives files to QEMU, and a destination that does not.
        ({**OWN, "given": True, "mode": 0o644}, False, (QEMU.uid, QEMU.gid, 0o644)),
        (None, True, (0, 0, 0o600)),
    ],
)
def test_owner_and_mode_travel_to_where_qemu_can_open_the_file(open_images: Path, host: Any, owner: Any, gives: bool, expected: tuple[int, int, int]) -> None:
    host(gives=gives)
    path = f"{open_images}/web.qcow2"
    assert _qemu_access.looks(None, record(path, owner)) == ({path: list(expected)}, [])
    assert os.listdir(open_images) == []


@pytest.mark.parametrize("gives", [True, False])
@pytest.mark.parametrize("role", ["destination", "in_place"])
def test_a_directory_that_does_not_let_qemu_through_is_an_obstacle(open_images: Path, host: Any, gives: bool, role: str) -> None:
    """Also where libvirt gives QEMU the file: it changes no directory."""
    host(gives=gives)
    (open_images / "private/deep").mkdir(parents=True)
    (open_images / "private/deep").chmod(0o755)
    chosen, [(path, obstacle)] = _qemu_access.looks(None, record(f"{open_images}/private/deep/web.qcow2", OWN, role))
    assert (chosen, path) == ({}, f"{open_images}/private/deep/web.qcow2")
    assert obstacle.reason.startswith("QEMU, which runs as nobody:")
    assert f"the directory {open_images}/private belongs to root:root 0700" in obstacle.reason
    assert (obstacle.have, obstacle.need) == ("root:root 0700", f"a directory that lets nobody through (chmod o+x {open_images}/private)")
    (open_images / "private").chmod(0o711)
    assert _qemu_access.looks(None, record(path, OWN, role))[1] == []


def test_a_filesystem_that_is_read_only_is_an_obstacle(open_images: Path, host: Any) -> None:
    subprocess.run(["mount", "--bind", "-o", "ro", str(open_images), str(open_images)], check=True)
    try:
        _chosen, [(_path, obstacle)] = _qemu_access.looks(None, record(f"{open_images}/web.qcow2", OWN))
    finally:
        subprocess.run(["umount", str(open_images)], check=True)
    assert obstacle.reason == f"root can make no file in {open_images}: Read-only file system"


def test_a_directory_that_is_not_there_is_no_matter_of_access(open_images: Path, host: Any) -> None:
    assert _qemu_access.looks(None, record(f"{open_images}/none/web.qcow2", OWN)) == ({}, [])


def test_a_root_without_capabilities_is_nobody_special(open_images: Path, host: Any) -> None:
    """As libvirt starts a QEMU that runs as root."""
    strange = {**OWN, "uid": 1, "gid": 1, "user": None, "group": None, "mode": 0o600}
    host(uid=0, gid=0)
    assert _qemu_access.looks(None, record(f"{open_images}/web.qcow2", strange))[0] == {f"{open_images}/web.qcow2": [0, 0, 0o600]}
    host(uid=0, gid=0, privileged=True)
    assert _qemu_access.looks(None, record(f"{open_images}/web.qcow2", strange))[0] == {f"{open_images}/web.qcow2": [1, 1, 0o600]}


def test_a_disk_on_shared_storage_is_tried_itself(open_images: Path, host: Any) -> None:
    """It is not made here. What libvirt gives to QEMU may belong to the QEMU of the source as yet."""
    path = open_images / "web.qcow2"
    path.touch(mode=0o600)
    begun = record(str(path), OWN)
    begun["disks"][0]["shared"] = True
    _chosen, [(at, obstacle)] = _qemu_access.looks(None, begun)
    assert (at, obstacle.have) == (str(path), "root:root 0600")
    host(gives=True)
    assert _qemu_access.looks(None, begun) == ({}, [])
    host(gives=False)
    os.chown(path, QEMU.uid, QEMU.gid)
    assert _qemu_access.looks(None, begun) == ({}, [])
    assert os.listdir(open_images) == [path.name]


def test_a_label_of_the_guest_is_whom_it_is_tried_as(open_images: Path, host: Any) -> None:
    host(uid=0, gid=0)
    path = f"{open_images}/web.qcow2"
    owner = {**OWN, "label": f"+{NOBODY.pw_uid}:+{NOBODY.pw_gid}", "relabel": False}
    assert _qemu_access.looks(None, record(path, owner))[0] == {path: [NOBODY.pw_uid, NOBODY.pw_gid, 0o640]}


def test_a_base_that_qemu_cannot_open_is_refused(open_images: Path, host: Any) -> None:
    base = open_images / "_base" / "base.raw"
    base.parent.mkdir()
    base.write_bytes(b"x")
    base.chmod(0o444)
    root = _definition.parse_document("<domain/>")
    for gives in (True, False):
        host(gives=gives)
        with pytest.raises(KvmfleetError, match=f"the directory {base.parent} belongs to root:root 0700") as caught:
            _qemu_access.require_readable(None, root, [str(base)])
        assert caught.value.code == "qemu_cannot_open"
    base.parent.chmod(0o755)
    _qemu_access.require_readable(None, root, [str(base)])
    base.chmod(0o400)
    with pytest.raises(KvmfleetError, match="which belongs to root:root 0400: Permission denied"):
        _qemu_access.require_readable(None, root, [str(base)])
    host(gives=True)
    _qemu_access.require_readable(None, root, [str(base)])


@pytest.mark.parametrize(("active", "uid"), [(True, 0), (False, NOBODY.pw_uid)])
def test_the_owner_of_a_file_that_libvirt_has_given_away_is_the_one_before(open_images: Path, host: Any, active: bool, uid: int) -> None:
    host(gives=True)
    path = open_images / "web.qcow2"
    path.touch()
    os.chown(path, NOBODY.pw_uid, NOBODY.pw_gid)
    assert _qemu_access.owners(None, _definition.parse_document("<domain/>"), {"vda": str(path)}, active)["vda"]["uid"] == uid
    found = _qemu_access.owners(None, _definition.parse_document("<domain><seclabel type='none' model='dac'/></domain>"), {"vda": str(path)}, active)["vda"]
    assert (found["uid"], found["given"], found["of_qemu"], found["mode"]) == (NOBODY.pw_uid, False, [True, True], 0o600)


def test_a_file_that_arrived_gets_the_look_that_was_found(state: Any, open_images: Path) -> None:
    path = f"{open_images}/web.qcow2"
    journal = Journal(state)
    begun = journal.begin({**record(path, OWN), "owner": "o", "source_host": "kvm1", "destination_host": "kvm2", "looks": {path: [1, 2, 0o644]}})
    Path(_incoming.part_path(begun, path)).write_bytes(b"x")
    _incoming.publish(journal, begun, [path])
    assert look(Path(path)) == Look(1, 2, 0o644)


def test_a_disk_that_is_added_gets_the_look_of_the_one_beside_it(state: Any, open_images: Path, host: Any) -> None:
    new = {"role": "swap", "target": "vdb", "path": f"{open_images}/web-swap.qcow2", "format": "qcow2", "size": 1024**2, "beside": "vda"}
    owner = {**OWN, "uid": 1, "user": "daemon", "mode": 0o666}
    begun = record(f"{open_images}/web.qcow2", owner, "in_place", new_disks=[new])
    chosen, _obstacles = _qemu_access.looks(None, begun)
    journal = Journal(state)
    instance = "8f1c9f54-6c1a-4a55-a5d5-b1a4f6f1f3a7"
    _new_files.make(journal, journal.begin({**begun, "instance_uuid": instance, "owner": "o", "source_host": "k", "destination_host": "k", "looks": chosen}))
    assert look(open_images / "web-swap.qcow2") == Look(1, 0, 0o666)
