# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The decision: every filter on every host, then weights, then one order of destinations."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.context import Context
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.message import describe
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.registry import filters_for, weighers_for
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.weigh import Weighed, weigh


def select_destinations(hosts: object, request: object, scheduler: object = None) -> dict[str, Any]:
    """Where an instance may go, best first, and for every other host every reason why not.

    :param hosts: list of host states; :param request: what is to be placed; :param scheduler: options, all optional.
    :return: `selected`, `alternates`, `ranked`, `rejected` and `message`, plain JSON types only.
    :raises ValidationError: an argument is malformed. A request that fits nowhere is a result.
    """
    return decide(Context.build(hosts, request, scheduler))


def decide(context: Context) -> dict[str, Any]:
    """The answer for a context that is built already."""
    filters = filters_for(context)
    weighers = weighers_for(context)
    asked = [item for item in filters if item.applies()]
    checks = [item.rejection for item in asked]
    blind_checks = [item.rejection for item in asked if not item.needs_facts]
    fitting, rejected = [], {}
    for host in context.hosts.values():
        reasons = [reason for check in (checks if host.known else blind_checks) if (reason := check(host)) is not None]
        if reasons:
            rejected[host.name] = reasons
        else:
            fitting.append(host)
    ranked = _ordered(weigh(fitting, weighers), context)
    alternates = [item.host for item in ranked[1 : context.options.max_attempts]]
    return {
        "selected": ranked[0].host if ranked else None,
        "alternates": alternates,
        "ranked": [item._asdict() for item in ranked],
        "rejected": {host: [reason._asdict() for reason in reasons] for host, reasons in rejected.items()},
        "message": describe(context, filters, weighers, ranked, alternates, rejected),
    }


def _ordered(weighed: Sequence[Weighed], context: Context) -> list[Weighed]:
    """Best first: the current host if it fits, since growing in place copies nothing; else one drawn from the best, where that is configured."""
    ranked = list(weighed)
    options = context.options
    current = next((index for index, item in enumerate(ranked) if item.host == context.request.instance.host), None)
    if current is not None and options.prefer_same_host:
        return [ranked.pop(current), *ranked]
    draw = random.Random(options.shuffle_seed)  # noqa: S311 (spreads load, guards nothing)
    if options.shuffle_best_same_weighed_hosts and ranked:
        best = [item for item in ranked if item.weight == ranked[0].weight]
        ranked[: len(best)] = draw.sample(best, len(best))
    if options.host_subset_size > 1 and ranked:
        ranked.insert(0, ranked.pop(draw.randrange(min(options.host_subset_size, len(ranked)))))
    return ranked
