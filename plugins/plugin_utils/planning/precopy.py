# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whether the disks of a running guest are copied ahead (pre-copy), so that it is down only for what it wrote last."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible_collections.kvmfleet.compute.plugins.module_utils._rules.domain_facts import DomainFacts
from ansible_collections.kvmfleet.compute.plugins.module_utils._rules.errors import KvmfleetError
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.planning import disk_kinds, progress
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.validation import ValidationError, number

MODES = ("auto", "always", "never")
ASSUMED_RATE = 100 * 1000**2  # bytes a second: what a link of 1 Gbit/s carries
_MIB = 1024**2


def check(options: Mapping[str, Any] | None) -> dict[str, Any]:
    """The caller's words: `mode` (auto, always or never), `threshold` (seconds) and `bandwidth_limit` (bytes a second, 0 for none).

    :raises ValidationError: names the field.
    """
    options = options or {}
    mode = options.get("mode", "never")
    if mode not in MODES:
        raise ValidationError("precopy", mode, "auto, always or never")
    return {
        "mode": mode,
        "threshold": number("precopy_threshold", options.get("threshold", 0), 0),
        "bandwidth_limit": number("bandwidth_limit", options.get("bandwidth_limit", 0), 0),
    }


def decide(options: Mapping[str, Any], domain: DomainFacts, measured: float | None) -> dict[str, Any]:
    """Decide for one destination.

    :param options: what `check` returned; :param domain: the module domain_info's answer.
    :param measured: bytes a second of the latest copy between the two hosts, where one is known.
    :returns: `wanted` and `reason`.
    :raises KvmfleetError: `precopy_impossible`, where it must be.
    """
    if options["mode"] == "never":
        return _answer(False, "it is not wanted (precopy: never)")
    if domain["state"] != "running":
        return _answer(False, f"the guest is {domain['state']}, so that copying its disks takes no downtime")
    unable = _unable(domain)
    if options["mode"] == "always":
        if unable:
            raise KvmfleetError("precopy_impossible", f"precopy: always cannot be done for {domain['name']}: {unable}. Say auto or never.")
        return _answer(True, "it is wanted (precopy: always)")
    if unable:
        return _answer(False, unable)
    size = sum(disk["allocated_bytes"] for disk in domain["disks"] if disk["path"])
    rate = min(filter(None, (measured or ASSUMED_RATE, options["bandwidth_limit"])))
    how = "as measured in the latest copy between these hosts" if measured else "assumed, nothing was measured between these hosts yet"
    if rate != (measured or ASSUMED_RATE):
        how = "the limit of bandwidth"
    seconds = size / rate
    what = f"copying {size / _MIB:.0f} MiB takes about {seconds:.1f} s at {progress.rate(rate, 0)} ({how})"
    longer = seconds > options["threshold"]
    return _answer(longer, f"{what}, {'longer' if longer else 'no longer'} than {options['threshold']:g} s")


def _unable(domain: DomainFacts) -> str | None:
    """A layer needs a file below it, is not encrypted, and must not come between the guest and what belongs to it."""
    for reason in domain.get("not_layered") or ():
        return reason
    for disk in domain["disks"]:
        if disk.get("encrypted") and disk["path"]:
            return f"disk {disk['target']} is encrypted, and a layer would hold in the clear what the guest writes"
        unlayered = disk_kinds.of(disk).unlayered(disk) if disk["device"] == "disk" and not disk["readonly"] else None
        if unlayered:
            return f"disk {disk['target']} {unlayered}"
    return None


def _answer(wanted: bool, reason: str) -> dict[str, Any]:
    return {"wanted": wanted, "reason": reason}
