# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Decisions kept with the facts that they were made from, made again later, and asked what if."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.select import select_destinations
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.validation import ValidationError, known_mapping, mapping, sequence

SCHEMA_VERSION = 1
SHOWN = ("selected", "alternates", "message")
_KEYS = ("schema_version", "hosts", "request", "scheduler", "answer", "answer_sha256")


def record(hosts: object, request: object, scheduler: object, answer: Mapping[str, Any]) -> dict[str, Any]:
    """A decision with all that it was made from; the answer is kept as its fingerprint and what people read of it.

    A planner that asked the scheduler may have put its `request` into the answer.
    """
    answer = {key: value for key, value in answer.items() if key != "request"}
    return {
        "schema_version": SCHEMA_VERSION,
        "hosts": hosts,
        "request": request,
        "scheduler": {**mapping("scheduler", scheduler), **({"shuffle_seed": answer["seed"]} if answer.get("seed") is not None else {})},
        "answer": {key: answer[key] for key in SHOWN},
        "answer_sha256": fingerprint(answer),
    }


def fingerprint(answer: Mapping[str, Any]) -> str:
    """What two answers have in common only if they are the same to the last bit."""
    return hashlib.sha256(json.dumps(answer, sort_keys=True).encode()).hexdigest()


def compact(value: object) -> str:
    """JSON without blanks, in the order given: weights are summed up in the order of the weighers."""
    return json.dumps(value, separators=(",", ":"))


class Decision:
    """A decision that was saved.

    :raises ValidationError: this is no saved decision, or one of a newer schema.
    """

    def __init__(self, saved: object) -> None:
        given = known_mapping("decision", saved, _KEYS)
        if given.get("schema_version") != SCHEMA_VERSION:
            raise ValidationError("decision.schema_version", given.get("schema_version"), str(SCHEMA_VERSION))
        for key in _KEYS:
            if key not in given:
                raise ValidationError(f"decision.{key}", None, "all that a decision is saved with")
        self.hosts: Sequence[Mapping[str, Any]] = sequence("decision.hosts", given["hosts"])
        self.request = given["request"]
        self.scheduler = mapping("decision.scheduler", given["scheduler"])
        self.answer = mapping("decision.answer", given["answer"])
        self.answer_sha256 = given["answer_sha256"]

    def replay(self) -> tuple[dict[str, Any], bool]:
        """The decision made again, and whether it is the same to the last bit."""
        answer = select_destinations(self.hosts, self.request, self.scheduler)
        return answer, fingerprint(answer) == self.answer_sha256

    def what_if(
        self, scheduler: Mapping[str, Any], request: Mapping[str, Any], without: Sequence[str], more: Sequence[Mapping[str, Any]]
    ) -> tuple[list[Mapping[str, Any]], Mapping[str, Any], Mapping[str, Any]]:
        """The three arguments of another decision: other options, another request, hosts less and hosts more."""
        names = [host.get("host") for host in self.hosts]
        for name in without:
            if name not in names:
                raise ValidationError.not_one_of("without", name, names)
        hosts = [host for host in self.hosts if host.get("host") not in without]
        return [*hosts, *more], {**self.request, **request}, {**self.scheduler, **scheduler}

    def twin(self, name: str, twin: str) -> dict[str, Any]:
        """A new host like one that is there, without guests."""
        like = next((host for host in self.hosts if host.get("host") == name), None)
        if like is None:
            raise ValidationError.not_one_of("with", name, [str(host.get("host")) for host in self.hosts])
        reserved = mapping("reserved", like.get("reserved"))
        empty = {
            "host": twin,
            "vcpus_used": reserved.get("vcpus", 0),
            "memory_mb_used": reserved.get("memory_mb", 0),
            "local_gb_used": reserved.get("disk_mb", 0) / 1024,
            "disk_available_least": None,
            "num_instances": 0,
            "num_io_ops": 0,
            "instances": [],
            "domains": [],
            "claims": [],
            "migrations": [],
        }
        return {**like, **empty}
