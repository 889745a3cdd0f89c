# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.kvmfleet.compute.plugins.plugin_utils.planning import references


def reference(answer: str, kind: str, name: str, reason: str = "", element: str = "devices/x") -> dict[str, str]:
    return {"kind": kind, "name": name, "answer": answer, "reason": reason, "element": element}


FOUND = [
    reference("keep", "network", "default", "must be there"),
    reference("keep", "host_cpus", "0-1", "must be there"),
    reference("carry", "disk", "/i/web1.qcow2"),
    reference("carry", "disk", "/i/base.qcow2", "the chain is read from the image headers"),
    reference("keep", "network", "k8s", "must be there"),
    reference("keep", "network", "k8s", "must be there", "devices/y"),
    reference("carry", "nvram", "/v/web1.fd"),
]


def test_each_thing_is_there_once_and_what_is_kept_comes_last() -> None:
    assert [(answer["answer"], answer["kind"], answer["name"]) for answer in references.answers({"references": FOUND})] == [
        ("carry", "disk", "/i/web1.qcow2"),
        ("carry", "disk", "/i/base.qcow2"),
        ("carry", "nvram", "/v/web1.fd"),
        ("keep", "host_cpus", "0-1"),
        ("keep", "network", "default"),
        ("keep", "network", "k8s"),
    ]
    assert references.answers({"references": FOUND})[3] == {"kind": "host_cpus", "name": "0-1", "answer": "keep", "reason": "must be there"}


def test_people_get_a_line_for_each_kind_and_no_disks() -> None:
    assert references.lines(references.answers({"references": FOUND})) == [
        "carry nvram /v/web1.fd",
        "keep host_cpus 0-1 (must be there)",
        "keep network default, k8s (must be there)",
    ]


def test_an_answer_of_another_kind_is_shown_before_what_is_kept() -> None:
    found = references.answers({"references": [*FOUND, reference("map", "bridge", "br0", "br-lan at the destination")]})
    assert references.lines(found)[1] == "map bridge br0 (br-lan at the destination)"


@pytest.mark.parametrize("domain", [{}, {"references": []}, {"references": None}])
def test_a_guest_that_refers_to_nothing_has_no_lines(domain: dict[str, Any]) -> None:
    assert references.lines(references.answers(domain)) == []
