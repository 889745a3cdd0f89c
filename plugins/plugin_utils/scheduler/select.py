# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The decision: every filter on every host, then weights, then one order of destinations."""

from __future__ import annotations

import random
import secrets
from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.collector import uncollected
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.context import Context
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.filters.base import Filter, Rejection
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.message import describe
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.options import Options
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.registry import filters_for, weighers_for
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.suggestions import suggest
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.weigh import Weighed, weigh


@uncollected
def select_destinations(hosts: object, request: object, scheduler: object = None) -> dict[str, Any]:
    """Where an instance may go, best first, and for every other host every reason why not.

    :param hosts: list of host states; :param request: what is to be placed; :param scheduler: options, all optional.
    :return: `selected`, `alternates`, `ranked`, `rejected`, `seed`, `suggestions` and `message`, plain JSON types only.
    :raises ValidationError: an argument is malformed. A request that fits nowhere is a result.
    """
    return decide(Context.build(hosts, request, scheduler))


@uncollected
def decide(context: Context) -> dict[str, Any]:
    """The answer for a context that is built already."""
    filters = filters_for(context)
    weighers = weighers_for(context)
    rejected = _rejected(context, filters)
    fitting = [host for name, host in context.hosts.items() if name not in rejected]
    seed = _seed(context.options)
    ranked = _ordered(weigh(fitting, weighers), context, seed)
    alternates = [item.host for item in ranked[1 : context.options.max_attempts]]
    suggestions = [] if ranked else suggest(context, rejected)
    return {
        "selected": ranked[0].host if ranked else None,
        "alternates": alternates,
        "ranked": [{"host": item.host, "weight": item.weight, "weights": item.weights} for item in ranked],
        "rejected": _plain(rejected),
        "seed": seed,
        "suggestions": suggestions,
        "message": describe(context, filters, weighers, ranked, alternates, rejected, [item["text"] for item in suggestions]),
    }


def _rejected(context: Context, filters: Sequence[Filter]) -> dict[str, list[Rejection]]:
    """Every reason against every host, in the order of the hosts and of the filters."""
    everyone = list(context.hosts.values())
    known = [host for host in everyone if host.known]
    reasons: dict[str, list[Rejection]] = {}
    for item in filters:
        if item.applies():
            for host in item.suspects(known if item.needs_facts else everyone):
                reason = item.rejection(host)
                if reason is not None:
                    reasons.setdefault(host.name, []).append(reason)
    return {name: reasons[name] for name in context.hosts if name in reasons}


def _plain(rejected: Mapping[str, Sequence[Rejection]]) -> dict[str, list[dict[str, Any]]]:
    """The reasons as JSON has them; one that several hosts share is made once."""
    made: dict[int, dict[str, Any]] = {}
    plain = {}
    for host, reasons in rejected.items():
        plain[host] = mine = []
        for reason in reasons:
            shown = made.get(id(reason))
            if shown is None:
                shown = made[id(reason)] = dict(zip(Rejection._fields, reason))
            mine.append(shown)
    return plain


def _seed(options: Options) -> int | str | None:
    """What a draw starts from, also where the caller left that open: a decision can be made again. None where nothing is drawn."""
    if not options.shuffle_best_same_weighed_hosts and options.host_subset_size == 1:
        return None
    return secrets.randbits(32) if options.shuffle_seed is None else options.shuffle_seed


def _ordered(weighed: Sequence[Weighed], context: Context, seed: int | str | None) -> list[Weighed]:
    """Best first: the current host if it fits, since growing in place copies nothing; else one drawn from the best, where that is configured."""
    ranked = list(weighed)
    options = context.options
    current = next((index for index, item in enumerate(ranked) if item.host == context.request.instance.host), None)
    if current is not None and options.prefer_same_host:
        return [ranked.pop(current), *ranked]
    draw = random.Random(seed)  # noqa: S311 (spreads load, guards nothing)
    if options.shuffle_best_same_weighed_hosts and ranked:
        best = [item for item in ranked if item.weight == ranked[0].weight]
        ranked[: len(best)] = draw.sample(best, len(best))
    if options.host_subset_size > 1 and ranked:
        ranked.insert(0, ranked.pop(draw.randrange(min(options.host_subset_size, len(ranked)))))
    return ranked
