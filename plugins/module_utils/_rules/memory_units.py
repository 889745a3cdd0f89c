# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Amounts of memory in a definition."""

from __future__ import annotations

import xml.etree.ElementTree as ET

from .errors import KvmfleetError

_KIB = {
    **dict.fromkeys(("b", "bytes"), 1 / 1024),
    **{unit: 1000**power / 1024 for power, unit in enumerate(("KB", "MB", "GB", "TB"), 1)},
    **{unit: 1024**power for power, unit in enumerate(("k", "M", "G", "T"))},
    **{unit: 1024**power for power, unit in enumerate(("KiB", "MiB", "GiB", "TiB"))},
}


def kib(element: ET.Element) -> int:
    """The amount of a `<memory>`-like element in KiB; libvirt's default unit is KiB."""
    try:
        return int(int(element.text or "") * _KIB[element.get("unit", "KiB")])
    except (ValueError, KeyError) as exc:
        raise KvmfleetError("invalid_domain_xml", f"<{element.tag}> holds {element.text!r} {element.get('unit', 'KiB')}, not an amount of memory.") from exc
