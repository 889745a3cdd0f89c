# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The decision in words: a histogram of the reasons, then a line for each host that is out."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping, Sequence
from operator import itemgetter

from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.context import Context
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.filters.base import Filter, Rejection, plain
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.request import ANY_ZONE
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.weigh import Weighed
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.weighers.base import Weigher

Rejected = Mapping[str, Sequence[Rejection]]

# A fleet may have thousands of hosts; the result carries every reason, the message those of the hosts that came nearest.
HOST_LINES = 50
# Hints that only say more about another one.
_DETAILS = frozenset({"cidr"})
_CALLERS_CHOICE = frozenset({"not_target_host", "ignored_host"})


def describe(
    context: Context,
    found: Sequence[tuple[Filter, Mapping[int, Rejection]]],
    weighers: Sequence[Weigher],
    ranked: Sequence[Weighed],
    alternates: Sequence[str],
    rejected: Rejected,
    suggestions: Sequence[str],
) -> str:
    """One line when a host was found; otherwise the counts, what the request got wrong, a line for each host, and what would make it fit."""
    counts = ", ".join(_histogram(found))
    notes = "".join(f" Note: {note}." for note in _notes(context, [*(item for item, _refused in found), *weighers]))
    if ranked:
        return _found(context, ranked, alternates, len(rejected), counts) + notes
    advice = ["It would fit with:", *(f"  {text}" for text in suggestions)] if suggestions else []
    return "\n".join([_not_found(context, counts) + notes, *_lines(rejected), *advice])


def _found(context: Context, ranked: Sequence[Weighed], alternates: Sequence[str], out: int, counts: str) -> str:
    best, total = ranked[0], len(context.hosts)
    place = f"{best['host']} (its current host, in place)" if best["host"] == context.request.instance.host else best["host"]
    parts = [f"{_subject(context)} goes to {place}: {len(ranked)} of {total} hosts fit, weight {best['weight']:.2f}"]
    parts.append(f"alternates: {', '.join(alternates)}" if alternates else "no alternate")
    if out:
        parts.append(f"{out} rejected: {counts}")
    return "; ".join(parts) + "."


def _not_found(context: Context, counts: str) -> str:
    head = f"{_subject(context)} cannot be placed: 0 of {len(context.hosts)} hosts fit"
    head = f"{head}: {counts}." if counts else f"{head}."
    request = context.request
    if request.target_host and request.target_host not in context.hosts:
        return f"{head} Target host {request.target_host} is not known; known hosts: {_listed(list(context.hosts))}."
    zones = sorted(set(context.hosts.zones))
    if request.availability_zone not in (None, ANY_ZONE, *zones):
        return f"{head} No host is in zone {request.availability_zone}; known zones: {_listed(zones)}."
    return head


def _subject(context: Context) -> str:
    flavor = context.request.flavor
    sizes = f"{plain(flavor.vcpus)} vCPUs, {plain(flavor.ram)} MB memory, {plain(flavor.disk_mb)} MB disk"
    return f"{context.request.instance.name or 'The guest'} ({sizes})"


def _histogram(found: Iterable[tuple[Filter, Mapping[int, Rejection]]]) -> list[str]:
    """`2 RamFilter (need 8192 MB; best has 6144)` for numbers, `1 other zone` for the rest; most frequent first."""
    entries = []
    for item, refused in found:
        codes = dict.fromkeys(map(itemgetter("code"), refused.values()))
        for code in codes:
            reasons = [reason for reason in refused.values() if reason["code"] == code] if len(codes) > 1 else list(refused.values())
            entries.append((len(reasons), _counted(item, code, reasons)))
    return [f"{count} {text}" for count, text in sorted(entries, key=lambda entry: -entry[0])]


def _counted(item: Filter, code: str, reasons: Sequence[Rejection]) -> str:
    if not all(isinstance(value, (int, float)) for reason in reasons for value in (reason["need"], reason["have"])):
        return code.replace("_", " ")
    needs = {reason["need"] for reason in reasons}
    least = "" if len(needs) == 1 else "at least "
    need = f"{least}{min(needs)} {item.unit}".rstrip()
    return f"{type(item).__name__} (need {need}; best has {max(reason['have'] for reason in reasons)})"


def _lines(rejected: Rejected) -> list[str]:
    """Nearest to fitting first: hosts that the caller excluded are last, then the fewest reasons."""

    def distance(item: tuple[str, Sequence[Rejection]]) -> tuple[bool, int]:
        return any(reason["code"] in _CALLERS_CHOICE for reason in item[1]), len(item[1])

    nearest = heapq.nsmallest(HOST_LINES, rejected.items(), key=distance)
    lines = [f"  {host}: {'; '.join(map(_shown, reasons))}" for host, reasons in nearest]
    if len(rejected) > HOST_LINES:
        lines.append(f"  ... and {len(rejected) - HOST_LINES} more hosts")
    return lines


def _shown(reason: Rejection) -> str:
    return f"{reason['filter']}: {reason['reason']}"


def _notes(context: Context, readers: Iterable[Filter | Weigher]) -> list[str]:
    """Wishes that nothing which is enabled honours: better said than silently dropped."""
    honoured = frozenset().union(*(item.reads for item in readers))
    group = context.request.server_group
    wishes = [f"scheduler_hints.{key}" for key, hint in context.request.scheduler_hints.items() if hint and key not in _DETAILS]
    if group.policy or group.members:
        wishes.append(f"server_group.{group.policy}")
    return [f"nothing that is enabled honours request.{wish}" for wish in wishes if wish not in honoured]


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(names[:HOST_LINES]) or "none"
    return f"{shown} and {len(names) - HOST_LINES} more" if len(names) > HOST_LINES else shown
