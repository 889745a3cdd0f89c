# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The host that a drain took a guest from, in the guest's own metadata: it travels with every move and outlives the journals of all hosts.

It is another record than `origin`, which names the source of the last operation.
"""

from __future__ import annotations

import time
import xml.etree.ElementTree as ET
from collections.abc import Mapping
from typing import Any

from . import tree as _tree
from .definition import own_record

_NAME = "drain_origin"
_PARTS = ("host", "drain", "at")


def read(root: ET.Element) -> dict[str, str] | None:
    """`host` (by its name in the inventory), `drain` (its UUID) and `at` (UTC), None where no drain took the guest from anywhere."""
    found = own_record(root, _NAME)
    return None if found is None or not found.get("host") else {part: found.get(part, "") for part in _PARTS}


def note(root: ET.Element, record: Mapping[str, Any]) -> None:
    """Let the definition say what the move of a record makes of it: the first drain sets it, and the guest loses it where it is at home.

    :param record: of the destination.
    """
    have, part = read(root), record.get("part_of") or {}
    if have is not None and have["host"] == record["destination_host"]:
        _tree.record(root, _NAME, None)
    elif have is None and part.get("kind") == "drain":
        at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(record["created_at"]))
        _tree.record(root, _NAME, {"host": part["host"], "drain": part["uuid"], "at": at})
