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


def of_an_operation(name: str, code: str = "sealed_path_taken", **more: Any) -> dict[str, Any]:
    told = error.error({}, refusal={"code": code, "message": f"{code} on kvm1\n{name} is still open.", "instance": name, "guest_is": "off", **more})
    return {**told, "migration_uuid": f"uuid-{name}"}


WAITS = {"instance_name": "db", "migration_uuid": "uuid-db", "reason": "kvm2 is unreachable"}


def test_the_only_operation_that_a_run_was_about_is_told_as_itself() -> None:
    told = error.several([of_an_operation("web")], 1)
    assert told == {key: value for key, value in of_an_operation("web").items() if key != "migration_uuid"}
    told = error.several([], 1, [WAITS])
    assert (told["code"], told["message"], told["guest_is"]) == ("has_to_wait", "db: kvm2 is unreachable", "where it was; its operation waits")


def test_every_operation_that_could_not_be_ended_is_named() -> None:
    errors = [of_an_operation("web", hosts={"kvm1": ["full"]}), of_an_operation("app", hosts={"kvm1": ["full", "broken"], "kvm2": ["away"]})]
    told = error.several(errors, "5", [WAITS])
    assert told["code"] == "not_settled"
    assert told["message"].splitlines() == [
        "3 of 5 operations could not be ended (web, app, db), and are left as they are:",
        "web: sealed_path_taken on kvm1",
        "web is still open.",
        "app: sealed_path_taken on kvm1",
        "app is still open.",
        "db: kvm2 is unreachable",
    ]
    assert (told["instance"], told["hosts"]) == ("web, app, db", {"kvm1": ["full", "broken"], "kvm2": ["away"]})
    assert told["details"]["migration_uuids"] == ["uuid-web", "uuid-app", "uuid-db"]
    assert {name: one["code"] for name, one in told["details"]["operations"].items()} == {
        "uuid-web": "sealed_path_taken",
        "uuid-app": "sealed_path_taken",
        "uuid-db": "has_to_wait",
    }
    assert told["guest_is"] == "off; where it was; its operation waits"


def test_several_that_fail_for_one_reason_have_its_code_unless_another_one_is_given() -> None:
    errors = [of_an_operation("web"), of_an_operation("app")]
    assert error.several(errors, 2)["code"] == "sealed_path_taken"
    told = error.several(errors, 3, code="not_confirmed")
    assert (told["code"], told["message"].splitlines()[0]) == (
        "not_confirmed",
        "2 of 3 operations could not be confirmed (web, app), and are left as they are:",
    )
    assert types(error.several([{**of_an_operation("web"), "migration_uuid": Unsafe("x")}, of_an_operation("app")], 2)) == {dict, str, list}


def test_a_run_about_no_guest_says_nothing_of_one() -> None:
    told = error.error({"msg": "kvm1 is not ready"}, "T", host="kvm1", no_guest=True)
    assert told["guest_is"] == "not concerned: this run is about no guest"
    assert error.lines(told) == ["T: kvm1 is not ready", "Code: module_failed"]
    assert error.first(told) == "T: kvm1 is not ready."


@pytest.mark.parametrize("name", ["keycloak1", "monkey", "token-server", "web_key1", "secretary", "passbolt"])
def test_a_guest_is_shown_whatever_its_name(name: str) -> None:
    told = error.error({"msg": "x", "error_code": "x", "details": {"guests": {name: "is off"}}})
    assert told["details"] == {"guests": {name: "is off"}}


@pytest.mark.parametrize("name", ["key", "password", "ansible_become_password", "api_token", "secret", "ssh_passphrase", "Secret_Key"])
def test_what_a_key_calls_secret_is_hidden(name: str) -> None:
    told = error.error({"msg": "x", "error_code": "x", "details": {name: "hunter2", "deep": [{name: {"value": "hunter2", "size": 3}}]}})
    assert "hunter2" not in json.dumps(told)
    assert told["details"]["deep"] == [{name: {"value": "(hidden)", "size": 3}}]
    assert error.error({"msg": "x", "error_code": "x", "details": {"secret_proofs": {"u": "hunter2"}}})["details"] == {"secret_proofs": {"u": "(hidden)"}}


def test_a_line_that_announces_others_is_said_with_the_first_of_them() -> None:
    told = error.error({}, refusal={"code": "host_not_ready", "message": "kvm1 is not ready:\nlibvirtd does not answer.\nthere is no nbdkit."}, no_guest=True)
    assert error.first(told) == "kvm1 is not ready: libvirtd does not answer."
