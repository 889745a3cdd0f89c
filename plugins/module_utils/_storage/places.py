# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Where the files of a guest may lie on this host, whatever another host says."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from .._rules.errors import KvmfleetError
from .._rules.handed_plan import PLAN, REQUIREMENTS
from .._rules.value_kinds import SHA256, UUID
from .._rules.values import invalid, require, values
from . import qemu_img as _qemu_img
from .kinds import registry as _kinds


def reasons_here(record: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Code and sentence of everything in a record that this host does not accept, by its own directories.

    :param record: as the journal keeps it, with the `image_directories` of this host.
    """
    if not UUID.check(record["instance_uuid"]):
        yield "handed_value", str(invalid("instance_uuid", record["instance_uuid"], UUID.expected))
    for base in (base for disk in record["disks"] for base in disk["bases"]):
        if not SHA256.check(base["sha256"]):
            yield "handed_value", str(invalid("sha256 of a base image", base["sha256"], SHA256.expected))
    for field, value, below in _places(record):
        try:
            _qemu_img.check_path(value, below)
        except KvmfleetError as exc:
            yield exc.code, f"{field}: {exc.message}"
    # Of what does not travel the base is not fetched, so it has to be in a directory of images as well.
    for base in (base for disk in record["disks"] if not _kinds.of(disk).travels for base in disk["bases"]):
        try:
            _qemu_img.check_path(base["path"], record["image_directories"])
        except KvmfleetError as exc:
            yield exc.code, exc.message


def files(record: Mapping[str, Any]) -> Iterator[tuple[str, Sequence[str]]]:
    """The path of each file of a record on this host, and the directories below one of which it has to lie."""
    return ((path, below) for _field, path, below in _places(record))


def _places(record: Mapping[str, Any]) -> Iterator[tuple[str, str, Sequence[str]]]:
    told = {name: value for name, value in record.items() if name in PLAN}
    for field, value, known in values("", told, {name: PLAN[name] for name in told}):
        if known.below is not None:
            yield field, value, known.below(record["image_directories"])


def require_here(record: Mapping[str, Any]) -> None:
    """The same for a record of this host's journal, right before it takes effect: links may lie in the way since the claim.

    :raises KvmfleetError: the code of the first reason.
    """
    told = {name: value for name, value in record.items() if name in PLAN}
    require("plan", told, {name: PLAN[name] for name in told})  # an older release noted less
    if record.get("requirements") is not None:
        require("requirements", record["requirements"], REQUIREMENTS)
    for code, reason in reasons_here(record):
        raise KvmfleetError(code, f"{record['instance_name']} is not taken: {reason}")
