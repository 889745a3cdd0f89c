# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a plan may hold, which is made from the facts of another host: the controller asks this before it hands a plan over, and the destination again.

A host is believed about itself only. Each field of what travels stands in a table with the values that it may have; a field that is in no table
is refused, so that a new one cannot go round. Those that name files of this host say in which of its directories they may lie (see `_storage.places`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from . import exclusive as _exclusive
from .image_formats import MAX_DEPTH
from .value_kinds import (
    CHANNEL,
    COUNT,
    DOMAIN,
    FILE_NAME,
    FLAG,
    FORMAT,
    HEX,
    HOST,
    ID,
    IMAGE,
    LABEL,
    LOG,
    MAC,
    MODE,
    MOST_FILES,
    OURS,
    OWNER,
    PORT,
    PROGRAM,
    SOURCE_PATH,
    TARGET,
    TEXT,
    THING,
    VARIABLES,
    is_layer,
)
from .values import Absent, Each, Field, Named, Null, Table, invalid, one_of, require, text

_BASE: Table = {"sha256": HEX, "format": FORMAT, "virtual_size": COUNT, "size_bytes": COUNT, "path": SOURCE_PATH}
_FLAVOR: Table = {
    "name": Null(LABEL),
    **dict.fromkeys(("vcpus", "ram", "disk", "ephemeral", "swap"), COUNT),
    "extra_specs": Null(Named(LABEL, TEXT)),
}
_DISK: Table = {
    "target": TARGET,
    "kind": one_of("disk", "media"),
    "pool": Null(LABEL),
    "volume": Null(FILE_NAME),
    "path": IMAGE,
    "format": FORMAT,
    "chain": Each(Field("path, format and size of a layer", is_layer), MAX_DEPTH),
    "allocated_bytes": COUNT,
    "virtual_size": COUNT,
    "encrypted": Absent(FLAG),
    "base": Null({**_BASE, "backing": Null(_BASE)}),
    "bases": Each({**_BASE, "backing": Null(_BASE)}, MAX_DEPTH),
    "grow_to": Null(COUNT),
    "left_behind": Absent(FLAG),
    "shared": Absent(FLAG),
}
_NEW_DISK: Table = {
    "role": one_of("ephemeral", "swap"),
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
    "by": one_of("uuid", "usage"),
    "withheld": Null(LABEL),
    "needed_by": Each(LABEL, MOST_FILES),
}
PLAN: Mapping[str, Table] = {
    "instance_uuid": ID,
    "instance_name": DOMAIN,
    "migration_type": one_of("resize", "migration"),
    "source_host": HOST,
    "old_flavor": _FLAVOR,
    "new_flavor": _FLAVOR,
    "xml_digest": HEX,
    "agent_expected": FLAG,
    "disks": Each(_DISK, MOST_FILES),
    "new_disks": Absent(Each(_NEW_DISK, MOST_FILES)),
    "dropped_disks": Absent(Each(TARGET, MOST_FILES)),
    "left_out": Absent(Each(TARGET, MOST_FILES)),
    "flavor_disks": Absent(Null(Named(one_of("ephemeral", "swap"), {"target": TARGET, "name": FILE_NAME}))),
    "nvram": Null(VARIABLES),
    "tpm": Absent(FLAG),
    "console_logs": Absent(Each({"path": LOG, "append": FLAG}, MOST_FILES)),
    "owners": Absent(Named(CHANNEL, _OWNER, MOST_FILES)),
    "directories": Absent(Named(SOURCE_PATH, _DIRECTORY, MOST_FILES)),
    "secrets": Absent(Each(_SECRET, MOST_FILES)),
    "live_differences": Absent({"answer": Null(one_of("keep", "drop")), "found": Each(TEXT)}),
    "tuning": Absent(OURS),
    "availability_zone": Absent(OURS),
    "part_of": Absent(Null({"kind": one_of("drain", "restore"), "uuid": ID, "host": HOST, "order": COUNT, "run": ID})),
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
    "exclusive": Absent(Named(one_of(*_exclusive.KINDS), Each(THING))),
    "loader": Null(PROGRAM),
    "nvram_template": Null(PROGRAM),
    "host_cpus": Absent(Null({"cpus": _CPUS, "nodes": _CPUS})),
    "pinned_cpus": Absent(Null(_CPUS)),
    "huge_pages": Absent(Null({"page_kib": Null(COUNT), "memory_mb": COUNT, "nodes": Null(_CPUS)})),
    "network_disks": Absent(
        Each(
            {
                "target": TARGET,
                "protocol": Field("a protocol of network storage", text(re.compile(r"[a-z]{2,8}"))),
                "name": Null(LABEL),
                "hosts": Each({"name": LABEL, "port": Null(PORT)}, MOST_FILES),
                "files": Each(PROGRAM, MOST_FILES),
            },
            MOST_FILES,
        )
    ),
    "dedicated": Absent(OURS),
    "server_group": Absent(OURS),
}
"""What a plan says that the destination must have."""

_RATIO = Field("a number above 0", lambda value: isinstance(value, (int, float)) and not isinstance(value, bool) and value > 0)
_COMES: Table = {
    "target": TARGET,
    "what": THING,
    "source": Null(THING),
    "path": Null(THING),
    "pool": Null(LABEL),
    **dict.fromkeys(("reason", "text"), TEXT),
}
# What a plan says of this host. Its directories and numbers are the controller's, which has them of the inventory and of this host.
HERE: Mapping[str, Table] = {
    "ratios": dict.fromkeys(("cpu", "ram", "disk"), _RATIO),
    "storage": Each(_COMES),
    "mappings": Named(LABEL, Named(LABEL, TEXT)),
    "requirements": REQUIREMENTS,
    "precopy": Absent(OURS),
    "images_path": SOURCE_PATH,
    "image_directories": Each(SOURCE_PATH),
    "reserved": Named(LABEL, COUNT),
    "cpu_dedicated_set": TEXT,
    **dict.fromkeys(("max_moves", "outdated", "source_address", "peer", "bandwidth_limit", "base_sources"), Absent(OURS)),
}

PROBES = Named(SOURCE_PATH, {"name": FILE_NAME, "content": HEX})
"""Files that a source has written to find out what both hosts see."""


def here(handed: Mapping[str, Any], host: str) -> Mapping[str, Any]:
    """What a plan says of this host. What it says of others is nothing to it.

    :param handed: the plan, of which `record` and `for` are there; :param host: what the inventory calls this one.
    :raises KvmfleetError: `handed_value`.
    """
    require("plan", handed, {"record": OURS, "for": Named(HOST, OURS)})
    require("plan.for", {name: said for name, said in handed["for"].items() if name == host}, {host: HERE})
    return dict(handed["for"][host])


def plan(record: Mapping[str, Any], requirements: Mapping[str, Any] | None = None, probes: Mapping[str, Any] | None = None) -> None:
    """Whether a plan that was made from the facts of another host can be one, by the form of its values.

    :param record: `record` of the plan; :param requirements: its `requirements` of a host; :param probes: what its source has written where.
    :raises KvmfleetError: `handed_value`.
    """
    require("plan", record, PLAN)
    require("probes", probes or {}, PROBES)
    targets = [disk["target"] for disk in record["disks"]] + [disk["target"] for disk in record.get("new_disks") or ()]
    left = [disk["target"] for disk in record["disks"] if disk.get("left_behind")]
    for target in {target for target in targets if targets.count(target) - left.count(target) > 1}:
        raise invalid("plan.disks", target, "each target once")
    if requirements is not None:
        require("requirements", requirements, REQUIREMENTS)
