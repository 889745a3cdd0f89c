# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A decision as a table for people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible_collections.kvmfleet.compute.plugins.plugin_utils.validation import ValidationError, mapping, sequence


def placement_table(result: object, hosts: object = None) -> str:
    """One line for each host: where the guest goes, its alternates, the other hosts that fit, then every reason against the rest.

    :param result: what `select_destinations` returned; :param hosts: the host states, for a column with the zones.
    """
    if not isinstance(result, Mapping) or not {"selected", "alternates", "ranked", "rejected"} <= set(result):
        raise ValidationError("result", result, "the result of select_destinations")
    zones = _zones(hosts)
    rows = [("host", "zone", "verdict")]
    for entry in sequence("result.ranked", result["ranked"]):
        host = str(entry["host"])
        rows.append((host, zones.get(host, ""), f"{_standing(host, result)} weight {entry['weight']:.2f}"))
    for host, reasons in mapping("result.rejected", result["rejected"]).items():
        for number, reason in enumerate(reasons):
            rows.append(("" if number else str(host), "" if number else zones.get(str(host), ""), f"{reason['filter']}: {reason['reason']}"))
    return aligned(rows if zones else [(host, verdict) for host, _zone, verdict in rows])


def _standing(host: str, result: Mapping[str, Any]) -> str:
    if host == result["selected"]:
        return "selected"
    return "alternate" if host in result["alternates"] else "fits"


def _zones(hosts: object) -> dict[str, str]:
    states = [mapping(f"hosts[{index}]", state) for index, state in enumerate(sequence("hosts", hosts))]
    return {str(state.get("host")): str(state.get("availability_zone") or "-") for state in states}


def aligned(rows: list[tuple[str, ...]]) -> str:
    """The rows as lines, each column as wide as its widest cell."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows)
