# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The definition that a guest gets by an operation: made of the one that the source gave, with the paths and names of this host and the new flavor."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from typing import Any

from .._domain import definition as _definition, edit as _edit, flavor as _flavor, flavor_disks as _flavor_disks, origin as _origin
from .._guest.belongings import registry as _belongings
from .._rules import file_names as _file_names
from .._storage.kinds import registry as _kinds


def adapted(record: dict[str, Any]) -> ET.Element:
    """What the source gave, with the paths and names that things have here, and the new flavor; judged by `_operation.receiving.arriving`."""
    root = _definition.parse(record["private"]["domain_xml"])
    for disk in record["disks"]:
        if disk["target"] in _definition.BOOT_FILES:
            _edit.set_boot_file(root, disk["target"], disk["path"])
        else:
            _kinds.define(root, disk)
    for target in record.get("left_out", ()):
        _edit.empty_drive(root, target)
    for kind in _belongings.ALL:
        kind.adapt(root, record)
    _edit.map_names(root, record.get("mappings", {}))
    _origin.note(root, record)
    _set_flavor(root, record)
    return root


def layered(record: dict[str, Any]) -> str:
    """The definition of a guest that stays, on the layers over its disks."""
    root = _definition.parse(record["private"]["domain_xml"])
    for disk in written_in_place(record):
        _edit.set_disk_source(root, disk["target"], layer_path(record, disk), "qcow2")
    _set_flavor(root, record)
    return _edit.to_string(root)


def layer_path(record: dict[str, Any], disk: dict[str, Any]) -> str:
    """The layer over a disk of a guest that stays."""
    return _file_names.beside(disk["path"], _file_names.RESIZE, record)


def written_in_place(record: dict[str, Any]) -> list[dict[str, Any]]:
    """The disks that a guest writes to that stays where it is, shared storage included."""
    return [disk for disk in record["disks"] if disk["kind"] == "disk" and not disk.get("left_behind")]


def _set_flavor(root: ET.Element, record: dict[str, Any]) -> None:
    _flavor_disks.apply(root, record, _kinds.define)
    flavor = record["new_flavor"]
    _flavor.apply_flavor(root, flavor["vcpus"], flavor["ram"], record.get("tuning"), record.get("pins"))
    _flavor.set_kvmfleet_metadata(root, flavor["name"], record["availability_zone"], record["source_host"], record["uuid"], extra_specs=flavor["extra_specs"])
