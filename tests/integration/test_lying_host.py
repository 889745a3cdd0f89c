# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A host lies in whole playbooks: its modules answer, and its channel offers, what it likes. Nothing comes of that on the other host.

Its Python is a program that runs the genuine module and puts the lie into the answer, or into a document that the module has just offered.
"""

from __future__ import annotations

import base64
import contextlib
import json
import time
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pytest
from support.faults import QUICK, Subject, never_read, nothing_open, one_paragraph, write_files
from support.fleet import Fleet, Run
from support.guest import Guests
from support.lab import IMAGES, STATE, Host, Lab

SETTLE = {"instance": "web", **QUICK}
MOVE = {**SETTLE, "target_host": "kvm2", "migrate_precopy": "never"}

PLANTED = "/etc/cron.d/planted-by-kvm1"
UNREAD = "/etc/secret-of-kvm2"
ON_THE_CONTROLLER = "/tmp/planted-on-the-controller"
OTHER = "11111111-2222-4333-8444-555555555555"
NOWHERE = "../../../../../etc/cron.d/planted-by-kvm1"

LIAR, LIE, TOLD = "/root/lying-python3", "/root/lie.json", "/root/told-the-lie"
PROGRAM = f"""#!/usr/bin/python3
import glob, json, os, re, subprocess, sys

with open("{LIE}") as stream:
    lie = json.load(stream)
module = sys.stdin.buffer.read()
done = subprocess.run(["/usr/bin/python3", *sys.argv[1:]], input=module, stdout=subprocess.PIPE)


def put(document):
    if not lie["place"]:
        return lie["value"]
    *way, last = lie["place"]
    inner = document
    for key in way:
        inner = inner[key]
    if isinstance(inner, list) and last == len(inner):
        inner.append(None)
    inner[last] = re.sub(lie["instead_of"], lambda _found: lie["value"], inner[last], count=1) if lie["instead_of"] else lie["value"]
    return document


def lied(text):
    document = json.dumps(put(json.loads(text)))
    if json.loads(document) != json.loads(text):
        open("{TOLD}", "w").close()
    return document


answer = done.stdout
if re.search(rb"plugins[./]modules[./]" + lie["module"].encode() + rb"\\b", module):
    if lie["document"] is None:
        answer = lied(answer).encode()
    for path in glob.glob(f"{STATE}/exports/*/files/{{lie['document']}}"):
        with open(path) as stream:
            document = lied(stream.read())
        new = os.path.join(os.path.dirname(os.path.dirname(path)), ".lie")
        with open(new, "w") as stream:
            stream.write(document)
        os.replace(new, path)
sys.stdout.buffer.write(answer)
sys.exit(done.returncode)
"""


@dataclass(frozen=True)
class Lie:
    """What a host says, or offers, in place of the truth.

    :param module: the one that has just run there; :param place: where it lies in its answer, the whole answer if that is nowhere.
    :param names: what the refusal names; nothing where the guest may as well move, as it is.
    :param document: the document of the channel that it lies in, instead of the answer; :param instead_of: what it stands for in a text.
    """

    module: str
    place: tuple[str | int, ...]
    value: Any
    names: tuple[str, ...] = ()
    document: str | None = None
    instead_of: str | None = None
    asked_by_uuid: bool = False


FACTS = ("ansible_facts", "kvmfleet_host")
_LAYER = {"path": PLANTED, "format": "raw", **dict.fromkeys(("virtual_size", "allocated_bytes", "file_bytes"), 4096)}
_DRIVE = {"target": "sdz", "device": "cdrom", "bus": "sata", "source_type": "file", "pool": None, "volume": None, "role": None, "readonly": True}
MEDIUM = {**_DRIVE, **_LAYER, "chain": [_LAYER], **dict.fromkeys(("shareable", "root", "encrypted"), False)}
ANSWERS = {
    "a disk among the jobs of cron": Lie("domain_info", ("domain", "disks", 0, "path"), PLANTED, ("disks[0].path", PLANTED, "lies outside")),
    "a disk by a detour": Lie("domain_info", ("domain", "disks", 0, "path"), f"{IMAGES}/{NOWHERE}", ("plan.disks[0].path", "expected an absolute path")),
    "one more CD-ROM": Lie("domain_info", ("domain", "disks", 1), MEDIUM, ("disks[1].path", PLANTED, "lies outside")),
    "firmware variables": Lie("domain_info", ("domain", "firmware", "nvram"), PLANTED, ("nvram", PLANTED, "lies outside")),
    "a console log": Lie("domain_info", ("domain", "console_logs"), [{"path": PLANTED, "append": True}], ("console_logs[0].path", PLANTED, "lies outside")),
    "a smaller disk": Lie("domain_info", ("domain", "disks", 0, "virtual_size"), 2**20, ("by the plan vda has 1048576",)),
    "a size that is a word": Lie("domain_info", ("domain", "disks", 0, "virtual_size"), "large", ("domain.disks[0].virtual_size", "a number")),
    "no firmware at all": Lie("domain_info", ("domain", "firmware"), None, ("domain.firmware", "a value")),
    "a base image by a detour": Lie("domain_info", ("domain", "disks", 0, "chain", 1, "identity", "sha256"), NOWHERE, ("sha256", "hexadecimal")),
    "a base image elsewhere": Lie("domain_info", ("domain", "disks", 0, "chain", 1, "path"), UNREAD),
    "another bridge": Lie("domain_info", ("domain", "interfaces", 0, "source"), "br-secret", ("br-secret",)),
    "another program as emulator": Lie("domain_info", ("domain", "emulator"), "/usr/bin/env", ("/usr/bin/env",)),
    "a template as its error": Lie("domain_info", (), {"failed": True, "msg": f"{{{{ lookup('pipe', 'touch {ON_THE_CONTROLLER}') }}}}"}, ("lookup",)),
    "a name that is a path": Lie("host_facts", (*FACTS, "domains", 0, "name"), NOWHERE, ("instance.name", NOWHERE), asked_by_uuid=True),
    "a UUID that is a path": Lie("host_facts", (*FACTS, "domains", 0, "uuid"), NOWHERE, ("instance.uuid", NOWHERE)),
    "another UUID": Lie("host_facts", (*FACTS, "domains", 0, "uuid"), OTHER),
    "facts of another host": Lie("host_facts", (*FACTS, "host"), "kvm2", ("kvm1", "its facts are those of 'kvm2'")),
    "no guest": Lie("host_facts", (*FACTS, "domains"), [], ("No host defines the instance 'web'",)),
    "a probe by a detour": Lie("migration", ("probes",), {IMAGES: {"name": NOWHERE, "content": "00"}}, ("probes", "a name of a file without '/'")),
    "a probe that nobody wrote": Lie("migration", ("probes",), {IMAGES: {"name": f".kvmfleet-probe-{'0' * 32}", "content": "00"}}),
    "a port that is a command": Lie("copy_channel", ("port",), f"22 -oProxyCommand=touch${{IFS}}{ON_THE_CONTROLLER}", ("port",)),
}

_ARGUMENT = (
    "<qemu:commandline xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'>"
    f"<qemu:arg value='-drive'/><qemu:arg value='file={UNREAD},format=raw'/></qemu:commandline></domain>"
)


def _device(text: str) -> tuple[str, str]:
    return "</devices>", f"{text}</devices>"


DEFINITIONS: Mapping[str, tuple[tuple[str, str], tuple[str, ...]]] = {
    "an argument of QEMU": (("</domain>", _ARGUMENT), ("commandline",)),
    "a file of the destination as a disk": (
        _device(f"<disk type='file'><driver name='qemu' type='raw'/><source file='{UNREAD}'/><target dev='vdz'/></disk>"),
        ("its disk vdz", UNREAD, "none of the plan"),
    ),
    "a disk of the destination": (
        _device("<disk type='block'><driver name='qemu' type='raw'/><source dev='/dev/vda'/><target dev='vdy'/></disk>"),
        ("/dev/vda", "a block device"),
    ),
    "the root of the destination": (_device("<filesystem type='mount'><source dir='/'/><target dir='host'/></filesystem>"), ("filesystem",)),
    "a file to write the console to": (_device(f"<serial type='file'><source path='{PLANTED}'/></serial>"), (PLANTED, "none of the plan")),
    "firmware variables": (("</os>", f"<nvram>{PLANTED}</nvram></os>"), ("firmware variables", PLANTED)),
    "a kernel": (("</os>", f"<kernel>{UNREAD}</kernel></os>"), ("it boots from", UNREAD)),
    "another bridge": (("<source bridge='[^']*'", "<source bridge='br-secret'"), ("br-secret", "none of the plan")),
    "another emulator": (("<emulator>[^<]*", "<emulator>/usr/bin/env"), ("its emulator is /usr/bin/env",)),
    "another UUID": (("<uuid>[^<]*", f"<uuid>{OTHER}"), ("its uuid is", OTHER)),
    "another name": (("<name>[^<]*", f"<name>{NOWHERE}"), ("its name is", NOWHERE)),
    "no confinement": (("</domain>", "<seclabel type='none'/></domain>"), ("seclabel",)),
}


def offered(document: str, what: str) -> Lie:
    """A definition that is not the guest's: told while the guest runs (`definition`), or not before it is down (`manifest`)."""
    (instead_of, value), names = DEFINITIONS[what]
    module = {"definition": "copy_channel", "manifest": "source_copy"}[document]
    return Lie(module, ("domain_xml",), value, names, document, instead_of)


def sealed(place: tuple[str, ...], value: Any, *names: str) -> Lie:
    return Lie("source_copy", place, value, names, "manifest")


_SNAPSHOT = f"<domainsnapshot><name>one</name><disks><disk name='vda' type='file'><source file='{UNREAD}'/></disk></disks></domainsnapshot>"
_LOG = {"path": PLANTED, "content": base64.b64encode(zlib.compress(b"* * * * * root id\n")).decode(), "whole": True}
MANIFESTS = {
    "the state of a TPM by a detour": sealed(("tpm",), {NOWHERE: "eA=="}, "manifest.tpm"),
    "a snapshot of another file": sealed(("snapshots",), [{"name": "one", "xml": _SNAPSHOT, "current": True}], "snapshot one", UNREAD),
    "a console log elsewhere": sealed(("console_logs",), [_LOG]),
    "one more file": sealed(("files", NOWHERE), 4096, "manifest.files", "a name in the channel"),
    "files without end": sealed(("files", "vda"), 2**50, "vda", "by the plan it has"),
    "the files of another operation": sealed(("migration_uuid",), OTHER, OTHER),
    "a field that nobody knows": sealed(("run",), "id", "manifest.run"),
    "a start with its host": sealed(("autostart",), True),
}


@pytest.fixture
def subject(lab: Lab, guests: Guests) -> Subject:
    guest = guests.create("web", "kvm1")
    return Subject(lab, guest, guest.write(8))


@pytest.fixture(autouse=True)
def unread(lab: Lab) -> Iterator[None]:
    """Whatever is told, nobody reads the secret, nor does anything come to the controller."""
    with never_read([lab["kvm2"]], UNREAD):
        yield
    assert not Path(ON_THE_CONTROLLER).exists()


@contextlib.contextmanager
def lying(host: Host, fleet: Fleet, lie: Lie) -> Iterator[None]:
    """A host that tells this lie, which must come to be told."""
    write_files(host, {LIAR: PROGRAM, LIE: json.dumps(asdict(lie))})
    host.sh(f"chmod 755 {LIAR}; rm -f {TOLD}")
    variables = fleet.hosts[host.name]
    variables["ansible_python_interpreter"] = LIAR
    try:
        yield
        assert host.exists(TOLD), f"it was not told: {lie}"
    finally:
        del variables["ansible_python_interpreter"]
        host.sh(f"rm -f {LIAR} {LIE} {TOLD}")


def outside(host: Host) -> str:
    """Every file where no operation may write, such that a change of any shows, whoever takes it back."""
    places = "/etc /root /home/operator/.ssh /var/lib/libvirt /var/spool"
    return host.sh(f"find {places} -path {IMAGES} -prune -o ! -type d -printf '%p %y %m %U:%G %s %T@ %C@ %l\\n' | sort")


def tell(subject: Subject, fleet: Fleet, lie: Lie) -> Run:
    """Move the guest while kvm1 lies: refused in plain words, or moved as it is; then it is at kvm1, and kvm2 is as it was."""
    guest, kvm1, kvm2 = subject.guest, subject.lab["kvm1"], subject.lab["kvm2"]
    before, what = outside(kvm2), (guest.identity, guest.disk_paths)
    asked = {"instance": kvm1.virsh("domuuid", "web")} if lie.asked_by_uuid else {}
    with lying(kvm1, fleet, lie):
        run = fleet.play("migrate", **{**MOVE, **asked})
    if lie.names or run.rc:
        error = one_paragraph(run, *lie.names)
        if "NOT be undone" in error:
            fleet.play("recover", **SETTLE).ok()
    else:
        assert (kvm2.domains, guest.hosts) == (["web"], ["kvm2"])
        assert not [word for word in (PLANTED, UNREAD, OTHER) if word in guest.xml]
        assert (guest.identity, guest.disk_paths) == what
        fleet.play("revert", **SETTLE).ok()
    assert kvm2.domains == []
    assert outside(kvm2) == before
    assert (guest.hosts, guest.identity, guest.disk_paths) == (["kvm1"], *what)
    nothing_open(subject.lab, guest)
    return run


def tell_all(subject: Subject, fleet: Fleet, lies: Mapping[str, Lie]) -> None:
    """One after the other, about a guest that is off, which takes less time; in the end it starts with its data."""
    subject.guest.shut_down()
    wrong = {}
    for what, lie in lies.items():
        try:
            print(f"{what}: {tell(subject, fleet, lie).error or 'moved'}")
        except AssertionError as error:
            wrong[what] = str(error)
    assert not wrong, "\n".join(f"{what}: {error}" for what, error in wrong.items())
    fleet.play("recover", **QUICK).ok()
    subject.guest.host.virsh("start", "web")
    subject.as_before()


def test_the_worst_lies_come_to_nothing(fleet: Fleet, subject: Subject) -> None:
    """One in the facts, one while the guest runs, and one when it is down; it has not been restarted for the first two."""
    boot_id = subject.boot_id
    tell(subject, fleet, ANSWERS["a disk among the jobs of cron"])
    tell(subject, fleet, offered("definition", "an argument of QEMU"))
    subject.is_untouched(boot_id)
    tell(subject, fleet, offered("manifest", "a file of the destination as a disk"))
    fleet.play("recover", **SETTLE).ok()
    subject.as_before()


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_lies_in_answers_come_to_nothing(fleet: Fleet, subject: Subject) -> None:
    tell_all(subject, fleet, ANSWERS)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("document", ["definition", "manifest"])
def test_lies_in_the_channel_come_to_nothing(fleet: Fleet, subject: Subject, document: str) -> None:
    lies = {what: offered(document, what) for what in DEFINITIONS}
    tell_all(subject, fleet, {**lies, **(MANIFESTS if document == "manifest" else {})})


@pytest.mark.slow
def test_operations_that_a_host_invents_touch_no_guest(lab: Lab, fleet: Fleet, guests: Guests) -> None:
    """A host says that it is the destination, or the source, of the guest of another host, so that its copy would be removed."""
    guest = guests.create("web", "kvm2")
    subject = Subject(lab, guest, guest.write())
    boot_id, before = subject.boot_id, outside(lab["kvm2"])
    now, web = time.time(), lab["kvm2"].virsh("domuuid", "web")
    record = {"uuid": OTHER, "instance_name": "web", "instance_uuid": web, "migration_type": "migration", "owner": "a run", "updated_at": now}
    record.update(dict.fromkeys(("old_flavor", "new_flavor", "lease_until")))
    arrived = {**record, "role": "destination", "source_host": "kvm2", "destination_host": "kvm1", "status": "finished", "step": "finished"}
    left = {**record, "role": "source", "source_host": "kvm1", "destination_host": "kvm2"}
    for verb, invented, answer in (
        ("confirm", arrived, "look at both hosts"),
        ("recover", arrived, "look at both hosts"),
        ("revert", {**left, "status": "finished", "step": "finished"}, "look at the guest there"),
        ("recover", {**left, "status": "migrating", "step": "sealed"}, OTHER),
    ):
        with lying(lab["kvm1"], fleet, Lie("host_facts", (*FACTS, "migrations"), [invented])):
            print(f"{verb}: {one_paragraph(fleet.play(verb, **SETTLE), answer)}")
        subject.is_untouched(boot_id, "kvm2")
        assert outside(lab["kvm2"]) == before
