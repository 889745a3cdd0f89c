# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""`kvmfleet_error`: whatever a task or a role says, for programs and for people."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ansible_collections.kvmfleet.compute.plugins.plugin_utils.artifacts import error
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.artifacts.wrapped import WIDTH


class Unsafe(str):
    """As Ansible marks what it does not trust."""


def types(value: Any) -> set[type]:
    items = [*value.keys(), *value.values()] if isinstance(value, dict) else value if isinstance(value, list) else []
    return {type(value)}.union(*map(types, items))


def test_a_module_that_fails_is_told_with_its_code() -> None:
    told = error.error({"msg": "web1.qcow2 is not there.", "error_code": "image_missing", "details": {"path": "/x", "need": 3}}, "Plan | Read", begun=False)
    assert told == {
        "code": "image_missing",
        "message": "web1.qcow2 is not there.",
        "instance": "",
        "guest_is": "as before: nothing was changed",
        "hosts": {},
        "details": {"path": "/x", "need": 3},
    }


def test_a_task_that_fails_without_a_code_is_named() -> None:
    told = error.error({"failed": True, "msg": "MODULE FAILURE"}, "Plan | Read", begun=True)
    assert (told["code"], told["message"]) == ("module_failed", "Plan | Read: MODULE FAILURE")
    assert "status" in told["guest_is"]
    assert error.error({"unreachable": True, "msg": "no route"}, "T")["code"] == "host_unreachable"


def test_the_items_of_a_loop_are_told_once_each() -> None:
    failed = {"failed": True, "msg": "no room", "error_code": "no_space"}
    told = error.error({"results": [{"msg": "fine"}, failed, failed, {**failed, "msg": "none here"}]}, "T")
    assert (told["code"], told["message"]) == ("no_space", "no room; none here")


def test_the_reasons_of_each_host_are_told_and_not_all_that_placement_knows() -> None:
    rejected = {"kvm1": [{"filter": "RamFilter", "code": "ram", "reason": "needs 9000 MB, 400 MB left", "need": 9000, "have": 400}]}
    placement = {"rejected": rejected, "request": {"x": "y" * 9000}}
    refusal = {"code": "no_valid_host", "message": "No host.\n  kvm1: RamFilter", "details": {"placement": placement}}
    told = error.error({"msg": "No host."}, "Refuse | End here", refusal, instance="web1")
    assert told["hosts"] == {"kvm1": ["RamFilter: needs 9000 MB, 400 MB left"]}
    assert told["details"] == {}
    assert error.lines(told) == ["No host.", "  kvm1: RamFilter", "web1 is as before: nothing was changed.", "Code: no_valid_host"]
    assert error.first(told) == "No host. web1 is as before: nothing was changed."


@pytest.mark.parametrize(
    "result",
    [
        {"failed": True, "_ansible_no_log": True, "msg": "secret0"},
        {"failed": True, "msg": "x", "error_code": "y", "details": {"key": "secret0", "psk_path": "/p", "proofs": {"token": "secret0"}}},
        {"failed": True, "msg": "curl https://me:secret0@store/x: refused"},
        {"failed": True, "results": [{"failed": True, "_ansible_no_log": True, "msg": "secret0"}]},
    ],
)
def test_no_secret_is_told(result: dict[str, Any]) -> None:
    told = error.error(result, "T")
    assert "secret0" not in json.dumps(told) + "".join(error.lines(told)) + error.first(told)


def test_all_of_it_is_of_plain_types_and_short_lines() -> None:
    message = Unsafe("word " * 100)
    told = error.error({"msg": message, "error_code": Unsafe("x"), "details": {Unsafe("a"): [Unsafe("b"), 1, 2.5, None, True]}}, "T", host=Unsafe("kvm1"))
    assert types(told) <= {dict, list, str, int, float, bool, type(None)}
    assert max(map(len, error.lines(told))) <= WIDTH


@pytest.mark.parametrize("result", [{}, {"msg": None}, {"msg": ["a", "b"]}, {"msg": {"a": 1}}, {"results": "no"}, {"details": "text", "msg": "x"}])
def test_whatever_a_task_says_can_be_told(result: dict[str, Any]) -> None:
    told = error.error(result, "T")
    assert error.lines(told)
    assert error.first(told)
