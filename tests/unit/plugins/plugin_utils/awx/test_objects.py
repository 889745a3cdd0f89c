# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The objects of AWX: one template for each playbook, questions that are what the playbook reads, and the rules that were measured in AWX."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from ansible_collections.kvmfleet.compute.plugins.module_utils._rules.errors import KvmfleetError
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.awx import objects, rules
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.awx.playbooks import asked
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.given import kinds, read
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.given.table import WORDS
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.validation import ValidationError

ROOT = Path(__file__).resolve().parents[5]
PLAYBOOKS = {path.stem: path.read_text(encoding="utf-8") for path in ROOT.glob("playbooks/*.yml")}
TABLES = {f"vars/{path.stem}": yaml.safe_load(path.read_text(encoding="utf-8")) for path in ROOT.glob("playbooks/vars/*.yml")}
PARSED = {**{name: yaml.safe_load(text) for name, text in PLAYBOOKS.items()}, **TABLES}
SPECS = {path.parts[-3]: yaml.safe_load(path.read_text(encoding="utf-8"))["argument_specs"] for path in ROOT.glob("roles/*/meta/argument_specs.yml")}
ROLE = ROOT / "roles/awx"
DESCRIBED = yaml.safe_load((ROLE / "files/objects.yml").read_text(encoding="utf-8"))
EXAMPLE = ROOT / "examples/awx"
WITHOUT_A_TEMPLATE = {
    "awx_setup": "It makes the templates, with credentials that no job of AWX has.",
    "begin": "It is the beginning of the others, and does nothing.",
}
FILES = [f"{name}.yml" for name in (*PLAYBOOKS, *DESCRIBED["of_the_project"])]
TEAMS = {"requesters": "r", "approvers": "a", "operators": "o"}


def made(described: Any = None, **changes: Any) -> dict[str, Any]:
    site = objects.Site(**{"name": "fleet", "organization": "org", "project": "git", "inventory": "hosts", "credential": "key", "teams": TEAMS, **changes})
    return objects.everything(site, DESCRIBED if described is None else described, PARSED, SPECS)


def survey(name: str, **changes: Any) -> dict[str, Any]:
    template = next(template for template in made(**changes)["job_templates"] if template["name"] == f"fleet {name}")
    return {question["variable"]: question for question in template["survey_spec"].get("spec", ())}


def read_by(name: str) -> set[str]:
    """The words that a playbook reads, those that its roles take from the table of its play too."""
    text = PLAYBOOKS[name]
    table = {variable: value for shared, values in TABLES.items() if f"{shared}.yml" in text for variable, value in values.items()}
    prefixes = {"plan": ("resize_", "migrate_"), "resize": ("resize_", "migrate_"), "migrate": ("migrate_",), "drain": ("fleet_",)}[name] if table else ()
    return set(re.findall(r"lookup\('kvmfleet\.compute\.asked', '(\w+)'", "".join((text, *(table[key] for key in table if key.startswith(prefixes))))))


# Nothing is forgotten.


def test_each_playbook_has_a_template() -> None:
    templates = {template["playbook"] for template in DESCRIBED["templates"].values()} - set(DESCRIBED["of_the_project"])
    assert templates == set(PLAYBOOKS) - set(WITHOUT_A_TEMPLATE)


def test_the_project_of_the_example_has_each_playbook() -> None:
    files = {path.stem: yaml.safe_load(path.read_text(encoding="utf-8")) for path in (EXAMPLE / "project").glob("*.yml") if path.stem != "inventory"}
    assert set(files) == (set(PLAYBOOKS) - set(WITHOUT_A_TEMPLATE)) | set(DESCRIBED["of_the_project"])
    for name in set(files) - set(DESCRIBED["of_the_project"]):
        (play,) = files[name]
        assert play["ansible.builtin.import_playbook"] == f"kvmfleet.compute.{name}"


def test_the_project_of_the_example_asks_for_this_version() -> None:
    (collection,) = yaml.safe_load((EXAMPLE / "project/collections/requirements.yml").read_text(encoding="utf-8"))["collections"]
    assert collection == {"name": "kvmfleet.compute", "version": yaml.safe_load((ROOT / "galaxy.yml").read_text(encoding="utf-8"))["version"]}


def test_the_role_reads_the_specification_of_each_role_that_a_playbook_hands_words_to() -> None:
    known = yaml.safe_load((ROLE / "vars/main.yml").read_text(encoding="utf-8"))["__awx_roles"]
    assert {one.role for name in PLAYBOOKS for one in asked(PARSED[name], SPECS, tables=PARSED)} <= {*known, ""}


def test_each_survey_asks_for_what_its_playbook_reads() -> None:
    """All the words that stand in the playbook, whoever it hands them to, are asked for by one of its templates, or are left out by name."""
    for name in PLAYBOOKS:
        templates = {known: template for known, template in DESCRIBED["templates"].items() if template["playbook"] == name}
        if templates:
            left_out = set.intersection(*({*template.get("without", ())} for template in templates.values())) | set(DESCRIBED["never_asked"])
            assert {word for template in templates for word in survey(template)} == read_by(name) - left_out, name


def test_each_word_that_a_template_leaves_out_is_one_that_its_playbook_reads() -> None:
    for name, template in ((name, template) for name, template in DESCRIBED["templates"].items() if template["playbook"] in PLAYBOOKS):
        assert set(template.get("without", ())) | set(template.get("only", ())) <= read_by(template["playbook"]), name
    assert set(DESCRIBED["never_asked"]) <= set(WORDS)


@pytest.mark.parametrize(
    ("tasks", "kind"),
    [
        ("organization", None),
        ("notification_template", "notification_templates"),
        ("job_template", "job_templates"),
        ("workflow_job_template", "workflows"),
        ("schedule", "schedules"),
        ("team", "teams"),
        ("role", "grants"),
    ],
)
def test_the_role_hands_on_each_parameter(tasks: str, kind: str | None) -> None:
    """A parameter that the pure code makes and the task does not name would be lost without a word."""
    loaded = yaml.safe_load((ROLE / "tasks/objects/present.yml").read_text(encoding="utf-8"))
    task = next(task for task in loaded if f"awx.awx.{tasks}" in task)
    if kind:
        named = set(re.findall(r"item\.(\w+)", str(task[f"awx.awx.{tasks}"])))
        everything = made(notification={"configuration": {"url": "https://example.com"}}, execution_environment="ee", instance_groups=["near"])
        assert named == {key for item in everything[kind] for key in item}
        assert task["loop"] == f"{{{{ __awx_now.{kind} }}}}"


def test_numbers_are_numbers_whatever_a_template_has_made_of_them() -> None:
    """Before ansible-core 2.19 they come as text."""
    text, numbers = made(forks="5", approval_timeout="60"), made(forks=5, approval_timeout=60)
    assert text == numbers
    assert [node["approval_node"]["timeout"] for node in text["workflow_nodes"] if "approval_node" in node][0] == 60


# Questions.


def test_a_question_is_what_the_specification_and_the_reader_say() -> None:
    asked_for = survey("resize", flavors=["small", "large"], zones=["north"])
    assert asked_for["instance"] == {
        "question_name": "Instance",
        "question_description": "Name or UUID of the instance.",
        "variable": "instance",
        "required": True,
        "type": "text",
        "min": 1,
        "max": 128,
    }
    assert (asked_for["flavor"]["type"], asked_for["flavor"]["choices"], asked_for["flavor"]["required"]) == ("multiplechoice", ["small", "large"], True)
    assert (asked_for["zone"]["choices"], asked_for["zone"]["required"], "default" in asked_for["zone"]) == (["north", "any"], False, False)
    assert (asked_for["allow_resize_to_same_host"]["choices"], asked_for["allow_resize_to_same_host"]["default"]) == (["true", "false"], "true")
    assert (asked_for["on_shutdown_timeout"]["choices"], asked_for["on_shutdown_timeout"]["default"]) == (["fail", "destroy"], "fail")
    assert (asked_for["facts_max_age"]["type"], asked_for["facts_max_age"]["default"]) == ("float", 0)
    assert (asked_for["reason"]["type"], asked_for["reason"]["default"]) == ("textarea", "")


def test_a_flavor_that_nobody_listed_is_typed() -> None:
    assert survey("resize")["flavor"]["type"] == "text"
    assert survey("resize")["zone"] | {"question_description": ""} == survey("migrate")["zone"] | {"question_description": ""}


def test_what_the_job_before_says_is_not_required() -> None:
    assert survey("confirm")["instance"]["required"] is False
    assert "Blank, it is that of the job before" in survey("confirm")["instance"]["question_description"]
    assert survey("confirm")["instance"]["default"] == ""


def test_a_number_without_a_default_has_no_key_for_one() -> None:
    assert "default" not in survey("forget history")["older_than"]


@pytest.mark.parametrize("template", DESCRIBED["templates"])
def test_what_awx_answers_for_somebody_who_does_not_is_the_default(template: str) -> None:
    """AWX puts the default of a question in where it is not answered; a playbook must read that as if nothing had been given."""
    for word, question in survey(template, flavors=["small"], zones=["north"]).items():
        if "default" in question:
            assert read.asked(word, question["default"], None) == kinds.plain(WORDS[word].default), word


@pytest.mark.parametrize("template", DESCRIBED["templates"])
def test_each_choice_and_limit_is_one_that_the_playbook_takes(template: str) -> None:
    for word, question in survey(template, flavors=["small"], zones=["north"]).items():
        for choice in question.get("choices", ()):
            read.asked(word, choice, None)
        if question["type"] == "float":
            assert read.asked(word, question["min"], None) == 0


@pytest.mark.parametrize("template", DESCRIBED["templates"])
def test_no_markup_reaches_a_person(template: str) -> None:
    for question in survey(template).values():
        assert not re.search(r"[A-Z]\(|\b(fleet|gather|migrate|resize|settle)_", question["question_description"])
        assert question["question_description"].endswith((".", ")"))


def test_a_word_of_an_unknown_option_is_an_error() -> None:
    tasks = [{"ansible.builtin.include_role": {"name": "kvmfleet.compute.none"}, "vars": {"x": "{{ lookup('kvmfleet.compute.asked', 'nonsense') }}"}}]
    with pytest.raises(ValidationError, match="argument_specs.x"):
        asked([{"hosts": "localhost", "tasks": tasks}], SPECS)


def test_words_are_found_in_blocks_and_where_a_play_keeps_them() -> None:
    tasks = [{"block": [{"ansible.builtin.debug": {}, "vars": {"x": "{{ lookup('kvmfleet.compute.asked', 'facts_max_age') }}"}}]}]
    (one,) = asked([{"hosts": "localhost", "tasks": tasks}], SPECS)
    assert (one.word, one.role, one.required) == ("facts_max_age", "", False)


def test_a_role_takes_of_the_table_of_its_play_what_are_options_of_it() -> None:
    taken = {name: {one.word for one in asked(PARSED[name], SPECS, tables=PARSED)} for name in ("resize", "migrate")}
    assert taken["resize"] - taken["migrate"] == {word for word in taken["resize"] if f"migrate_{word}" not in TABLES["vars/asked"]}
    assert "flavor" in taken["resize"]
    assert taken["migrate"] < taken["resize"]


def test_a_word_is_required_where_one_of_the_roles_requires_it() -> None:
    assert survey("plan resize")["flavor"]["required"]
    assert "flavor" not in survey("plan migrate")


# Rules.


def broken(change: Callable[[dict[str, Any]], Any], **site: Any) -> str:
    described = copy.deepcopy(DESCRIBED)
    change(described)
    with pytest.raises(KvmfleetError) as error:
        made(described, **site)
    return str(error.value)


@pytest.mark.parametrize("prompt", ["limit", "tags", "skip_tags", "variables", "inventory", "job_slice_count", "scm_branch"])
def test_no_template_asks_for_what_would_narrow_a_run(prompt: str) -> None:
    assert not any(template[f"ask_{prompt}_on_launch"] for template in made()["job_templates"])
    said = broken(lambda described: described["templates"]["resize"]["prompts"].append(prompt))
    assert f"job template fleet resize: ask_{prompt}_on_launch must not be set" in said


def test_no_template_is_sliced() -> None:
    everything = made()
    assert {template["job_slice_count"] for template in everything["job_templates"]} == {1}
    everything["job_templates"][0]["job_slice_count"] = 2
    assert "job_slice_count must be 1" in rules.broken(everything, FILES)[0]


def test_a_template_whose_playbook_is_missing_is_refused() -> None:
    assert "its playbook resiz.yml is not in the project" in broken(lambda described: described["templates"]["resize"].update(playbook="resiz"))


@pytest.mark.parametrize(
    ("question", "problem"),
    [
        ({"type": "text", "required": True, "default": "x"}, "it has a default and is required"),
        ({"type": "float", "required": False, "default": ""}, "its default must be a number, which '' is not"),
        ({"type": "float", "required": False, "default": True}, "its default must be a number"),
        ({"type": "integer", "required": False, "default": 1.5}, "its default must be a number"),
        ({"type": "integer", "required": False, "default": 5, "max": 4}, "its default must be at most 4"),
        ({"type": "integer", "required": False, "default": 5, "min": 6}, "its default must be at least 6"),
        ({"type": "text", "required": False, "default": 5}, "its default must be a text"),
        ({"type": "text", "required": False, "default": "abc", "max": 2}, "its default must be at most 2 long"),
        ({"type": "multiplechoice", "required": False, "choices": [True, False]}, "its choices must be texts of one line"),
        ({"type": "multiplechoice", "required": False, "choices": []}, "its choices must be texts of one line"),
        ({"type": "multiplechoice", "required": False, "choices": ["a\nb"]}, "its choices must be texts of one line"),
        ({"type": "multiplechoice", "required": False, "choices": ["true"], "default": True}, "its default must be a text"),
        ({"type": "multiplechoice", "required": False, "choices": ["true"], "default": ""}, "its default must be one of true"),
        ({"type": "boolean", "required": False}, "its type must be one of"),
        ({"type": "integer", "required": False, "max": 1.5}, "max must be a whole number"),
    ],
)
def test_a_question_that_awx_trips_over_is_refused(question: dict[str, Any], problem: str) -> None:
    everything = made()
    everything["job_templates"][1]["survey_spec"]["spec"] = [{"variable": "instance", **question}]
    assert f"job template {everything['job_templates'][1]['name']}: question instance: {problem}" in "\n".join(rules.broken(everything, FILES))


def test_two_questions_for_one_variable_are_refused() -> None:
    everything = made()
    everything["job_templates"][1]["survey_spec"]["spec"] *= 2
    assert "two questions ask for instance" in rules.broken(everything, FILES)[0]


@pytest.mark.parametrize(
    ("answers", "problem"),
    [
        ({"older_than": "30"}, "its answer to older_than must be a number, which '30' is not"),
        ({"older": 30}, "it answers older, which nobody asks for"),
        ({"older_than": -1}, "its answer to older_than must be at least 0"),
    ],
)
def test_a_schedule_whose_answers_awx_refuses_is_refused(answers: dict[str, Any], problem: str) -> None:
    assert f"schedule fleet images: {problem}" in broken(lambda _described: None, schedules={"images": {"answers": answers}})


def test_a_schedule_answers_what_is_required() -> None:
    said = broken(lambda described: described["schedules"].update(move={"template": "resize", "every": "FREQ=DAILY;INTERVAL=1", "enabled": True}))
    assert "schedule fleet move: it has no answer to instance, which is required" in said


def test_an_approval_has_a_way_for_no() -> None:
    said = broken(lambda described: described["workflows"]["resize with approval"]["nodes"]["keep"].pop("failure"))
    assert "node keep: an approval needs a node for yes and one for no or no answer" in said


def test_a_workflow_answers_what_its_templates_require() -> None:
    said = broken(lambda described: described["workflows"]["resize with approval"].update(survey_of="migrate"))
    assert "workflow fleet resize with approval: node move: nobody answers flavor" in said


@pytest.mark.parametrize("word", ["lost_host", "migration_uuid"])
def test_no_workflow_asks_for_what_would_reach_each_node(word: str) -> None:
    for workflow in made()["workflows"]:
        assert word not in {question["variable"] for question in workflow["survey_spec"]["spec"]}
    assert f"it asks for {word}, which would reach each of its nodes" in broken(
        lambda described: described["workflows"]["resize with approval"].update(survey_of="confirm")
    )


def test_a_workflow_goes_on_only_to_nodes_and_templates_that_there_are() -> None:
    def change(described: dict[str, Any]) -> None:
        nodes = described["workflows"]["migrate with approval"]["nodes"]
        nodes["plan"]["success"] = ["nowhere"]
        nodes["confirm"] = {"template": "confirmation"}

    said = broken(change)
    assert "node plan: there is no node nowhere to go on with" in said
    assert "node confirm: there is no job template fleet confirmation" in said


def test_a_move_that_fails_or_is_cancelled_is_recovered_and_a_denied_one_reverted() -> None:
    links = {(link["workflow_job_template"], link["identifier"]): link for link in made()["workflow_links"]}
    for workflow in DESCRIBED["workflows"]:
        assert links[f"fleet {workflow}", "plan"]["success_nodes"] == ["move"]
        assert (links[f"fleet {workflow}", "move"]["success_nodes"], links[f"fleet {workflow}", "move"]["failure_nodes"]) == (["keep"], ["recover"])
        assert links[f"fleet {workflow}", "recover"]["always_nodes"] == ["failed"]  # else AWX would call it successful: its failure was dealt with
        assert (links[f"fleet {workflow}", "keep"]["success_nodes"], links[f"fleet {workflow}", "keep"]["failure_nodes"]) == (["confirm"], ["revert"])


def test_nobody_but_operators_goes_round_the_approval() -> None:
    for grant in made()["grants"]:
        if grant["role"] == "execute" and grant["team"] != "o":
            assert not {f"fleet {name}" for name in ("resize", "migrate", "confirm", "revert", "recover")} & set(grant["job_templates"])
        if grant["role"] == "approval":
            assert grant["team"] != "r"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"schedules": {"image": {"enabled": True}}}, r"awx_schedules\.image: expected one of .* \(did you mean 'images'\?\)"),
        ({"schedules": {"images": {"enable": True}}}, r"awx_schedules\.images\.enable: expected one of .* \(did you mean 'enabled'\?\)"),
        ({"teams": {"approver": "x"}}, r"awx_teams\.approver: expected one of .* \(did you mean 'approvers'\?\)"),
        ({"notification": {"config": {}}}, r"awx_notification\.config: expected one of"),
        ({"notification": {"type": "email"}}, r"awx_notification\.configuration: expected"),
    ],
)
def test_what_a_site_misspelt_is_named(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        made(**changes)


def test_no_message_reaches_into_an_artifact() -> None:
    """AWX answers "Field unavailable" to that, and refuses a line feed in the line of a message."""
    for kind in ("webhook", "email", "slack"):
        (notification,) = made(notification={"type": kind, "configuration": {"url": "https://example.com"}})["notification_templates"]
        for event in ("error", "workflow_approval"):
            parts = notification["messages"][event]
            for message in [parts] if "message" in parts else filter(None, parts.values()):
                assert not re.search(r"artifacts\.", str(message))
                assert "\n" not in message["message"]
