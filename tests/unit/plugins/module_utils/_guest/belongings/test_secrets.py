# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Secrets of guests. The domains that name them are real, but the secret driver within this process cannot undefine: a store that does the same otherwise."""

from __future__ import annotations

import json
import uuid
import xml.etree.ElementTree as ET
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import libvirt
import pytest

from ansible_collections.kvmfleet.compute.plugins.module_utils._domain import definition as _definition
from ansible_collections.kvmfleet.compute.plugins.module_utils._guest import facts as _facts
from ansible_collections.kvmfleet.compute.plugins.module_utils._guest.belongings import secrets as _secrets
from ansible_collections.kvmfleet.compute.plugins.module_utils._journal.records import Journal
from ansible_collections.kvmfleet.compute.plugins.module_utils._journal.state_dir import StateDir
from ansible_collections.kvmfleet.compute.plugins.module_utils._libvirt import secret_store as _secret_store
from ansible_collections.kvmfleet.compute.plugins.module_utils._rules.errors import KvmfleetError

UUID = "0f5d8f9c-2c1e-4f0a-9d35-3a2a5cf0afff"
OTHER = "1f5d8f9c-2c1e-4f0a-9d35-3a2a5cf0afff"
KEY, VALUE = "ab" * 32, b"the key of the storage"
DEFINITION = "<secret ephemeral='{ephemeral}' private='{private}'><uuid>{uuid}</uuid><usage type='{kind}'><name>{usage}</name></usage></secret>"
GUEST = """<domain type='qemu'><name>{name}</name><memory>65536</memory><os><type>hvm</type></os><devices>
<disk type='network'><driver type='raw'/><source protocol='rbd' name='p/i'/><auth username='u'><secret type='ceph' {by}/></auth><target dev='vda'/></disk>
</devices></domain>"""
BY_UUID, BY_USAGE = f"uuid='{UUID}'", "usage='client.vms'"

Define = Callable[..., Any]


def failure(code: int) -> libvirt.libvirtError:
    error = libvirt.libvirtError("no")
    error.err = (code, *[None] * 8)
    return error


class Secret:
    """One of a host's secrets, as libvirt's binding has it."""

    def __init__(self, host: Host, xml: str) -> None:
        root = ET.fromstring(xml)  # noqa: S314 - of this file
        self.host, self.xml, self.content = host, xml, b""
        self.uuid, self.private = root.findtext("uuid") or "", root.get("private") == "yes"
        usage = root.find("usage")
        self.usage = (0, "") if usage is None else (_secret_store.SECRET_USAGES.index(usage.attrib["type"]), usage[0].text or "")

    def UUIDString(self) -> str:
        return self.uuid

    def usageType(self) -> int:
        return self.usage[0]

    def usageID(self) -> str:
        return self.usage[1]

    def XMLDesc(self, flags: int) -> str:
        return self.xml

    def setValue(self, value: bytes) -> None:
        self.content = value

    def value(self) -> bytes:
        if self.private or not self.content:
            raise failure(libvirt.VIR_ERR_INVALID_SECRET if self.private else libvirt.VIR_ERR_NO_SECRET)
        return self.content

    def undefine(self) -> None:
        if self.host.secrets.pop(self.uuid, None) is None:
            raise failure(libvirt.VIR_ERR_NO_SECRET)


class Host:
    """libvirt's QEMU driver with secrets, and with the storage pools of the given definitions."""

    def __init__(self, conn: libvirt.virConnect) -> None:
        self.conn = conn
        self.secrets: dict[str, Secret] = {}
        self.pools: list[str] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self.conn, name)

    def secretLookupByUUIDString(self, uuid: str) -> Secret:
        if uuid not in self.secrets:
            raise failure(libvirt.VIR_ERR_NO_SECRET)
        return self.secrets[uuid]

    def secretLookupByUsage(self, kind: int, usage: str) -> Secret:
        found = next((secret for secret in self.secrets.values() if secret.usage == (kind, usage)), None)
        if found is None:
            raise failure(libvirt.VIR_ERR_NO_SECRET)
        return found

    def secretDefineXML(self, xml: str, flags: int = 0) -> Secret:
        new = Secret(self, xml)
        for known in self.secrets.values():
            if (known.uuid == new.uuid) != (known.usage == new.usage):
                raise failure(libvirt.VIR_ERR_INTERNAL_ERROR)
        if new.uuid in self.secrets:
            new.content = self.secrets[new.uuid].content
        self.secrets[new.uuid] = new
        return new

    def listAllStoragePools(self, flags: int) -> list[Any]:
        return [SimpleNamespace(XMLDesc=lambda flags, xml=xml: xml) for xml in self.pools]


@pytest.fixture
def host(qemu: libvirt.virConnect) -> Host:
    return Host(qemu)


@pytest.fixture
def define(host: Host) -> Define:
    """Define a secret of the host, with a value unless that is None."""

    def defining(value: bytes | None = VALUE, uuid: str = UUID, conn: Any = host, **more: str) -> Any:
        words = {"ephemeral": "no", "private": "no", "kind": "ceph", "usage": "client.vms", **more}
        secret = conn.secretDefineXML(DEFINITION.format(uuid=uuid, **words))
        if value is not None:
            secret.setValue(value)
        return secret

    return defining


@pytest.fixture
def record(state: StateDir) -> Callable[..., dict[str, Any]]:
    """The record of an open operation on a guest that needs secrets."""

    def begin(secrets: list[dict[str, Any]], uuid: str = "m-1", **more: Any) -> dict[str, Any]:
        parties = {"instance_uuid": f"i-{uuid}", "instance_name": "web", "source_host": "kvm1", "destination_host": "kvm2"}
        return Journal(state).begin({"uuid": uuid, "owner": "o", "role": "destination", **parties, "secrets": secrets, **more})

    return begin


def needed(conn: Any, by: str = BY_UUID) -> list[dict[str, Any]]:
    return _secrets.facts(conn, _definition.parse(GUEST.format(name="web", by=by)))


def there(host: Host) -> dict[str, bytes]:
    return {uuid: secret.content for uuid, secret in host.secrets.items()}


@pytest.mark.parametrize("real", [True, False])
def test_the_store_is_as_that_of_libvirt(qemu: libvirt.virConnect, host: Host, define: Define, real: bool) -> None:
    conn, unused = qemu if real else host, (None, None)
    for words in ({"value": None, "uuid": str(uuid.uuid4()), "usage": "no value"}, {"uuid": str(uuid.uuid4()), "usage": "a value"}):
        made = define(conn=conn, **words)
        for found in (
            _secret_store.find_secret(conn, uuid=words["uuid"], usage=unused),
            _secret_store.find_secret(conn, uuid=None, usage=("ceph", words["usage"])),
        ):
            assert (found.UUIDString(), _secret_store.secret_usage(found)) == (made.UUIDString(), ("ceph", words["usage"]))
            assert _secret_store.secret_value(found) == (VALUE if words["usage"] == "a value" else None)
            assert _definition.parse_document(_secret_store.secret_xml(found)).get("private") == "no"
        for taken in ({"usage": words["usage"]}, {"uuid": words["uuid"], "usage": "other"}):
            with pytest.raises(libvirt.libvirtError):
                define(conn=conn, **taken)
    assert _secret_store.find_secret(conn, uuid=str(uuid.uuid4()), usage=unused) is None
    assert _secret_store.find_secret(conn, uuid=None, usage=("iscsi", "a value")) is None
    assert _secret_store.find_secret(conn, uuid=None, usage=unused) is None


@pytest.mark.parametrize(
    ("device", "found"),
    [
        ("<disk><auth><secret type='ceph' uuid='UUID'/></auth><target dev='vda'/></disk>", (UUID, "ceph", None, ["disk vda"])),
        ("<disk><source><auth><secret type='iscsi' usage='t'/></auth></source><target dev='vdb'/></disk>", (None, "iscsi", "t", ["disk vdb"])),
        (
            "<disk><source><encryption format='luks'><secret type='passphrase' uuid='UUID'/></encryption></source><target dev='vdc'/></disk>",
            (UUID, "volume", None, ["disk vdc"]),
        ),
        ("<disk><encryption format='luks'><secret type='passphrase' usage='/v'/></encryption></disk>", (None, "volume", "/v", ["disk "])),
        ("<tpm><backend type='emulator'><encryption secret='UUID'/></backend></tpm>", (UUID, "vtpm", None, ["the TPM"])),
        ("<disk><source file='/secret'/></disk>", None),
    ],
)
def test_everything_that_names_a_secret_is_found(host: Host, device: str, found: tuple[str | None, ...] | None) -> None:
    answers = _secrets.facts(host, _definition.parse(f"<domain><devices>{device.replace('UUID', UUID)}</devices></domain>"))
    assert [tuple(answer[key] for key in ("uuid", "usage_type", "usage", "needed_by")) for answer in answers] == ([found] if found else [])


@pytest.mark.parametrize(
    ("secret", "by", "missing", "withheld"),
    [
        ({}, BY_UUID, None, None),
        ({}, BY_USAGE, None, None),
        ({"value": None}, BY_USAGE, "has no value", None),
        ({"usage": "other"}, BY_USAGE, "is not defined", None),
        ({"uuid": OTHER}, BY_UUID, "is not defined", None),
        ({"private": "yes"}, BY_UUID, None, "does not travel, since it is private"),
        ({"ephemeral": "yes"}, BY_UUID, None, "does not travel, since it is ephemeral"),
    ],
)
def test_what_a_host_knows_of_a_secret(host: Host, define: Define, secret: dict[str, Any], by: str, missing: str | None, withheld: str | None) -> None:
    define(**secret)
    (found,) = needed(host, by)
    assert (found["missing"], found["withheld"], found["by"]) == (missing, withheld, by.split("=")[0])
    assert [code for code, _reason in _secrets.refusals([found], [])] == (["secret_missing"] if missing else [])
    assert VALUE.decode() not in json.dumps(found)


def test_a_secret_that_several_disks_name_is_one(host: Host, define: Define) -> None:
    define()
    disks = "".join(f"<disk><auth><secret type='ceph' {by}/></auth><target dev='{dev}'/></disk>" for by, dev in ((BY_USAGE, "vda"), (BY_UUID, "vdb")))
    (found,) = _secrets.facts(host, _definition.parse(f"<domain><devices>{disks}</devices></domain>"))
    assert (found["uuid"], found["by"], found["needed_by"]) == (UUID, "uuid", ["disk vda", "disk vdb"])


@pytest.mark.parametrize(
    ("here", "by", "expected", "lacks"),
    [
        (None, BY_UUID, None, True),
        (None, BY_USAGE, None, True),
        ({}, BY_UUID, None, False),
        ({}, BY_USAGE, None, False),
        ({"uuid": OTHER}, BY_USAGE, None, False),
        ({"private": "yes"}, BY_UUID, None, False),
        ({"value": b"another"}, BY_UUID, "has another value here than at the source", False),
        ({"value": b"another", "uuid": OTHER}, BY_USAGE, "has another value here than at the source", False),
        ({"value": None}, BY_UUID, "has no value here", False),
        ({"uuid": OTHER}, BY_UUID, f"cannot be defined here, where {OTHER} of the ceph usage client.vms has its UUID or usage", True),
        ({"usage": "other"}, BY_USAGE, f"cannot be defined here, where {UUID} of the ceph usage other has its UUID or usage", True),
        ({"usage": "other"}, BY_UUID, f"is {UUID} of the ceph usage other here", False),
    ],
)
def test_whether_a_host_can_let_the_guest_have_it(host: Host, define: Define, here: dict[str, Any] | None, by: str, expected: str | None, lacks: bool) -> None:
    define()
    secrets = needed(host, by)
    proven = _secrets.proofs(host, secrets, KEY)
    host.secrets.clear()
    if here is not None:
        define(**here)
    reasons = [reason for _code, reason in _secrets.problems(host, secrets, proven, KEY, [])]
    assert [expected in reason for reason in reasons] == [True] * (expected is not None)
    assert (_secrets.lacking(host, secrets) == [UUID]) is lacks


def test_a_secret_that_does_not_travel_has_to_be_there(host: Host, define: Define) -> None:
    define(private="yes")
    secrets = needed(host)
    assert (_secrets.proofs(host, secrets, KEY), list(_secrets.problems(host, secrets, {}, KEY, []))) == ({}, [])
    host.secrets.clear()
    ((code, reason),) = _secrets.problems(host, secrets, {}, KEY, [])
    assert code == "secret_missing"
    assert "is not defined here and does not travel, since it is private: define it" in reason


def test_a_proof_tells_nothing_without_the_key(host: Host, define: Define) -> None:
    define()
    secrets = needed(host)
    assert _secrets.proofs(host, secrets, KEY) == _secrets.proofs(host, secrets, KEY)
    assert _secrets.proofs(host, secrets, KEY) != _secrets.proofs(host, secrets, "cd" * 32)


@pytest.mark.parametrize("by", [BY_UUID, BY_USAGE])
def test_it_comes_and_goes(host: Host, define: Define, state: StateDir, record: Callable[..., dict[str, Any]], by: str) -> None:
    define()
    secrets = needed(host, by)
    given = _secrets.read(host, secrets, [UUID])
    assert _secrets.read(host, secrets, []) == []
    host.secrets.clear()
    journal, here = Journal(state), record(secrets)
    here = _secrets.receive(host, journal, here, given)
    assert there(host) == {UUID: VALUE}
    assert _secrets.receive(host, journal, here, given)["defined_secrets"] == [UUID]
    assert VALUE.decode() not in json.dumps(journal.get("m-1"))
    assert given[0]["value"] not in json.dumps(journal.get("m-1"))
    _secrets.release(host, journal, here, here["defined_secrets"])
    assert there(host) == {}
    _secrets.release(host, journal, here, here["defined_secrets"])


def test_one_that_was_defined_without_its_value_when_the_host_died_gets_it(
    host: Host, define: Define, state: StateDir, record: Callable[..., dict[str, Any]]
) -> None:
    define()
    secrets = needed(host)
    given = _secrets.read(host, secrets, [UUID])
    host.secrets.clear()
    define(value=None)
    _secrets.receive(host, Journal(state), record(secrets, defined_secrets=[UUID]), given)
    assert there(host) == {UUID: VALUE}


@pytest.mark.parametrize(
    ("meanwhile", "code"),
    [({}, None), ({"value": b"another"}, "secret_differs"), ({"uuid": OTHER}, "secret_differs"), (None, "secret_missing")],
)
def test_what_became_of_it_since_the_claim(
    host: Host,
    define: Define,
    state: StateDir,
    record: Callable[..., dict[str, Any]],
    meanwhile: dict[str, Any] | None,
    code: str | None,
) -> None:
    """One that somebody else has defined is nothing of ours; one that was there and is gone was not given."""
    define()
    secrets = needed(host)
    given = _secrets.read(host, secrets, [UUID] if meanwhile is not None else [])
    host.secrets.clear()
    if meanwhile is not None:
        define(**meanwhile)
    before, here, found = there(host), record(secrets), None
    try:
        here = _secrets.receive(host, Journal(state), here, given)
    except KvmfleetError as exc:
        found = exc.code
    assert found == code
    _secrets.release(host, Journal(state), here, here.get("defined_secrets", ()))
    assert there(host) == before


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"xml": DEFINITION.format(uuid=OTHER, ephemeral="no", private="no", kind="ceph", usage="client.vms")}, f"gives the secret {OTHER} of the usage"),
        ({"xml": DEFINITION.format(uuid=UUID, ephemeral="no", private="no", kind="ceph", usage="client.admin")}, "of the usage client.admin, which"),
        ({"uuid": OTHER}, "does not need"),
        ({"xml": f"<domain><uuid>{UUID}</uuid></domain>"}, "does not need"),
        ({"value": "%"}, "is not Base64"),
        ({"value": ""}, "has 0 bytes"),
        ({"value": "AAAA" * 22000}, "has 66000 bytes"),
    ],
)
def test_only_what_the_guest_needs_is_taken_from_the_source(
    host: Host, define: Define, state: StateDir, record: Callable[..., dict[str, Any]], changes: dict[str, str], message: str
) -> None:
    define()
    secrets = needed(host)
    (given,) = _secrets.read(host, secrets, [UUID])
    host.secrets.clear()
    with pytest.raises(KvmfleetError, match=message) as caught:
        _secrets.receive(host, Journal(state), record(secrets), [{**given, **changes}])
    assert (caught.value.code, there(host)) == ("manifest_invalid", {})


@pytest.mark.parametrize("by", [BY_UUID, BY_USAGE])
def test_one_that_another_guest_names_stays(host: Host, define: Define, state: StateDir, record: Callable[..., dict[str, Any]], by: str) -> None:
    define()
    here = record(needed(host))
    other = host.defineXML(GUEST.format(name="other", by=by))
    _secrets.release(host, Journal(state), here, [UUID])
    assert there(host) == {UUID: VALUE}
    other.undefine()
    _secrets.release(host, Journal(state), here, [OTHER])
    assert there(host) == {UUID: VALUE}
    _secrets.release(host, Journal(state), here, [UUID])
    assert there(host) == {}


def test_one_that_another_operation_may_need_stays(host: Host, define: Define, state: StateDir, record: Callable[..., dict[str, Any]]) -> None:
    """A sealed guest is not defined, and needs its secret when it is taken back."""
    define()
    here, other = record(needed(host)), record(needed(host), "m-2")
    _secrets.release(host, Journal(state), here, [UUID])
    assert there(host) == {UUID: VALUE}
    Journal(state).close(other, "error")
    _secrets.release(host, Journal(state), here, [UUID])
    assert there(host) == {}


def test_one_of_a_storage_pool_stays(host: Host, define: Define, state: StateDir, record: Callable[..., dict[str, Any]]) -> None:
    define()
    host.pools.append(f"<pool type='rbd'><name>vms</name><source><auth type='ceph' username='u'><secret {BY_UUID}/></auth></source></pool>")
    _secrets.release(host, Journal(state), record(needed(host)), [UUID])
    assert there(host) == {UUID: VALUE}


def test_the_plan_says_which_ones_stay(qemu: libvirt.virConnect, define: Define, state: StateDir) -> None:
    def said(private: str) -> list[tuple[str, str]]:
        number = str(uuid.uuid4())
        define(conn=qemu, uuid=number, usage=number, private=private)
        domain = qemu.defineXML(GUEST.format(name="web", by=f"uuid='{number}'"))
        found = _facts.domain_facts(domain, state, image_directories=[])
        assert [secret["uuid"] for secret in found["secrets"]] == [number]
        domain.undefine()
        return [(reference["answer"], reference["reason"]) for reference in found["references"] if reference["kind"] == "secret"]

    assert said("no") == [("carry", "its value travels, encrypted, where the destination lacks the secret")]
    assert said("yes") == [("keep", "it does not travel, since it is private; the destination must have it")]


def test_the_key_of_a_disk(host: Host, define: Define) -> None:
    disks = f"<disk type='file'><source><encryption format='luks'><secret type='passphrase' {BY_UUID}/></encryption></source><target dev='vda'/></disk>"
    root = _definition.parse(f"<domain><devices>{disks}</devices></domain>")
    define(kind="volume")
    assert _secrets.key_of(host, root, "vda") == VALUE
    for target, words in (("vdb", {}), ("vda", {"private": "yes"})):
        define(kind="volume", **words)
        with pytest.raises(KvmfleetError, match=f"encrypted disk {target} is not defined on this host, or its value is private"):
            _secrets.key_of(host, root, target)


def test_a_file_whose_key_nobody_tells_is_refused(host: Host, define: Define) -> None:
    define(private="yes")
    assert [code for code, _reason in _secrets.refusals(needed(host), ["vda"])] == ["secret_private"]
    assert list(_secrets.refusals(needed(host), ["vdb"])) == []
    for disks, expected in (["vda"], ["secret_private"]), (["vdb"], []):
        assert [code for code, _reason in _secrets.problems(host, needed(host), {}, KEY, disks)] == expected
