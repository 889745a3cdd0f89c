# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What another host has handed over, judged before anything of it takes effect: plans made from its facts, and the documents of the channel.

A host is believed about itself only. Each field of what travels stands in a table here with the values that it may have; a field that is in no table
is refused, so that a new one cannot go round. Those that name files of this host say in which of its directories they may lie. The controller
asks the same tables, without the directories.

The definition of the guest is judged by `_handed_domain`.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Union

from . import _console_logs, _content_digest, _exclusive, _qemu_img, _tpm_state
from ._errors import KvmfleetError, shown

DOCUMENT_LIMIT = 16 * 1024 * 1024
"""Bytes of a document of the channel, the digests of the largest file included."""
NVRAM_DIRECTORY = "/var/lib/libvirt/qemu/nvram"
"""Where libvirt keeps firmware variables."""
RESERVED_TARGETS = ("nvram", "manifest", "definition")
"""What else is offered in the channel beside the disks, which bear their targets there."""

_LARGEST = 2**63 - 1
_MOST_FILES = 128
_MOST_ITEMS = 4096
_NVRAM_BYTES = 128 * 1024 * 1024
_SLACK_BYTES = 256 * 1024 * 1024
"""What the tables of an image and the memory in a snapshot take beside what the guest sees, over a hundredth of that."""

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]{0,63}")
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_DOMAIN = re.compile(r"\w([\w .,+@:()\[\]&#=~!-]{0,126}[\w.,+@:()\[\]&#=~!-])?")
_HOST = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+@:-]{0,252}")
_TARGET = re.compile(r"[A-Za-z][A-Za-z0-9]{0,31}")
_FILE = re.compile(r"[^/\x00-\x1f\x7f]{1,255}")
_LABEL = re.compile(r"[^\x00-\x1f\x7f]{1,255}")
_MAC = re.compile(r"[0-9A-Fa-f]{2}(:[0-9A-Fa-f]{2}){5}")
_HEX = re.compile(r"[0-9a-f]{2,128}")
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Field:
    """The values that a field may have.

    :param expected: them in words; :param check: whether a value is one of them.
    :param below: of a file of this host, given the directories of images here, all directories in which it may lie; None for what names no file here.
    """

    expected: str
    check: Callable[[Any], bool]
    below: Callable[[Sequence[str]], Sequence[str]] | None = None


@dataclass(frozen=True)
class Null:
    """A field that may also be null."""

    of: Any


@dataclass(frozen=True)
class Absent:
    """A field that may be left out."""

    of: Any


@dataclass(frozen=True)
class Each:
    """A list of at most `most` values, each of them the same."""

    of: Any
    most: int = _MOST_ITEMS


@dataclass(frozen=True)
class Named:
    """A mapping with any of the names that `name` allows."""

    name: Field
    of: Any
    most: int = _MOST_ITEMS


Table = Union[Field, Null, Absent, Each, Named, Mapping[str, Any]]


def _text(pattern: re.Pattern[str]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, str) and bool(pattern.fullmatch(value))


def _one_of(*known: str) -> Field:
    return Field(" or ".join(known), lambda value: isinstance(value, str) and value in known)


def _is_integer(value: Any, least: int = 0, most: int = _LARGEST) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most


def _is_path(value: Any) -> bool:
    """Without a way back up; OpenNebula writes double slashes."""
    if not isinstance(value, str) or not 1 < len(value) <= 4096 or not value.startswith("/") or not value.isprintable():
        return False
    return not value.endswith("/") and not {".", ".."} & set(value.split("/"))


def _is_file_name(value: Any) -> bool:
    return isinstance(value, str) and bool(_FILE.fullmatch(value)) and value not in (".", "..")


def _is_domain_name(value: Any) -> bool:
    return isinstance(value, str) and bool(_DOMAIN.fullmatch(value)) and ".." not in value


def _is_base64(value: Any) -> bool:
    try:
        return isinstance(value, str) and base64.b64decode(value, validate=True) is not None
    except (binascii.Error, ValueError):
        return False


def _is_state_path(value: Any) -> bool:
    return _is_path("/" + value) if isinstance(value, str) else False


def logs_below(directories: Sequence[str]) -> Sequence[str]:
    """Where logs of guests may lie on a host with these directories of images."""
    return [_console_logs.DIRECTORY, *directories]


def variables_below(directories: Sequence[str]) -> Sequence[str]:
    """The same for firmware variables."""
    return [NVRAM_DIRECTORY, *directories]


def _is_layer(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 3 and _is_path(value[0]) and value[1] in _qemu_img.FORMATS and _is_integer(value[2])


_A_PATH = "an absolute path of a file, without '.', '..' and characters that cannot be printed"
ID = Field("an identifier of letters, digits and '-'", _text(_ID))
UUID = Field("a UUID in lower case", _text(_UUID))
DOMAIN = Field("a name of a domain that is safe in a path", _is_domain_name)
HOST = Field("a name of a host", _text(_HOST))
TARGET = Field("a target of letters and digits, such as vda", lambda value: _text(_TARGET)(value) and value not in RESERVED_TARGETS)
CHANNEL = Field("a name in the channel", lambda value: value == "nvram" or TARGET.check(value))
FILE_NAME = Field("a name of a file without '/'", _is_file_name)
LABEL = Field("a printable name of 1 to 255 characters", _text(_LABEL))
MAC = Field("a MAC address", _text(_MAC))
THING = Field("a printable text of 1 to 4096 characters", lambda value: isinstance(value, str) and 0 < len(value) <= 4096 and value.isprintable())
HEX = Field("a digest in hexadecimal digits", _text(_HEX))
SHA256 = Field("a SHA-256 in hexadecimal digits", _text(_SHA256))
FLAG = Field("true or false", lambda value: isinstance(value, bool))
COUNT = Field("a whole number from 0", _is_integer)
OWNER = Field("the number of a user or group", lambda value: _is_integer(value, 0, 2**32 - 2))
MODE = Field("the mode of a file", lambda value: _is_integer(value, 0, 0o7777))
PORT = Field("a TCP port", lambda value: _is_integer(value, 1, 65535))
BASE64 = Field("Base64", _is_base64)
STATE_PATH = Field("a relative path without detours", _is_state_path)
FORMAT = _one_of(*_qemu_img.FORMATS)
SOURCE_PATH = Field(_A_PATH, _is_path)
"""Of a file of the other host, which is compared and never opened here."""
IMAGE = Field(_A_PATH, _is_path, lambda directories: directories)
VARIABLES = Field(_A_PATH, _is_path, variables_below)
LOG = Field(_A_PATH, _is_path, logs_below)
PROGRAM = Field(_A_PATH, _is_path)
"""Of a file that this host has already and that `_handed_domain` judges."""
TEXT = Field("a text", lambda value: isinstance(value, str) and len(value) <= DOCUMENT_LIMIT)
OURS = Field("anything", lambda value: True)
"""What the controller made itself, of nothing that a host told."""

_BASE: Table = {"sha256": HEX, "format": FORMAT, "virtual_size": COUNT, "size_bytes": COUNT, "path": SOURCE_PATH}
_FLAVOR: Table = {
    "name": Null(LABEL),
    **dict.fromkeys(("vcpus", "ram", "disk", "ephemeral", "swap"), COUNT),
    "extra_specs": Null(Named(LABEL, TEXT)),
}
_DISK: Table = {
    "target": TARGET,
    "kind": _one_of("disk", "media"),
    "pool": Null(LABEL),
    "volume": Null(FILE_NAME),
    "path": IMAGE,
    "format": FORMAT,
    "chain": Each(Field("path, format and size of a layer", _is_layer), _qemu_img.MAX_DEPTH),
    "allocated_bytes": COUNT,
    "virtual_size": COUNT,
    "encrypted": Absent(FLAG),
    "base": Null({**_BASE, "backing": Null(_BASE)}),
    "bases": Each({**_BASE, "backing": Null(_BASE)}, _qemu_img.MAX_DEPTH),
    "grow_to": Null(COUNT),
    "left_behind": Absent(FLAG),
    "shared": Absent(FLAG),
}
_NEW_DISK: Table = {
    "role": _one_of("ephemeral", "swap"),
    "target": TARGET,
    "path": IMAGE,
    "format": FORMAT,
    "size": COUNT,
    "pool": Null(LABEL),
    "volume": Null(FILE_NAME),
    "beside": TARGET,
}
_OWNER: Table = {
    **dict.fromkeys(("uid", "gid"), OWNER),
    "mode": MODE,
    **dict.fromkeys(("user", "group", "label"), Null(LABEL)),
    **dict.fromkeys(("given", "relabel"), FLAG),
    "of_qemu": Each(FLAG, 2),
}
_DIRECTORY: Table = {**dict.fromkeys(("uid", "gid"), OWNER), "mode": MODE, **dict.fromkeys(("user", "group"), Null(LABEL)), "of_qemu": Each(FLAG, 2)}
_SECRET: Table = {
    "uuid": Null(ID),
    "usage_type": Null(LABEL),
    "usage": Null(LABEL),
    "by": _one_of("uuid", "usage"),
    "withheld": Null(LABEL),
    "needed_by": Each(LABEL, _MOST_FILES),
}
PLAN: Mapping[str, Table] = {
    "instance_uuid": ID,
    "instance_name": DOMAIN,
    "migration_type": _one_of("resize", "migration"),
    "source_host": HOST,
    "old_flavor": _FLAVOR,
    "new_flavor": _FLAVOR,
    "xml_digest": HEX,
    "agent_expected": FLAG,
    "disks": Each(_DISK, _MOST_FILES),
    "new_disks": Absent(Each(_NEW_DISK, _MOST_FILES)),
    "dropped_disks": Absent(Each(TARGET, _MOST_FILES)),
    "left_out": Absent(Each(TARGET, _MOST_FILES)),
    "flavor_disks": Absent(Null(Named(_one_of("ephemeral", "swap"), {"target": TARGET, "name": FILE_NAME}))),
    "nvram": Null(VARIABLES),
    "tpm": Absent(FLAG),
    "console_logs": Absent(Each({"path": LOG, "append": FLAG}, _MOST_FILES)),
    "owners": Absent(Named(CHANNEL, _OWNER, _MOST_FILES)),
    "directories": Absent(Named(SOURCE_PATH, _DIRECTORY, _MOST_FILES)),
    "secrets": Absent(Each(_SECRET, _MOST_FILES)),
    "live_differences": Absent({"answer": Null(_one_of("keep", "drop")), "found": Each(TEXT)}),
    "tuning": Absent(OURS),
    "availability_zone": Absent(OURS),
}
"""What the record of a plan holds, which the journals of both hosts keep."""

_CPUS = Each(COUNT)
REQUIREMENTS: Mapping[str, Table] = {
    "arch": Null(LABEL),
    "virt_type": Null(LABEL),
    "machine": Null(LABEL),
    "emulator": Null(PROGRAM),
    "networks": Each(LABEL),
    "bridges": Each(LABEL),
    "mtus": Absent(Each({"type": LABEL, "source": LABEL, "mtu": COUNT})),
    "macs": Each(MAC),
    "exclusive": Absent(Named(_one_of(*_exclusive.KINDS), Each(THING))),
    "loader": Null(PROGRAM),
    "nvram_template": Null(PROGRAM),
    "host_cpus": Absent(Null({"cpus": _CPUS, "nodes": _CPUS})),
    "pinned_cpus": Absent(Null(_CPUS)),
    "huge_pages": Absent(Null({"page_kib": Null(COUNT), "memory_mb": COUNT, "nodes": Null(_CPUS)})),
    "network_disks": Absent(
        Each(
            {
                "target": TARGET,
                "protocol": Field("a protocol of network storage", _text(re.compile(r"[a-z]{2,8}"))),
                "name": Null(LABEL),
                "hosts": Each({"name": LABEL, "port": Null(PORT)}, _MOST_FILES),
                "files": Each(PROGRAM, _MOST_FILES),
            },
            _MOST_FILES,
        )
    ),
    "dedicated": Absent(OURS),
    "server_group": Absent(OURS),
}
"""What a plan says that the destination must have."""

PROBES = Named(SOURCE_PATH, {"name": FILE_NAME, "content": HEX})
"""Files that a source has written to find out what both hosts see."""
_FILES = Named(CHANNEL, COUNT, _MOST_FILES)
MANIFEST: Mapping[str, Table] = {
    "migration_uuid": ID,
    "round": COUNT,
    "there": Absent(Each(TARGET, _MOST_FILES)),
    "files": _FILES,
    "sizes": _FILES,
}
"""The manifest of a round of pre-copy."""
SEALED: Mapping[str, Table] = {
    **MANIFEST,
    "domain_xml": TEXT,
    "snapshots": Each({"name": LABEL, "xml": TEXT, "current": FLAG}),
    "tpm": Named(STATE_PATH, BASE64, _MOST_FILES),
    "secrets": Each({"uuid": UUID, "xml": TEXT, "value": BASE64}, _MOST_FILES),
    "console_logs": Each({"path": SOURCE_PATH, "content": BASE64, "whole": FLAG}, _MOST_FILES),
    "autostart": FLAG,
    "was_running": FLAG,
}
"""The manifest of the sealed guest."""
DEFINITION: Mapping[str, Table] = {"domain_xml": TEXT, "portable_xml": Null(TEXT), "snapshots": Absent(Each({"name": LABEL, "xml": TEXT, "current": FLAG}))}
"""What is tried while the guest runs."""
DIGEST: Mapping[str, Table] = {"size": COUNT, "segment_size": COUNT, "segments": Each(SHA256, 2**18), "sha256": SHA256}
FAILED: Mapping[str, Table] = {"error": TEXT}
"""The document that stands in for a digest that the other host could not make."""


def plan(record: Mapping[str, Any], requirements: Mapping[str, Any] | None = None, probes: Mapping[str, Any] | None = None) -> None:
    """Whether a plan that was made from the facts of another host can be one, by the form of its values.

    :param record: `record` of the plan; :param requirements: its `requirements` of a host; :param probes: what its source has written where.
    :raises KvmfleetError: `handed_value`.
    """
    _require("plan", record, PLAN)
    _require("probes", probes or {}, PROBES)
    targets = [disk["target"] for disk in record["disks"]] + [disk["target"] for disk in record.get("new_disks") or ()]
    left = [disk["target"] for disk in record["disks"] if disk.get("left_behind")]
    for target in {target for target in targets if targets.count(target) - left.count(target) > 1}:
        raise _invalid("plan.disks", target, "each target once")
    if requirements is not None:
        _require("requirements", requirements, REQUIREMENTS)


def may_lie(path: str, directories: Sequence[str]) -> bool:
    """Whether a file of a guest may lie there at all."""
    try:
        _qemu_img.check_path(path, directories)
    except KvmfleetError:
        return False
    return True


def reasons_here(record: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Code and sentence of everything in a record that this host does not accept, by its own directories.

    :param record: as the journal keeps it, with the `image_directories` of this host.
    """
    if not UUID.check(record["instance_uuid"]):
        yield "handed_value", str(_invalid("instance_uuid", record["instance_uuid"], UUID.expected))
    for base in (base for disk in record["disks"] for base in disk["bases"]):
        if not SHA256.check(base["sha256"]):
            yield "handed_value", str(_invalid("sha256 of a base image", base["sha256"], SHA256.expected))
    for field, value, below in _places(record):
        try:
            _qemu_img.check_path(value, below)
        except KvmfleetError as exc:
            yield exc.code, f"{field}: {exc.message}"
    # On storage that both hosts share the base is not fetched, so it has to be in a directory of images as well.
    for base in (base for disk in record["disks"] if disk.get("shared") for base in disk["bases"]):
        try:
            _qemu_img.check_path(base["path"], record["image_directories"])
        except KvmfleetError as exc:
            yield exc.code, exc.message


def files(record: Mapping[str, Any]) -> Iterator[tuple[str, Sequence[str]]]:
    """The path of each file of a record on this host, and the directories below one of which it has to lie."""
    return ((path, below) for _field, path, below in _places(record))


def _places(record: Mapping[str, Any]) -> Iterator[tuple[str, str, Sequence[str]]]:
    told = {name: value for name, value in record.items() if name in PLAN}
    for field, value, known in _values("", told, {name: PLAN[name] for name in told}):
        if known.below is not None:
            yield field, value, known.below(record["image_directories"])


def require_here(record: Mapping[str, Any]) -> None:
    """The same for a record of this host's journal, right before it takes effect: links may lie in the way since the claim.

    :raises KvmfleetError: the code of the first reason.
    """
    told = {name: value for name, value in record.items() if name in PLAN}
    _require("plan", told, {name: PLAN[name] for name in told})  # an older release noted less
    if record.get("requirements") is not None:
        _require("requirements", record["requirements"], REQUIREMENTS)
    for code, reason in reasons_here(record):
        raise KvmfleetError(code, f"{record['instance_name']} is not taken: {reason}")


def document(name: str, value: Any, *tables: Mapping[str, Table]) -> dict[str, Any]:
    """A document of the channel that has the form of one of the tables.

    :raises KvmfleetError: `manifest_invalid`.
    """
    for number, table in enumerate(tables, 1):
        try:
            _require(name, value, table)
        except KvmfleetError as exc:
            if number == len(tables):
                raise KvmfleetError("manifest_invalid", f"The other host offers what is no {name}: {exc.message}", **exc.details) from exc
        else:
            return value
    raise AssertionError("there is a table")


def digest(name: str, value: Any, size: int) -> dict[str, Any]:
    """The digest of a file of this length, or why there is none.

    :raises KvmfleetError: `manifest_invalid`.
    """
    found = document(f"digest of {name}", value, FAILED, DIGEST)
    if "error" not in found:
        step = _content_digest.segment_for(size)
        expected = (size, step, -(-size // step))
        if (found["size"], found["segment_size"], len(found["segments"])) != expected:
            raise KvmfleetError(
                "manifest_invalid",
                f"The other host offers a digest of {name} of {found['size']} bytes in {len(found['segments'])} segments of {found['segment_size']}; "
                f"{expected[0]} bytes in {expected[2]} segments of {expected[1]} are to come.",
            )
    return found


def require_sizes(record: Mapping[str, Any], manifest: Mapping[str, Any]) -> None:
    """The files that are to come are no larger than those of the plan can have become: what the guest sees, once more, and tables.

    :raises KvmfleetError: `manifest_invalid`.
    """
    limits = {disk["target"]: _limit(disk) for disk in record["disks"]}
    for name, length in manifest["sizes"].items():
        data, limit = manifest["files"].get(name, 0), limits.get(name, _NVRAM_BYTES)
        if max(data, 0 if name in limits and not _is_plain(record, name) else length) > limit or data > length + _content_digest.BLOCK:
            raise KvmfleetError(
                "manifest_invalid",
                f"The other host offers {name} with {data} bytes of data in a file of {length} bytes; by the plan it has {limit} at most.",
                have=max(data, length),
                limit=limit,
            )


def require_state(record: Mapping[str, Any], files: Mapping[str, str] | None) -> None:
    """The state of a TPM comes only for a guest that has one, and no more of it than a source reads.

    :raises KvmfleetError: `manifest_invalid`.
    """
    size = sum(len(base64.b64decode(content)) for content in (files or {}).values())
    if files and not record.get("tpm"):
        raise KvmfleetError("manifest_invalid", f"The other host offers the state of a TPM, and {record['instance_name']} has none by the plan.")
    if size > _tpm_state.LIMIT:
        raise KvmfleetError("manifest_invalid", f"The other host offers {size} bytes as the state of a TPM; {_tpm_state.LIMIT} are possible.", have=size)


def _limit(disk: Mapping[str, Any]) -> int:
    """Bytes of data that the file of a disk may have: it may hold all that the guest sees twice, where a snapshot keeps what was there before."""
    extra = _SLACK_BYTES + disk["virtual_size"] // 100
    return int(disk["virtual_size"] + extra + (disk["allocated_bytes"] if disk["format"] != "raw" else 0))


def _is_plain(record: Mapping[str, Any], target: str) -> bool:
    """Whether the file is as long as what the guest sees, so that its length is bounded too. That of others may grow as holes are punched into them."""
    return any(disk["target"] == target and disk["format"] == "raw" for disk in record["disks"])


def _require(field: str, value: Any, table: Table) -> None:
    for where, found, known in _values(field, value, table):
        if not known.check(found):
            raise _invalid(where, found, known.expected)


_MAPPING = Field("a mapping", lambda value: False)
_LIST = Field("a list", lambda value: False)
_UNKNOWN = Field("a field that this release knows", lambda value: False)
_MISSING = Field("a value", lambda value: False)
_FEWER = Field("fewer of them", lambda value: False)


def _values(field: str, value: Any, table: Table) -> Iterator[tuple[str, Any, Field]]:
    """Each value with its place and what it may be; what has not the form of the table comes with a field that allows nothing."""
    if isinstance(table, Null):
        if value is not None:
            yield from _values(field, value, table.of)
    elif isinstance(table, Absent):
        yield from _values(field, value, table.of)
    elif isinstance(table, Field):
        yield field, value, table
    elif isinstance(table, Each):
        if not isinstance(value, (list, tuple)):
            yield field, value, _LIST
        elif len(value) > table.most:
            yield field, f"{len(value)} items", _FEWER
        else:
            for number, item in enumerate(value):
                yield from _values(f"{field}[{number}]", item, table.of)
    elif not isinstance(value, Mapping):
        yield field, value, _MAPPING
    elif isinstance(table, Named):
        if len(value) > table.most:
            yield field, f"{len(value)} items", _FEWER
        else:
            for name, item in value.items():
                yield f"{field} (name)", name, table.name
                yield from _values(f"{field}.{name}", item, table.of)
    else:
        for name in value.keys() - table.keys():
            yield f"{field}.{shown(str(name), 40)}".lstrip("."), value[name], _UNKNOWN
        for name, known in table.items():
            if name in value:
                yield from _values(f"{field}.{name}".lstrip("."), value[name], known)
            elif not isinstance(known, Absent):
                yield f"{field}.{name}".lstrip("."), "nothing", _MISSING


def _invalid(field: str, value: Any, expected: str) -> KvmfleetError:
    text = shown(repr(value)[:400], 120)
    return KvmfleetError("handed_value", f"{field}: expected {expected}, another host told {text}.", field=field)


def fields(table: Table, place: str = "") -> Iterable[tuple[str, Field]]:
    """Every field of a table with its place, for whoever wants to try them all."""
    if isinstance(table, Field):
        yield place, table
    elif isinstance(table, (Null, Absent, Each)):
        yield from fields(table.of, place + ("[]" if isinstance(table, Each) else ""))
    elif isinstance(table, Named):
        yield f"{place}{{}}", table.name
        yield from fields(table.of, f"{place}.*")
    else:
        for name, known in table.items():
            yield from fields(known, f"{place}.{name}".lstrip("."))
