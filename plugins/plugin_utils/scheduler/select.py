# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The decision: every filter on every host, then weights, then one order of destinations."""

from __future__ import annotations

import random
import secrets
from collections.abc import Iterable, Mapping, Sequence
from itertools import compress
from typing import Any

from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.collector import uncollected
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.context import Context
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.filters.base import Rejection
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
    weighers = weighers_for(context)
    fleet = context.hosts
    found = [(item, item.rejections(fleet) if item.applies() else {}) for item in filters_for(context)]
    reasons = _by_row(len(fleet), [refused for _item, refused in found])
    rejected = dict(compress(zip(fleet.names, reasons), reasons))
    seed = _seed(context.options)
    ranked = _ordered(weigh(fleet, [row for row, against in enumerate(reasons) if not against], weighers), context, seed)
    alternates = [item["host"] for item in ranked[1 : context.options.max_attempts]]
    suggestions = [] if ranked else suggest(context, rejected)
    return {
        "selected": ranked[0]["host"] if ranked else None,
        "alternates": alternates,
        "ranked": ranked,
        "rejected": rejected,
        "seed": seed,
        "suggestions": suggestions,
        "message": describe(context, found, weighers, ranked, alternates, rejected, [item["text"] for item in suggestions]),
    }


def _by_row(rows: int, found: Iterable[Mapping[int, Rejection]]) -> list[list[Rejection] | None]:
    """Every reason against every host, in the order of the filters; None where there is none."""
    reasons: list[list[Rejection] | None] = [None] * rows
    for refused in found:
        for row, reason in refused.items():
            against = reasons[row]
            if against is None:
                reasons[row] = [reason]
            else:
                against.append(reason)
    return reasons


def _seed(options: Options) -> int | str | None:
    """What a draw starts from, also where the caller left that open: a decision can be made again. None where nothing is drawn."""
    if not options.shuffle_best_same_weighed_hosts and options.host_subset_size == 1:
        return None
    return secrets.randbits(32) if options.shuffle_seed is None else options.shuffle_seed


def _ordered(weighed: Sequence[Weighed], context: Context, seed: int | str | None) -> list[Weighed]:
    """Best first: the current host if it fits, since growing in place copies nothing; else one drawn from the best, where that is configured."""
    ranked = list(weighed)
    options = context.options
    current = next((index for index, item in enumerate(ranked) if item["host"] == context.request.instance.host), None)
    if current is not None and options.prefer_same_host:
        return [ranked.pop(current), *ranked]
    draw = random.Random(seed)  # noqa: S311 (spreads load, guards nothing)
    if options.shuffle_best_same_weighed_hosts and ranked:
        best = [item for item in ranked if item["weight"] == ranked[0]["weight"]]
        ranked[: len(best)] = draw.sample(best, len(best))
    if options.host_subset_size > 1 and ranked:
        ranked.insert(0, ranked.pop(draw.randrange(min(options.host_subset_size, len(ranked)))))
    return ranked
