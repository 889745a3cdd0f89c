# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""`kvmfleet_fleet`: what a drain or a restore was to do, and what it has come to, for programs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.kvmfleet.compute.plugins.plugin_utils.artifacts.plain import plain, small, text
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.fleet import progress, report


def planned(verb: str, programme: Mapping[str, Any], reason: str = "") -> dict[str, Any]:
    """Of check mode, or of what was refused: nothing was done."""
    lists = ("moves", "stops", "leaves", "waits", "busy", "unmovable", "refused", "starts", "stays")
    told = {
        **_head(verb, programme, reason),
        "fits": bool(programme["fits"]),
        "totals": plain(programme["totals"]),
    }
    full = {**told, **{name: plain(programme[name]) for name in lists if name in programme}}
    return small(full) or {**told, **{name: [text(each["instance"]) for each in programme[name]] for name in lists if name in programme}}


def carried_out(
    verb: str, programme: Mapping[str, Any], results: Mapping[str, Mapping[str, Any]], state: str, message: str, reason: str = "", drain: str | None = None
) -> dict[str, Any]:
    """Of a run.

    :param results: see `report.guests`; :param state: of the hosts, now; :param message: the sentence for people; :param drain: UUID of the drain's record.
    """
    guests = report.guests(programme, results)
    told = {
        **_head(verb, programme, reason),
        "drain": None if drain is None else text(drain),
        "state": text(state),
        "complete": not any(guest["state"] in (*progress.FAILED, progress.SKIPPED, progress.WAITING, progress.PLANNED) for guest in guests),
        "message": text(message),
        "totals": plain(report.totals(guests)),
    }
    return small({**told, "guests": _by_name(guests, short=False)}) or {**told, "guests": _by_name(guests, short=True)}


def _head(verb: str, programme: Mapping[str, Any], reason: str) -> dict[str, Any]:
    return {"verb": text(verb), "hosts": [text(host) for host in programme["hosts"]], "reason": text(reason)}


def _by_name(guests: Sequence[Mapping[str, Any]], short: bool) -> dict[str, Any]:
    """Two guests may have one name on different hosts, and are told apart by their UUID then."""
    names = [text(guest["instance"]) for guest in guests]
    found = {}
    for guest, name in zip(guests, names):
        key = name if names.count(name) == 1 else f"{name} ({text(guest['uuid'])})"
        found[key] = {"state": text(guest["state"]), "destination": plain(guest["destination"])} if short else plain({**guest, "instance": name})
    return found
