# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whether a run of a playbook is a whole one. What a limit, tags or a slice of the inventory leave of one would end well and have done nothing."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from ansible_collections.kvmfleet.compute.plugins.module_utils._rules.errors import KvmfleetError
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.planning.fleet import NO_FLEET

_UNTAGGED = frozenset({"untagged"})


@dataclass(frozen=True)
class Asked:
    """What Ansible was told to leave out.

    :param limit: `--limit`, None where there is none; :param left: all hosts that it leaves; :param fleet: the hosts of group compute, None where
        the playbook is not about them.
    :param tags: `--tags`; :param skip_tags: `--skip-tags`; :param own_tags: those that a playbook which imports this one gave to it.
    :param expected: how many hosts the fleet has, None where nobody says.
    """

    limit: str | None = None
    left: Collection[str] = ()
    fleet: Collection[str] | None = ()
    tags: Collection[str] = ("all",)
    skip_tags: Collection[str] = ()
    own_tags: Collection[str] = ()
    expected: int | None = None


def is_meant(asked: Asked) -> bool:
    """Whether the playbook shall run: one that was given tags when it was imported is left out by whoever asks for others."""
    return not asked.own_tags or _tasks_run(asked)


def require_whole(asked: Asked) -> None:
    """Refuse a run that is meant and leaves something out.

    :raises KvmfleetError: `no_compute_hosts`, `narrowed_run`.
    """
    fleet = sorted(asked.fleet or ())
    if not fleet and asked.fleet is not None:
        raise KvmfleetError("no_compute_hosts", NO_FLEET)
    if not _tasks_run(asked):
        given = (("tags", "" if "all" in asked.tags else ", ".join(sorted(asked.tags))), ("skipped tags", ", ".join(sorted(asked.skip_tags))))
        told = [f"{name} ({tags})" for name, tags in given if tags]
        raise KvmfleetError(
            "narrowed_run",
            f"The {' and '.join(told)} of this run leave out what it is for. Nothing was done. No part of this playbook can run alone: run it without tags. "
            "What would be done is shown by plan and by --check; what was interrupted is ended by recover.",
            tags=sorted(asked.tags),
            skip_tags=sorted(asked.skip_tags),
        )
    left_out = [] if asked.limit is None else [name for name in ("localhost", *fleet) if name not in asked.left]
    if left_out:
        raise KvmfleetError(
            "narrowed_run",
            f"The limit {asked.limit!r} of this run leaves out {_some(left_out)}. Nothing was done. Run it without --limit: a host is chosen by target_host, "
            "hosts are narrowed by zone and ignore_hosts.",
            limit=asked.limit,
            left_out=left_out,
        )
    if asked.expected is not None and len(fleet) < asked.expected:
        raise KvmfleetError(
            "narrowed_run",
            f"The group compute has {len(fleet)} hosts in this run ({_some(fleet)}), and kvmfleet_hosts_expected is {asked.expected}. "
            "Nothing was done. A slice of a job sees a part of the fleet: let its template have one slice (job_slice_count 1). If a host has gone for good, "
            "correct kvmfleet_hosts_expected.",
            hosts=fleet,
            expected=asked.expected,
        )


def _tasks_run(asked: Asked) -> bool:
    """Whether a task without tags of its own runs, by the rules of Ansible (`Taggable.evaluate_tags`)."""
    own, only, skipped = frozenset(asked.own_tags) or _UNTAGGED, frozenset(asked.tags), frozenset(asked.skip_tags)
    tagged, never = own != _UNTAGGED, "never" in own
    wanted = "always" in own or bool(own & only) or (not never and ("all" in only or ("tagged" in only and tagged)))
    if "all" in skipped:
        return wanted and "always" in own and "always" not in skipped
    return wanted and not own & skipped and not ("tagged" in skipped and tagged)


def _some(names: Iterable[str], limit: int = 10) -> str:
    """Names for a sentence, the first of many."""
    told = list(names)
    return ", ".join(told[:limit]) + (f" and {len(told) - limit} more" if len(told) > limit else "")
