# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The secrets of libvirt that a guest needs: for network storage, encrypted disks, an encrypted TPM.

A value travels in the manifest, and only where the destination lacks the secret. Nothing but libvirt's own store keeps it: before the guest
stops both hosts compare what they have by a proof under a key, and the source keeps its secret until confirm, so that nothing has to be archived.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import xml.etree.ElementTree as ET
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from ..._domain import definition as _definition
from ..._domain.reference import KEEP, Reference
from ..._journal import claims as _claims
from ..._journal.records import CLOSED, Journal
from ..._libvirt import domain_documents as _domain_documents, secret_store as _secret_store, storage as _storage
from ..._rules.errors import KvmfleetError, shown
from ..._rules.value_kinds import BASE64, MOST_FILES, TEXT, UUID
from ..._rules.values import Each
from ..._storage.disk_use import DiskUses
from .belonging import Belonging, Claim, Guest, Reason

PRIVATE = "does not travel, since it is private"
LIMIT = 64 * 1024
"""Bytes of a value, as in libvirt's protocol."""
_LOCK = "secrets"
_NO_USAGE = (None, None)
_USAGES = {"ceph": "ceph", "iscsi": "iscsi", "passphrase": "volume"}
"""What a disk calls the usage of its secret, and what the secret itself calls it."""


class Secrets(Belonging):
    name = "secrets"
    form = Each({"uuid": UUID, "xml": TEXT, "value": BASE64}, MOST_FILES)
    read_early = True

    def facts(self, guest: Guest) -> dict[str, Any]:
        return {self.name: facts(guest.domain.connect(), guest.root)}

    def refusals(self, guest: Guest, facts: Mapping[str, Any], directories: Sequence[str]) -> Iterator[tuple[str, str]]:
        return refusals(facts[self.name], [disk["target"] for disk in facts["disks"] if disk["encrypted"] and disk["path"]])

    def answered(self, reference: Reference, facts: Mapping[str, Any]) -> Reference:
        """Other than that of the table for one whose value stays on this host."""
        found = next((secret for secret in facts[self.name] if secret["withheld"] and reference.name == secret[secret["by"]]), None)
        if reference.kind != "secret" or found is None:
            return reference
        return replace(reference, answer=KEEP, reason=f"it {found['withheld']}; the destination must have it")

    def key_of(self, conn: Any, root: ET.Element, target: str) -> bytes:
        return key_of(conn, root, target)

    def prove(self, conn: Any, record: Mapping[str, Any], key: str) -> dict[str, str]:
        return proofs(conn, self._of(record), key)

    def reasons(self, claim: Claim, record: Mapping[str, Any]) -> Iterator[Reason]:
        if record["role"] == "destination":
            encrypted = [disk["target"] for disk in record["disks"] if disk.get("encrypted")]
            for code, sentence in problems(claim.conn, self._of(record), claim.proofs, claim.key, encrypted):
                yield Reason(code, sentence)

    def lacking(self, conn: Any, record: Mapping[str, Any]) -> list[str]:
        return lacking(conn, self._of(record))

    def offer(self, conn: Any, record: Mapping[str, Any]) -> list[dict[str, str]]:
        return read(conn, self._of(record), record.get("carried_secrets", ()))

    def discard(self, conn: Any, journal: Journal, uses: DiskUses, record: Mapping[str, Any]) -> None:
        release(conn, journal, record, record.get("carried_secrets", ()))

    def strange(self, root: ET.Element, record: Mapping[str, Any]) -> Iterator[str]:
        planned = {value for secret in self._of(record) for value in (secret["uuid"], secret["usage"]) if value}
        for secret in named_by(root):
            if not {secret["uuid"], secret["usage"]} & planned:
                yield f"it needs the secret {shown(str(secret['uuid'] or secret['usage']))}, which is none of the plan"

    def receive(self, conn: Any, journal: Journal, record: dict[str, Any], given: Any) -> dict[str, Any]:
        return receive(conn, journal, record, given)

    def withdraw(self, conn: Any, journal: Journal, uses: DiskUses, record: dict[str, Any]) -> None:
        release(conn, journal, record, record.get("defined_secrets", ()))

    def _of(self, record: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
        return record.get(self.name) or ()


def facts(conn: Any, root: ET.Element) -> list[dict[str, Any]]:
    """Each secret that a definition names, without its value.

    :returns: `uuid`, `usage_type` and `usage`; `by`, the one of `uuid` and `usage` by which it is named; `needed_by`, the TPM or disks; `missing`, why the
        guest has no use of it on this host; `withheld`, why its value stays on this host. Both are None for one that can travel.
    """
    found: dict[tuple[str | None, str | None, str | None], dict[str, Any]] = {}
    for named in named_by(root):
        secret = _secret_store.find_secret(conn, uuid=named["uuid"], usage=(named["usage_type"], named["usage"]))
        entry = {**named, "by": "uuid" if named["uuid"] else "usage", "missing": None, "withheld": None, **_described(secret)}
        known = found.setdefault((entry["uuid"], entry["usage_type"], entry["usage"]), {**entry, "needed_by": []})
        known["needed_by"].append(named["needed_by"])
        known["by"] = "uuid" if "uuid" in (known["by"], entry["by"]) else "usage"
    return list(found.values())


def refusals(secrets: Sequence[Mapping[str, Any]], encrypted: Collection[str]) -> Iterator[tuple[str, str]]:
    """Code and sentence of each secret without which the guest could not be taken back to this host, or its images not be checked.

    :param encrypted: targets of the disks whose files are encrypted.
    """
    for secret in secrets:
        if secret["withheld"] == PRIVATE and (disks := _opened(secret, encrypted)):
            yield "secret_private", f"The {described(secret)} is private: without its value, the image of {disks} cannot be checked after the copy."
        if secret["missing"]:
            yield "secret_missing", f"The {described(secret)} {secret['missing']} on this host (virsh secret-define, virsh secret-set-value)."


def described(secret: Mapping[str, Any]) -> str:
    """`ceph secret UUID of the usage client.vms, which disk vdb needs,`."""
    usage = f" of the usage {secret['usage']}" if secret["usage"] else ""
    kind = f"{secret['usage_type']} " if secret["usage_type"] else ""
    return f"{kind}secret{' ' + secret['uuid'] if secret['uuid'] else ''}{usage}, which {' and '.join(secret['needed_by'])} needs,"


def proofs(conn: Any, secrets: Sequence[Mapping[str, Any]], key: str) -> dict[str, str]:
    """UUID -> a proof of the value under the one-time key of the operation, for the destination to tell whether it has the same one.

    :raises KvmfleetError: as `read`.
    """
    return {secret["uuid"]: _proof(key, secret["uuid"], _value_to_give(conn, secret)) for secret in secrets if not secret["withheld"]}


def problems(
    conn: Any, secrets: Sequence[Mapping[str, Any]], proven: Mapping[str, str], key: str | None, encrypted: Collection[str]
) -> Iterator[tuple[str, str]]:
    """Code and sentence of everything that keeps this host from letting the guest have its secrets.

    :param proven: what `proofs` returned at the source, with the same key; :param encrypted: as for `refusals`.
    """
    for secret in secrets:
        here, taken = find(conn, secret), _taken(conn, secret)
        what = f"the {described(secret)}"
        if here is None and taken is not None:
            yield "secret_differs", f"{what} cannot be defined here, where {_told(taken)} has its UUID or usage"
        elif here is None and secret["withheld"]:
            yield "secret_missing", f"{what} is not defined here and {secret['withheld']}: define it (virsh secret-define, virsh secret-set-value)"
        elif here is not None and secret["by"] == "uuid" and _usage(here) != (secret["usage_type"], secret["usage"]):
            yield "secret_differs", f"{what} is {_told(here)} here"
        elif here is not None and _is(here, "private"):
            if disks := _opened(secret, encrypted):
                yield "secret_private", f"{what} is private here: without its value, the image of {disks} cannot be checked after the copy"
        elif here is not None:
            value = _secret_store.secret_value(here)
            if value is None:
                yield "secret_missing", f"{what} has no value here (virsh secret-set-value)"
            elif key and not secret["withheld"] and not hmac.compare_digest(_proof(key, secret["uuid"], value), str(proven.get(secret["uuid"]))):
                yield "secret_differs", f"{what} has another value here than at the source, or the source did not prove that it has the same"


def lacking(conn: Any, secrets: Sequence[Mapping[str, Any]]) -> list[str]:
    """UUIDs of those that this host has to be given."""
    return [secret["uuid"] for secret in secrets if find(conn, secret) is None]


def read(conn: Any, secrets: Sequence[Mapping[str, Any]], uuids: Collection[str]) -> list[dict[str, str]]:
    """What the destination needs to define them: `uuid`, `xml`, and the `value` in Base64.

    :raises KvmfleetError: `secret_missing` for one that cannot be given any more.
    """
    given = []
    for secret in secrets:
        if secret["uuid"] in uuids:
            value = _value_to_give(conn, secret)
            xml = _secret_store.secret_xml(_secret_store.find_secret(conn, uuid=secret["uuid"], usage=_NO_USAGE))
            given.append({"uuid": secret["uuid"], "xml": xml, "value": base64.b64encode(value).decode()})
    return given


def receive(conn: Any, journal: Journal, record: dict[str, Any], given: Sequence[Mapping[str, str]]) -> dict[str, Any]:
    """Define the secrets that the source has given and this host lacks, and make sure that the guest has all of them.

    The record says which ones the operation defines before it does, so that going back removes those and no other.

    :returns: the record.
    :raises KvmfleetError: `manifest_invalid`; `secret_differs`, `secret_missing` where that changed since the claim.
    """
    wanted = {secret["uuid"]: secret for secret in record.get("secrets", ())}
    values = {item["uuid"]: _checked(item, wanted) for item in given}
    if not wanted:
        return record
    with journal.state.lock(_LOCK):
        own = record.get("defined_secrets", [])
        absent = [uuid for uuid in values if uuid in own or find(conn, wanted[uuid]) is None]
        if set(absent) - set(own):
            record = journal.update(record, defined_secrets=sorted({*own, *absent}))
        for item in given:
            if item["uuid"] in absent:
                _define(conn, wanted[item["uuid"]], item["xml"], values[item["uuid"]])
    for uuid, secret in wanted.items():
        here = find(conn, secret)
        if here is None:
            raise KvmfleetError("secret_missing", f"The {described(secret)} is not defined on this host any more.", need=uuid)
        if uuid in values and not _is(here, "private") and _secret_store.secret_value(here) != values[uuid]:
            raise KvmfleetError("secret_differs", f"The {described(secret)} has been defined with another value on this host meanwhile.", need=uuid)
    return record


def release(conn: Any, journal: Journal, record: Mapping[str, Any], uuids: Collection[str]) -> None:
    """Undefine those of the secrets that nothing else on this host refers to: no domain, no storage pool, no other open operation."""
    if not uuids:
        return
    with journal.state.lock(_claims.LOCK), journal.state.lock(_LOCK):
        used = _used(conn, journal, but=record["uuid"])
        for secret in record.get("secrets", ()):
            here = _secret_store.find_secret(conn, uuid=secret["uuid"], usage=_NO_USAGE) if secret["uuid"] in uuids else None
            if here is not None and not used & {secret["uuid"], secret["usage"]}:
                _secret_store.undefine_secret(here)


def key_of(conn: Any, root: ET.Element, target: str) -> bytes:
    """The value of the secret by which the disk of a definition is encrypted; KvmfleetError `secret_missing` where this host cannot tell it."""
    named = next((named for named in named_by(root) if (named["usage_type"], named["needed_by"]) == ("volume", f"disk {target}")), None)
    secret = None if named is None else _secret_store.find_secret(conn, uuid=named["uuid"], usage=(named["usage_type"], named["usage"]))
    value = None if secret is None or _is(secret, "private") else _secret_store.secret_value(secret)
    if value is None:
        raise KvmfleetError("secret_missing", f"The secret of the encrypted disk {target} is not defined on this host, or its value is private.", target=target)
    return value


def find(conn: Any, secret: Mapping[str, Any]) -> Any | None:
    """What a definition that names the secret means on this host."""
    return _secret_store.find_secret(conn, uuid=secret["uuid"] if secret["by"] == "uuid" else None, usage=(secret["usage_type"], secret["usage"]))


def named_by(root: ET.Element) -> Iterator[dict[str, Any]]:
    """The secrets of a definition, once for each place that names one."""
    for disk in root.findall("devices/disk"):
        target = disk.find("target")
        where = f"disk {'' if target is None else target.get('dev', '')}"
        for secret in disk.iter("secret"):
            yield {"uuid": secret.get("uuid"), "usage_type": _USAGES.get(secret.get("type", "")), "usage": secret.get("usage"), "needed_by": where}
    for encryption in root.findall("devices/tpm/backend/encryption"):
        yield {"uuid": encryption.get("secret"), "usage_type": "vtpm", "usage": None, "needed_by": "the TPM"}


def _described(secret: Any | None) -> dict[str, Any]:
    """What the host says of a secret, in the form of `facts`."""
    if secret is None:
        return {"missing": "is not defined"}
    usage_type, usage = _usage(secret)
    found = {"uuid": secret.UUIDString(), "usage_type": usage_type, "usage": usage}
    if _is(secret, "private"):
        return {**found, "withheld": PRIVATE}
    if _secret_store.secret_value(secret) is None:
        return {**found, "missing": "has no value"}
    return {**found, "withheld": "does not travel, since it is ephemeral" if _is(secret, "ephemeral") else None}


def _usage(secret: Any) -> tuple[str | None, str | None]:
    usage_type, usage = _secret_store.secret_usage(secret)
    return (usage_type, usage) if usage else (None, None)


def _opened(secret: Mapping[str, Any], encrypted: Collection[str]) -> str:
    """Those of the disks that the secret opens, for people."""
    return ", ".join(target for target in encrypted if f"disk {target}" in secret["needed_by"])


def _is(secret: Any, attribute: str) -> bool:
    return _definition.parse_document(_secret_store.secret_xml(secret)).get(attribute) == "yes"


def _told(secret: Any) -> str:
    usage_type, usage = _usage(secret)
    return f"{secret.UUIDString()} of the {usage_type} usage {usage}" if usage else f"{secret.UUIDString()} without a usage"


def _taken(conn: Any, secret: Mapping[str, Any]) -> Any | None:
    """The secret here that has the UUID or the usage, each of which is unique on a host."""
    return _secret_store.find_secret(conn, uuid=secret["uuid"], usage=_NO_USAGE) or _secret_store.find_secret(
        conn, uuid=None, usage=(secret["usage_type"], secret["usage"])
    )


def _define(conn: Any, secret: Mapping[str, Any], xml: str, value: bytes) -> None:
    taken = _taken(conn, secret)
    if taken is not None and taken.UUIDString() != secret["uuid"]:
        raise KvmfleetError("secret_differs", f"The {described(secret)} cannot be defined here, where {_told(taken)} has its usage.", need=secret["uuid"])
    (taken or _secret_store.define_secret(conn, xml)).setValue(value)


def _value_to_give(conn: Any, secret: Mapping[str, Any]) -> bytes:
    found = _secret_store.find_secret(conn, uuid=secret["uuid"], usage=_NO_USAGE)
    value = None if found is None or _is(found, "private") else _secret_store.secret_value(found)
    if value is None:
        raise KvmfleetError("secret_missing", f"The {described(secret)} is gone from this host, or has no value any more.", need=secret["uuid"])
    return value


def _proof(key: str, uuid: str, value: bytes) -> str:
    return hmac.new(key.encode(), b"kvmfleet secret\0" + uuid.encode() + b"\0" + value, hashlib.sha256).hexdigest()


def _checked(item: Mapping[str, str], wanted: Mapping[str, Mapping[str, Any]]) -> bytes:
    """The value of what the source has given, provided that it is one of the wanted secrets."""
    root = _definition.parse_document(item["xml"])
    uuid, usage = (root.findtext("uuid") or "").strip(), root.find("usage")
    name = None if usage is None else next(((child.text or "").strip() for child in usage if isinstance(child.tag, str)), None)
    secret = wanted.get(item["uuid"])
    told = (uuid, None if usage is None else usage.get("type"), name)
    if root.tag != "secret" or secret is None or told != (secret["uuid"], secret["usage_type"], secret["usage"]):
        raise KvmfleetError("manifest_invalid", f"The source gives the secret {uuid or item['uuid']} of the usage {name}, which the instance does not need.")
    try:
        value = base64.b64decode(item["value"], validate=True)
    except binascii.Error as exc:
        raise KvmfleetError("manifest_invalid", f"The value of the secret {uuid} is not Base64.") from exc
    if not 0 < len(value) <= LIMIT:
        raise KvmfleetError("manifest_invalid", f"The value of the secret {uuid} has {len(value)} bytes; 1 to {LIMIT} are possible.", limit=LIMIT)
    return value


def _used(conn: Any, journal: Journal, but: str) -> set[str | None]:
    """UUIDs and usages that something on this host names, the operation `but` left out."""
    documents = [document.xml for _domain, found in _domain_documents.documents(conn) for document in found]
    documents += [_storage.pool_xml(pool) for pool in _storage.all_pools(conn)]
    found: set[str | None] = set()
    for root in map(_definition.parse_document, documents):
        found.update(value for secret in root.iter("secret") for value in (secret.get("uuid"), secret.get("usage")))
        found.update(encryption.get("secret") for encryption in root.iter("encryption"))
    others = [record for record in journal.all() if record["uuid"] != but and record["status"] not in CLOSED]
    found.update(value for record in others for secret in record.get("secrets", ()) for value in (secret["uuid"], secret["usage"]))
    return found - {None}
