# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A source that says and serves what it likes, against a real destination: its claim, the channel over TLS, and libvirt.

Whatever it says, nothing outside of the destination's directories is written, no domain is defined but the one that was planned, with the files
that were planned, and the undo leaves nothing.
"""

from __future__ import annotations

import base64
import contextlib
import copy
import hashlib
import json
import os
import random
import re
import secrets
import shutil
import uuid
import xml.etree.ElementTree as ET
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import libvirt
import pytest

from ansible_collections.kvmfleet.compute.plugins.module_utils._channel import documents as _documents
from ansible_collections.kvmfleet.compute.plugins.module_utils._channel.export import Server
from ansible_collections.kvmfleet.compute.plugins.module_utils._channel.protocol import CHECKSUM, DEFINITION, MANIFEST
from ansible_collections.kvmfleet.compute.plugins.module_utils._domain import definition as _definition
from ansible_collections.kvmfleet.compute.plugins.module_utils._host.state import Reserved
from ansible_collections.kvmfleet.compute.plugins.module_utils._journal.records import Journal
from ansible_collections.kvmfleet.compute.plugins.module_utils._journal.state_dir import StateDir
from ansible_collections.kvmfleet.compute.plugins.module_utils._libvirt import domains as _domains
from ansible_collections.kvmfleet.compute.plugins.module_utils._operation import (
    admission as _admission,
    placing as _placing,
    receiving as _receiving,
    sealing as _sealing,
    withdrawing as _withdrawing,
)
from ansible_collections.kvmfleet.compute.plugins.module_utils._rules import handed_plan as _handed_plan, value_kinds as _value_kinds, values as _values
from ansible_collections.kvmfleet.compute.plugins.module_utils._rules.errors import KvmfleetError
from ansible_collections.kvmfleet.compute.plugins.module_utils._storage import incoming as _incoming, places as _places
from ansible_collections.kvmfleet.compute.tests.unit.plugins.module_utils.handed import disk, plan

LIES = 200 if os.environ.get("KVMFLEET_FUZZ") == "full" else 60
MIB = 1024**2
PORTS = "27800-27827"
LOADER = "/usr/lib/os-release"
"""Stands for firmware: a file of root's that everybody may read."""
GUEST = "0f5d8f9c-2c1e-4f0a-9d35-3a2a5cf0a101"
OTHER = "11111111-2222-4333-8444-555555555555"
EMULATOR = "/usr/bin/qemu-system-x86_64"
SHUTDOWN = {"timeout": 0, "retry_interval": 1, "on_timeout": "destroy", "modes": ["acpi"]}
WATCH = {"settle": 0, "agent_timeout": 0}
Change = Callable[[Any], Any]


class Fleet:
    """A destination with a guest of its own, and what a source tells and serves of another one."""

    def __init__(self, conn: libvirt.virConnect, top: Path) -> None:
        self.conn, self.top = conn, top
        self.images, self.outside, self.source = (top / name for name in ("images", "outside", "source"))
        for directory in (self.images, self.outside, self.source):
            directory.mkdir()
        (self.outside / "secret").write_bytes(b"secret".ljust(512, b"!"))
        (self.images / "link").symlink_to(self.outside)
        self.journal = Journal(StateDir(str(top / "state")))
        self.server = Server(StateDir(str(top / "source-state")), str(uuid.uuid4()))
        self.key = secrets.token_hex(32)
        self.port = self.server.open(address="127.0.0.1", ports=PORTS, key=self.key, idle_timeout=600)
        self.other = self.define("other", OTHER, f"{self.images}/other.qcow2")
        self.files = {"vda": self.image("vda", ""), "sda": self.source / "iso", "nvram": self.source / "vars"}
        self.files["sda"].write_bytes(b"medium".ljust(512, b"\n"))
        self.files["nvram"].write_bytes(b"variables".ljust(4096, b"\n"))
        self.offered: dict[str, Path] = {}
        self.before = self.outside_now()

    def image(self, name: str, options: str, size: str = "1M") -> Path:
        path = self.source / name
        os.system(f"qemu-img create -q -f qcow2 {options} {path} {size}")  # noqa: S605 - nothing of it comes from elsewhere
        return path

    def define(self, name: str, identity: str, path: str) -> str:
        self.conn.defineXML(definition(name, identity, f"<disk type='file'><source file='{path}'/><target dev='vda'/></disk>"))
        return str(self.conn.lookupByName(name).XMLDesc(0))

    def plan(self) -> dict[str, Any]:
        """What is true."""
        drive = disk(f"{self.images}/web.iso", "sda", kind="media", format="raw", virtual_size=512)
        disks = [disk(f"{self.images}/instances/web/web.qcow2", virtual_size=MIB), drive]
        logs = [{"path": f"{self.images}/web.log", "append": True}]
        owner = {"uid": 0, "gid": 0, "user": "root", "group": "root", "mode": 0o755, "of_qemu": [False, False]}
        directories = {f"{self.images}/instances": owner, f"{self.images}/instances/web": owner}
        return plan("web", GUEST, disks, nvram=f"{self.images}/web_VARS.fd", console_logs=logs, directories=directories)

    def requirements(self) -> dict[str, Any]:
        empty = dict.fromkeys(("machine", "nvram_template", "host_cpus", "huge_pages", "dedicated"))
        lists = {name: [] for name in ("networks", "bridges", "mtus", "pinned_cpus", "network_disks")}
        return {**empty, **lists, "arch": "x86_64", "virt_type": "qemu", "emulator": EMULATOR, "loader": LOADER, "macs": ["52:54:00:00:00:01"]}

    def definition(self) -> str:
        firmware = f"<loader readonly='yes' type='pflash'>{LOADER}</loader><nvram>{self.images}/web_VARS.fd</nvram>"
        devices = (
            f"<emulator>{EMULATOR}</emulator>"
            f"<disk type='file'><driver name='qemu' type='qcow2'/><source file='{self.images}/instances/web/web.qcow2'/><target dev='vda' bus='virtio'/></disk>"
            f"<disk type='file' device='cdrom'><driver name='qemu' type='raw'/><source file='{self.images}/web.iso'/><target dev='sda' bus='sata'/></disk>"
            f"<interface type='user'><mac address='52:54:00:00:00:01'/></interface>"
            f"<serial type='file'><source path='{self.images}/web.log' append='on'/></serial>"
        )
        return definition("web", GUEST, devices, firmware)

    def manifest(self, record: dict[str, Any]) -> dict[str, Any]:
        log = {"path": f"{self.images}/web.log", "content": base64.b64encode(zlib.compress(b"boot")).decode(), "whole": True}
        belongings = {"snapshots": [], "checkpoints": [], "tpm": {}, "secrets": [], "console_logs": [log]}
        told = {"domain_xml": self.definition(), **belongings, "autostart": False, "was_running": False}
        files = {name: str(path) for name, path in self.files.items()}
        return {"migration_uuid": record["uuid"], **told, "round": 0, "there": [], **_sealing.measured(record, files)}

    def claim(self, told: dict[str, Any], requirements: dict[str, Any]) -> dict[str, Any]:
        items = told["disks"] if isinstance(told.get("disks"), list) else []
        answers = [{key: item.get(key) for key in ("target", "path", "pool")} for item in items if isinstance(item, dict)]
        params = {
            "plan": told,
            "requirements": requirements,
            "role": "destination",
            "storage": answers,
            "probes": {},
            "migration_uuid": str(uuid.uuid4()),
            "owner": "run-1",
            "destination_host": "kvm2",
            "image_directories": [str(self.images)],
            "images_path": str(self.images),
            "mappings": {},
            "requested_by": {},
            "reason": None,
        }
        record = _placing.new_record(self.conn, params)
        ratios = {"cpu": 1000, "ram": 1000, "disk": 1000}
        options = {"images_path": str(self.images), "reserved": Reserved(), "ratios": ratios, "proofs": {}, "key": None}
        _admission.admit(self.conn, self.journal, record, requirements=requirements, **options)
        return self.journal.get(record["uuid"])

    def offer(self, files: dict[str, Path]) -> None:
        for name, path in files.items():
            if self.offered.get(name) != path:
                self.server.offer_file(name, str(path), checksum=True)
                self.offered[name] = path

    def receive(self, record: dict[str, Any]) -> None:
        channel = {"address": "127.0.0.1", "port": self.port, "key": self.key, "stall_timeout": 5}
        _receiving.try_definition(self.conn, self.journal, record, channel=channel, bases={})
        _receiving.receive(self.conn, self.journal, self.journal.get(record["uuid"]), channel=channel, bases={}, verify="extents", watch=WATCH)

    def outside_now(self) -> dict[str, tuple[int, int, bytes]]:
        """Everything but the directories of the destination that operations may write to."""
        own = {"state", "source-state", "source"}
        found = {}
        for path in sorted(self.top.rglob("*")):
            place = path.relative_to(self.top)
            if place.parts[0] not in own and not path.is_symlink() and path.is_file():
                status = path.stat()
                found[str(place)] = (status.st_mode, status.st_mtime_ns, hashlib.sha256(path.read_bytes()).digest())
            elif place.parts[0] not in own and not path.is_symlink() and path.is_dir():
                found[str(place)] = (path.stat().st_mode, path.stat().st_uid, b"")
        return found

    def judge(self, record: dict[str, Any] | None) -> None:
        """What a lie must not have done; then it is taken back."""
        written = {place: value for place, value in self.outside_now().items() if not place.startswith("images/")}
        assert written == {place: value for place, value in self.before.items() if not place.startswith("images/")}
        planned = {"vda": f"{self.images}/instances/web/web.qcow2", "sda": f"{self.images}/web.iso"}
        domains = {domain.name(): domain for domain in self.conn.listAllDomains()}
        assert domains.pop("other").XMLDesc(0) == self.other
        for name, domain in domains.items():
            root = _definition.parse(domain.XMLDesc(0))
            assert (name, domain.UUIDString(), domain.autostart()) == ("web", GUEST, 0)
            assert {found.target: found.path for found in _definition.disks(root)} == planned
            named = {value for element in root.iter() for value in (*element.attrib.values(), (element.text or "").strip()) if str(value).startswith("/")}
            allowed = {*planned.values(), f"{self.images}/web_VARS.fd", f"{self.images}/web.log", LOADER, EMULATOR}
            assert named <= allowed | {value for value in named if value.startswith(("/dev/pts", "/dev/urandom"))}
        if record is not None:
            record = self.journal.get(record["uuid"])
            _withdrawing.undefine(self.conn, self.journal, record, SHUTDOWN)
            record = self.journal.get(record["uuid"])
            _withdrawing.withdraw(self.conn, self.journal, record, status="reverted" if record["status"] == "reverting" else "error")
        assert self.outside_now() == self.before


def definition(name: str, identity: str, devices: str, firmware: str = "") -> str:
    system = f"<os><type arch='x86_64' machine='q35'>hvm</type>{firmware}</os>"
    size = "<memory unit='MiB'>256</memory><vcpu>1</vcpu>"
    features = "<features><acpi/></features>"
    return f"<domain type='qemu'><name>{name}</name><uuid>{identity}</uuid>{size}{system}{features}<devices>{devices}</devices></domain>"


@pytest.fixture
def fleet(qemu: libvirt.virConnect, tmp_path: Path) -> Iterator[Fleet]:
    fleet = Fleet(qemu, tmp_path)
    yield fleet
    fleet.server.close()


def hostile(fleet: Fleet, chance: random.Random) -> Any:
    """A value that somebody might put into a field."""
    outside, images = fleet.outside, fleet.images
    paths = [
        f"{outside}/pwn", f"{outside}/secret", f"{images}/../outside/pwn", f"{images}/link/pwn", "/etc/shadow", "/etc/cron.d/pwn", "../pwn", "pwn", "/", "",
        f"{images}", f"{images}/", f"{images}/other.qcow2", f"{images}/a\nb", f"{images}/a\0b", f"/{images}/x", "file:///etc/shadow", "nbd://192.0.2.1/x",
        'json:{"file.filename":"/etc/shadow"}', f"{images}/" + "x" * 300, "/proc/self/mem", "/dev/sda",
    ]  # fmt: skip
    others = [None, True, -1, 0, 10**30, 1.5, [], {}, [[]], "other", OTHER, "x" * 100000, "\ud800", "$(id)", "{{ 7*7 }}", "-U", "raw", "qcow2", "manifest"]
    return chance.choice(paths if chance.random() < 0.6 else others)


def elsewhere(value: Any, chance: random.Random, lie: Any) -> None:
    """Put the lie somewhere into a document, deep or not, or add or remove a field."""
    while True:
        keys = list(value) if isinstance(value, dict) else list(range(len(value)))
        if not keys:
            return
        key = chance.choice(keys)
        if isinstance(value[key], (dict, list)) and value[key] and chance.random() < 0.8:
            value = value[key]
            continue
        change = chance.randrange(10)
        if change == 0 and isinstance(value, dict):
            del value[key]
        elif change == 1 and isinstance(value, dict):
            value["field"] = lie
        elif change == 2:
            value[key] = [value[key]] * 3
        else:
            value[key] = lie
        return


def in_definition(fleet: Fleet) -> list[Change]:
    """Definitions that are not that of the plan."""
    outside, images = fleet.outside, fleet.images

    def device(text: str) -> Change:
        return lambda xml: xml.replace("</devices>", f"{text}</devices>")

    def swapped(old: str, new: str) -> Change:
        return lambda xml: xml.replace(old, new)

    disks = [
        f"<disk type='file'><source file='{path}'/><target dev='vdz'/></disk>"
        for path in ("/etc/shadow", f"{outside}/secret", f"{images}/other.qcow2", f"{images}/link/secret")
    ]
    return [
        *map(device, disks),
        device("<disk type='block'><source dev='/dev/vda'/><target dev='vdy'/></disk>"),
        device("<disk type='dir'><source dir='/etc'/><target dev='vdy'/></disk>"),
        device("<disk type='network'><source protocol='nbd' name='x'><host name='192.0.2.1'/></source><target dev='vdy'/></disk>"),
        device("<disk type='volume'><source pool='default' volume='other.qcow2'/><target dev='vdy'/></disk>"),
        device("<filesystem type='mount'><source dir='/'/><target dir='host'/></filesystem>"),
        device("<hostdev mode='subsystem' type='pci'><source><address domain='0' bus='0' slot='1' function='0'/></source></hostdev>"),
        device(f"<serial type='file'><source path='{outside}/pwn'/></serial>"),
        device("<serial type='dev'><source path='/dev/mem'/></serial>"),
        device("<channel type='unix'><source mode='bind' path='/var/lib/libvirt/qemu/../../../../etc/pwn'/><target type='virtio' name='x'/></channel>"),
        device(f"<serial type='pty'><log file='{outside}/pwn'/></serial>"),
        device("<interface type='bridge'><source bridge='br-secret'/></interface>"),
        device("<interface type='user'><mac address='52:54:00:ff:ff:ff'/></interface>"),
        device("<interface type='ethernet'><script path='/tmp/x'/></interface>"),
        device("<rng model='virtio'><backend model='random'>/dev/sda</backend></rng>"),
        swapped(f"<name>{'web'}</name>", "<name>other</name>"),
        swapped(GUEST, OTHER),
        swapped("<name>web</name>", "<name>web</name><name>other</name>"),
        swapped(f"{images}/web_VARS.fd", f"{outside}/pwn"),
        swapped("<nvram>", f"<nvram template='{outside}/secret'>"),
        swapped(LOADER, "/etc/shadow"),
        swapped(EMULATOR, f"{images}/web.iso"),
        swapped(EMULATOR, "/usr/bin/env"),
        swapped("type='raw'", "type='qcow2'"),
        swapped("</os>", "<kernel>/etc/shadow</kernel></os>"),
        swapped("</os>", "</os><os><kernel>/etc/shadow</kernel></os>"),
        swapped("</devices>", "</devices><seclabel type='none'/>"),
        swapped("</devices>", "</devices><seclabel type='static' model='dac'><label>+0:+0</label></seclabel>"),
        swapped("<target dev='vda'", f"<backingStore type='file'><format type='raw'/><source file='{outside}/secret'/></backingStore><target dev='vda'"),
        swapped("<target dev='vda'", f"<source file='{outside}/secret'/><target dev='vda'"),
        swapped("<target dev='vda'", f"<mirror type='file'><source file='{outside}/pwn'/></mirror><target dev='vda'"),
        swapped(f"<source file='{images}/web.iso'/>", ""),
        *(
            lambda xml, argument=argument: xml.replace("<domain ", "<domain xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0' ").replace(
                "</domain>", f"<qemu:commandline>{argument}</qemu:commandline></domain>"
            )
            for argument in (
                "<qemu:arg value='-fw_cfg'/><qemu:arg value='name=opt/x,file=/etc/shadow'/>",
                "<qemu:arg value='-drive'/><qemu:arg value='file=etc/shadow,format=raw'/>",
                "<qemu:arg value='etc/shadow'/>",
                "<qemu:arg value='-device'/><qemu:arg value='vfio-pci,host=01:00.0'/>",
                "<qemu:arg value='-set'/><qemu:arg value='device.net0.romfile=etc/shadow'/>",
                "<qemu:env name='LD_PRELOAD' value='x.so'/>",
            )
        ),
        lambda xml: "<domain>" * 5000,
        lambda xml: "<domain>" + "<a>" * 5000 + "</a>" * 5000 + "</domain>",
        lambda xml: "<!DOCTYPE d [<!ENTITY e SYSTEM 'file:///etc/shadow'>]>" + xml,
        lambda xml: xml + " " * 5 * MIB,
        lambda xml: None,
    ]


def in_files(fleet: Fleet) -> list[dict[str, Path]]:
    """Images and variables that are not what they were when the plan was made."""
    secret = fleet.outside / "secret"
    long = fleet.source / "long"
    long.write_bytes(bytes(4 * MIB))
    broken = fleet.source / "broken"
    broken.write_bytes(fleet.files["vda"].read_bytes()[:70000] + b"\xff" * 1000)
    return [
        {"vda": fleet.image("backed", f"-b {secret} -F raw")},
        {"vda": fleet.image("on-other", f"-b {fleet.outside}/secret -F raw", "1M")},
        {"vda": fleet.image("large", "", "1T")},
        {"vda": fleet.image("data", f"-o data_file={fleet.source}/data.raw")},
        {"vda": broken},
        {"vda": long},
        {"sda": fleet.image("medium", f"-b {secret} -F raw", "512")},
        {"sda": long},
        {"nvram": fleet.image("variables", f"-b {secret} -F raw", "64K")},
    ]


def told_lie(fleet: Fleet, number: int) -> tuple[str, KvmfleetError | None]:
    """Tell lie number so and so; how it was answered."""
    chance = random.Random(number)  # noqa: S311 - no secret
    told, needed, record = fleet.plan(), fleet.requirements(), None
    definitions, files = in_definition(fleet), dict(fleet.files)
    kind = ("plan", "requirements", "manifest", "definition", "definition", "files", "snapshot", "digest", "bytes", "tpm")[number % 10]
    try:
        if kind in ("plan", "requirements"):
            document = told if kind == "plan" else needed
            elsewhere(document, chance, hostile(fleet, chance))
            # No host tells what the controller makes itself.
            own = {name for name, known in _values.fields({**_handed_plan.PLAN, **_handed_plan.REQUIREMENTS}) if known is _value_kinds.OURS}
            document.update(dict.fromkeys(own & document.keys()))
        record = fleet.claim(told, needed)
        if kind == "files":
            files.update(in_files(fleet)[number // 10 % 9])
        fleet.offer(files)
        manifest = {**fleet.manifest(record), **_sealing.measured(record, {name: str(path) for name, path in files.items()})}
        if kind == "definition":
            manifest["domain_xml"] = definitions[(number // 10 * 2 + number % 2) % len(definitions)](manifest["domain_xml"])
        elif kind == "manifest":
            elsewhere(manifest, chance, hostile(fleet, chance))
        elif kind == "snapshot":
            inner = definitions[number // 10 % 36](fleet.definition())
            text = f"<domainsnapshot><name>one</name><state>shutoff</state><creationTime>1</creationTime>{inner}</domainsnapshot>"
            manifest["snapshots"] = [{"name": "one", "xml": text, "current": True}]
        elif kind == "tpm":
            name = chance.choice(["../../pwn", "/etc/pwn", "tpm2/state", "a/../../b", "", "x\0"])
            manifest["tpm"] = {name: base64.b64encode(b"x" * chance.choice([1, 2 * MIB])).decode()}
        fleet.server.offer_document(MANIFEST, manifest)
        # Half of them are told from the beginning, the other ones only when the guest is down.
        early = manifest["domain_xml"] if kind == "definition" and number % 20 < 10 and isinstance(manifest["domain_xml"], str) else fleet.definition()
        fleet.server.offer_document(DEFINITION, {"domain_xml": early, "portable_xml": None})
        if kind == "digest":
            digest = {"size": MIB, "segment_size": chance.choice([0, 1, -1, 2**40]), "segments": ["0" * 64] * chance.choice([0, 1, 5]), "sha256": "0" * 64}
            fleet.server.withdraw_file("vda")
            fleet.server.offer_file("vda", str(files["vda"]))
            fleet.server.offer_document(CHECKSUM + "vda", chance.choice([digest, {"error": 7}, [], {"sha256": "x"}, None]))
            fleet.offered.pop("vda")
        elif kind == "bytes":
            document = Path(fleet.server.files) / MANIFEST
            document.unlink()
            content = chance.choice([b"[" * 100000, b"{" * 5000, b"\xff\xfe", b"nothing", b"1" * 5000, b'{"a":' * 50000, None])
            document.write_bytes(content or b"")
            if content is None:
                os.truncate(document, 20 * MIB)
        fleet.receive(record)
    except KvmfleetError as exc:
        return kind, exc
    except libvirt.libvirtError as exc:  # as the frame of the modules takes it
        return kind, KvmfleetError("libvirt_error", str(exc))
    finally:
        fleet.judge(record)
    return kind, None


def test_the_truth_is_believed(fleet: Fleet) -> None:
    """Else nothing would be shown by lies that are not."""
    record = fleet.claim(fleet.plan(), fleet.requirements())
    fleet.offer(fleet.files)
    fleet.server.offer_document(MANIFEST, fleet.manifest(record))
    fleet.server.offer_document(DEFINITION, {"domain_xml": fleet.definition(), "portable_xml": None, "snapshots": []})
    fleet.receive(record)
    assert fleet.journal.get(record["uuid"])["status"] == "finished"
    assert (fleet.images / "web.iso").read_bytes() == fleet.files["sda"].read_bytes()
    fleet.judge(record)


def test_no_lie_of_a_source_does_anything_outside_or_defines_what_was_not_planned(fleet: Fleet) -> None:
    answers = [told_lie(fleet, number) for number in range(LIES)]
    refused = [kind for kind, error in answers if error is not None]
    assert len(refused) > LIES * 0.8, "most lies are recognised; the others are such as a guest could as well be"
    assert all(error is not None for kind, error in answers if kind in ("bytes", "digest", "tpm"))
    assert {error.code for _kind, error in answers if error} >= {"claim_refused", "handed_value", "definition_refused", "manifest_invalid", "chain_changed"}


VARIANTS = 46


@pytest.mark.parametrize("number", range(VARIANTS))
def test_every_definition_that_is_not_that_of_the_plan_is_refused(fleet: Fleet, number: int) -> None:
    """Or becomes that of the plan, where it only says otherwise where a file lies; by the judgement that `tried` and `receive` share."""
    change = in_definition(fleet)[number]
    record = fleet.claim(fleet.plan(), fleet.requirements())
    changed = change(fleet.definition())

    def told(text: str) -> str:
        _documents.document(DEFINITION, {"domain_xml": text, "portable_xml": None}, _documents.DEFINITION)
        return _receiving.arriving(dict(record, private={"domain_xml": text}))

    code = None
    try:
        defined = told(changed)
    except KvmfleetError as exc:
        code, defined = exc.code, None
    assert code in ("definition_refused", "invalid_domain_xml", "manifest_invalid", "disk_not_found") or defined == told(fleet.definition())
    fleet.judge(record)


def test_a_definition_that_is_refused_is_not_replaced_by_another_one(fleet: Fleet) -> None:
    """The portable one is for a libvirt that does not know all of the other, and not for a source that tries two."""
    record = fleet.claim(fleet.plan(), fleet.requirements())
    channel = {"address": "127.0.0.1", "port": fleet.port, "key": fleet.key, "stall_timeout": 5}
    refused = fleet.definition().replace("</devices>", "<filesystem type='mount'><source dir='/'/><target dir='host'/></filesystem></devices>")
    fleet.server.offer_document(DEFINITION, {"domain_xml": refused, "portable_xml": fleet.definition()})
    with pytest.raises(KvmfleetError) as caught:
        _receiving.try_definition(fleet.conn, fleet.journal, record, channel=channel, bases={})
    assert caught.value.code == "definition_refused"
    fleet.judge(record)


def test_there_is_a_variant_for_each_definition(fleet: Fleet) -> None:
    assert len(in_definition(fleet)) == VARIANTS


def concrete(value: Any, table: Any, place: str = "") -> Iterator[tuple[str, list[Any], _values.Field]]:
    """Each value of a document that a field stands for: place, the way to it, and the field."""
    for where, _found, known in _values.values(place, value, table):
        steps = [int(step) if step.isdigit() else step for step in re.findall(r"[^.\[\]]+", where)]
        if "(name)" not in where:
            yield where, steps, known


def replaced(document: Any, steps: list[Any], value: Any) -> Any:
    found = copy.deepcopy(document)
    inner = found
    for step in steps[:-1]:
        inner = inner[step]
    inner[steps[-1]] = value
    return found


def test_every_field_that_travels_is_judged(fleet: Fleet) -> None:
    """Derived from documents as they are: a field without a check, whether path, name or number, fails here."""
    record = fleet.claim(fleet.plan(), fleet.requirements())
    owners = {"uid": 0, "gid": 0, "mode": 0o600, "user": None, "group": None, "label": None, "given": True, "relabel": True, "of_qemu": [False, False]}
    base = {"sha256": "ab", "format": "qcow2", "virtual_size": 1, "size_bytes": 1, "path": "/srv/base"}
    secret = {"uuid": GUEST, "usage_type": "ceph", "usage": "client", "by": "uuid", "withheld": None, "needed_by": ["disk vda"]}
    new = {"role": "swap", "target": "vdb", "path": f"{fleet.images}/swap", "format": "qcow2", "size": 1, "pool": None, "volume": None, "beside": "vda"}
    told = {**fleet.plan(), "owners": {"vda": owners}, "secrets": [secret], "new_disks": [new], "flavor_disks": {"swap": {"target": "vdb", "name": "swap"}}}
    told["disks"][0].update(base={**base, "backing": None}, bases=[{**base, "backing": base}], pool="default", volume="web.qcow2", grow_to=2)
    network = {"target": "vdc", "protocol": "rbd", "name": "p/web", "hosts": [{"name": "mon", "port": 1}], "files": ["/etc/ceph/ceph.conf"]}
    needed = {**fleet.requirements(), "network_disks": [network], "mtus": [{"type": "bridge", "source": "br0", "mtu": 1500}]}
    sealed = {**fleet.manifest(record), "secrets": [{"uuid": GUEST, "xml": "<secret/>", "value": "eA=="}], "tpm": {"tpm2": "eA=="}}
    sealed["snapshots"] = [{"name": "one", "xml": "<domainsnapshot/>", "current": True}]
    sealed["checkpoints"] = [{"name": "monday", "description": "of web", "created": 1, "parent": "sunday", "bitmaps": {"vda": "monday"}}]
    documents = {
        "plan": (told, _handed_plan.PLAN, _handed_plan.plan),
        "requirements": (needed, _handed_plan.REQUIREMENTS, lambda value: _handed_plan.plan(fleet.plan(), value)),
        "manifest": (sealed, _receiving.SEALED, lambda value: _documents.document("manifest", value, _receiving.SEALED)),
    }
    tried = 0
    for name, (document, table, check) in documents.items():
        check(document)
        for where, steps, known in concrete(document, table):
            if known is _value_kinds.OURS or not steps:
                continue
            for lie in (["x"], {"x": 1}, "a\0b" if known is not _value_kinds.TEXT else 7):
                tried += 1
                with contextlib.suppress(KvmfleetError):
                    check(replaced(document, steps, lie))
                    pytest.fail(f"{name}: {where} may be {lie!r}")
        with pytest.raises(KvmfleetError, match="a field that this release knows"):
            check({**document, "another": "/etc/shadow"})
    assert tried > 200
    fleet.judge(record)


def test_every_path_of_a_plan_is_compared_with_the_directories_of_this_host(fleet: Fleet) -> None:
    here = [place for place, known in _values.fields(_handed_plan.PLAN) if known.below is not None]
    assert sorted(here) == ["console_logs[].path", "disks[].path", "new_disks[].path", "nvram"]
    # What is left are paths of the other host, which are compared with those that it tells and never opened.
    assert sorted(place for place, known in _values.fields(_handed_plan.PLAN) if known is _value_kinds.SOURCE_PATH) == [
        "directories{}",
        "disks[].base.backing.path",
        "disks[].base.path",
        "disks[].bases[].backing.path",
        "disks[].bases[].path",
    ]
    new = {"role": "swap", "target": "vdb", "path": f"{fleet.images}/swap", "format": "qcow2", "size": 1, "pool": None, "volume": None, "beside": "vda"}
    record = {**fleet.plan(), "new_disks": [new], "image_directories": [str(fleet.images)]}
    assert list(_places.reasons_here(record)) == []
    for steps in (["console_logs", 0, "path"], ["disks", 0, "path"], ["disks", 1, "path"], ["new_disks", 0, "path"], ["nvram"]):
        for path in (f"{fleet.outside}/pwn", f"{fleet.images}/link/pwn", "/etc/cron.d/pwn", "/var/log/cron", "/var/lib/libvirt/qemu/pwn"):
            (reason,) = _places.reasons_here(replaced(record, steps, path))
            assert reason[0] in ("image_outside_directories", "image_is_symlink")


def test_a_source_sends_no_more_than_it_told(fleet: Fleet) -> None:
    """Its manifest speaks of a small file; what it serves is cut off, whichever program pulls."""
    for tool in ("nbdcopy", "qemu-img"):
        record = fleet.claim(fleet.plan(), fleet.requirements())
        grown = fleet.source / f"grown-{tool}"
        grown.write_bytes(os.urandom(3 * MIB))
        manifest = fleet.manifest(record)
        fleet.offer({**fleet.files, "sda": grown})
        fleet.server.offer_document(MANIFEST, manifest)
        fleet.server.offer_document(DEFINITION, {"domain_xml": fleet.definition(), "portable_xml": None})
        with pytest.MonkeyPatch.context() as patch:
            if tool == "qemu-img":
                patch.setattr(shutil, "which", lambda name, which=shutil.which: None if name == "nbdcopy" else which(name))
            with pytest.raises(KvmfleetError):
                fleet.receive(record)
        part = Path(_incoming.part_path(record, f"{fleet.images}/web.iso"))
        assert not part.exists() or part.stat().st_size <= 512
        fleet.judge(record)


def test_the_journal_of_the_destination_is_asked_again_before_each_use(fleet: Fleet) -> None:
    """A directory that became a link since the claim is not followed."""
    record = fleet.claim(fleet.plan(), fleet.requirements())
    inside = fleet.images / "inside"
    inside.symlink_to(fleet.outside)
    record = fleet.journal.update(record, nvram=f"{inside}/pwn")
    for act in (
        lambda: _receiving.try_definition(fleet.conn, fleet.journal, record, channel={}, bases={}),
        lambda: _receiving.receive_round(fleet.journal, record, channel={}, bases={}, verify="none"),
        lambda: _receiving.receive(fleet.conn, fleet.journal, record, channel={}, bases={}, verify="none", watch=WATCH),
    ):
        with pytest.raises(KvmfleetError) as caught:
            act()
        assert caught.value.code == "image_is_symlink"
    inside.unlink()
    fleet.journal.update(record, nvram=f"{fleet.images}/web_VARS.fd")
    fleet.judge(record)


def test_a_definition_that_may_not_be_here_is_not_defined_by_a_later_run_either(fleet: Fleet) -> None:
    """What waits in the journal to be defined goes through the same judgement."""
    record = fleet.claim(fleet.plan(), fleet.requirements())
    root = _definition.parse(fleet.definition())
    ET.SubElement(ET.SubElement(root.find("devices"), "filesystem"), "source", {"dir": "/"})
    changes = {"private": {"domain_xml": ET.tostring(root, encoding="unicode")}, "autostart": False, "was_running": False}
    record = fleet.journal.update(record, status="migrating", step="defining", **changes)
    with pytest.raises(KvmfleetError) as caught:
        _receiving.receive(fleet.conn, fleet.journal, record, channel={}, bases={}, verify="none", watch=WATCH)
    assert caught.value.code == "definition_refused"
    assert _domains.find_domain(fleet.conn, GUEST) is None
    fleet.judge(record)


def test_a_document_of_the_channel_is_plain_json(fleet: Fleet) -> None:
    """As the tables see it: what cannot be told apart from another value after a way through JSON is not judged twice."""
    record = fleet.claim(fleet.plan(), fleet.requirements())
    manifest = fleet.manifest(record)
    assert json.loads(json.dumps(manifest)) == manifest
    fleet.judge(record)
