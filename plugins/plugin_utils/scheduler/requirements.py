# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the definition and the disks of a guest need of a host, beyond its flavor."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, NamedTuple

from ansible_collections.kvmfleet.compute.plugins.module_utils._rules.exclusive import KINDS as KINDS_OF_THINGS
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.validation import (
    ValidationError,
    boolean,
    integer,
    known_mapping,
    mapping,
    sequence,
)

EXCLUSIVE = tuple(KINDS_OF_THINGS)
"""Kinds of things of which a host can have one."""
KINDS = ("bridges", "networks", "pools", "emulators", "firmware")
"""Of things that a host may call otherwise than another."""


class Base(NamedTuple):
    """A base image below one of the guest's disks."""

    sha256: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Cpu:
    """The `<cpu>` of a definition; `features` are all that the guest sees, `None` where nobody could list them."""

    mode: str | None
    model: str | None
    features: tuple[str, ...] | None


@dataclass(frozen=True, slots=True)
class Tpm:
    """An emulated TPM."""

    model: str | None
    version: str | None


@dataclass(frozen=True, slots=True)
class Requirements:
    """All optional: what is not told is not checked here, but by the claim at the destination.

    `named` tells by kind which of these the fleet knows by a name, so that a host may call it otherwise.
    """

    arch: str | None
    virt_type: str | None
    machine: str | None
    emulator: str | None
    firmware: str | None
    loader: str | None
    nvram_template: str | None
    secure_boot: bool
    tpm: Tpm | None
    cpu: Cpu | None
    cpu_shares: int | None
    host_cpus: Mapping[str, list[int]] | None
    pinned_cpus: list[int]
    huge_pages: Mapping[str, Any] | None
    networks: tuple[str, ...]
    bridges: tuple[str, ...]
    nwfilters: tuple[str, ...]
    macs: tuple[str, ...]
    exclusive: Mapping[str, tuple[str, ...]]
    pools: tuple[str, ...]
    directories: tuple[str, ...]
    named: Mapping[str, Mapping[str, str]]
    overlay_bytes: int
    growth_bytes: int
    bases: tuple[Base, ...]

    @classmethod
    def build(cls, value: object) -> Requirements:
        """Read `request.requirements`."""
        path = "request.requirements"
        given = known_mapping(path, value, [item.name for item in fields(cls)])
        return cls(**{item.name: _READERS.get(item.name, _text)(f"{path}.{item.name}", given.get(item.name)) for item in fields(cls)})


def _text(path: str, value: object) -> str | None:
    if value is None or isinstance(value, str):
        return None if value is None or value == "" else str(value)
    raise ValidationError(path, value, "a string")


def _texts(path: str, value: object) -> tuple[str, ...]:
    texts = [_text(f"{path}[{index}]", item) for index, item in enumerate(sequence(path, value))]
    return tuple(text for text in texts if text)


def _named(path: str, value: object) -> dict[str, dict[str, str]]:
    given = known_mapping(path, value, KINDS)
    return {
        kind: {str(local): _text(f"{path}.{kind}.{local}", name) or str(local) for local, name in mapping(f"{path}.{kind}", names).items()}
        for kind, names in given.items()
    }


def _exclusive(path: str, value: object) -> dict[str, tuple[str, ...]]:
    return {kind: _texts(f"{path}.{kind}", texts) for kind, texts in known_mapping(path, value, EXCLUSIVE).items()}


def _bytes(path: str, value: object) -> int:
    return 0 if value is None else integer(path, value, 0)


def _flag(path: str, value: object) -> bool:
    return boolean(path, value, default=False)


def _shares(path: str, value: object) -> int | None:
    return None if value is None else integer(path, value, 0)


def _huge_pages(path: str, value: object) -> dict[str, Any] | None:
    if value is None:
        return None
    given = known_mapping(path, value, ("page_kib", "memory_mb", "nodes"))
    size, nodes = given.get("page_kib"), given.get("nodes")
    return {
        "page_kib": None if size is None else integer(f"{path}.page_kib", size, 1),
        "memory_mb": integer(f"{path}.memory_mb", given.get("memory_mb"), 0),
        "nodes": None if nodes is None else _numbers(f"{path}.nodes", nodes),
    }


def _host_cpus(path: str, value: object) -> dict[str, list[int]] | None:
    given = known_mapping(path, value, ("cpus", "nodes"))
    return None if value is None else {key: _numbers(f"{path}.{key}", given.get(key)) for key in ("cpus", "nodes")}


def _numbers(path: str, value: object) -> list[int]:
    return [integer(f"{path}[{index}]", number, 0) for index, number in enumerate(sequence(path, value))]


def _tpm(path: str, value: object) -> Tpm | None:
    given = known_mapping(path, value, ("model", "version"))
    return None if value is None else Tpm(_text(f"{path}.model", given.get("model")), _text(f"{path}.version", given.get("version")))


def _cpu(path: str, value: object) -> Cpu | None:
    given = known_mapping(path, value, ("mode", "model", "features"))
    if value is None:
        return None
    features = given.get("features")
    return Cpu(
        mode=_text(f"{path}.mode", given.get("mode")),
        model=_text(f"{path}.model", given.get("model")),
        features=None if features is None else _texts(f"{path}.features", features),
    )


def _bases(path: str, value: object) -> tuple[Base, ...]:
    return tuple(_base(f"{path}[{index}]", item) for index, item in enumerate(sequence(path, value)))


def _base(path: str, value: object) -> Base:
    if not isinstance(value, Mapping):
        raise ValidationError(path, value, "a mapping with sha256 and size_bytes")
    given = known_mapping(path, value, Base._fields)
    sha256 = _text(f"{path}.sha256", given.get("sha256"))
    if sha256 is None:
        raise ValidationError(f"{path}.sha256", None, "a string")
    return Base(sha256, integer(f"{path}.size_bytes", given.get("size_bytes"), 0))


_READERS = {
    "secure_boot": _flag,
    "tpm": _tpm,
    "cpu": _cpu,
    "cpu_shares": _shares,
    "host_cpus": _host_cpus,
    "pinned_cpus": _numbers,
    "huge_pages": _huge_pages,
    "networks": _texts,
    "bridges": _texts,
    "nwfilters": _texts,
    "macs": _texts,
    "exclusive": _exclusive,
    "pools": _texts,
    "directories": _texts,
    "named": _named,
    "overlay_bytes": _bytes,
    "growth_bytes": _bytes,
    "bases": _bases,
}
