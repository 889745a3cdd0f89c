# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What was measured in AWX 24: objects that it refuses, or takes and then trips over.

A limit, tags or a slice would let a job decide with a part of the fleet, or do nothing and end well. Prompted variables would let anybody who may start
a template give any variable. A required question is not answered by its default. A number of a survey is a number, a choice a text.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

PROMPTS = ("job_type", "diff_mode", "verbosity")
"""What a template may ask at its launch, beside its survey."""

_TYPES: Mapping[str, tuple[type, ...]] = {
    "text": (str,),
    "textarea": (str,),
    "password": (str,),
    "multiplechoice": (str,),
    "integer": (int,),
    "float": (float, int),
}


def broken(objects: Mapping[str, Any], playbooks: Sequence[str]) -> list[str]:
    """A sentence for each rule that the objects break.

    :param objects: what `objects.everything` makes; :param playbooks: the files of the project.
    """
    return [
        *(f"job template {template['name']}: {problem}" for template in objects["job_templates"] for problem in _of_a_template(template, playbooks)),
        *(f"workflow {workflow['name']}: {problem}" for workflow in objects["workflows"] for problem in _of_a_workflow(workflow, objects)),
        *(f"schedule {schedule['name']}: {problem}" for schedule in objects["schedules"] for problem in _of_a_schedule(schedule, objects)),
    ]


def _of_a_template(template: Mapping[str, Any], playbooks: Sequence[str]) -> Iterator[str]:
    if template["playbook"] not in playbooks:
        yield f"its playbook {template['playbook']} is not in the project, so AWX takes no such template"
    if template["job_slice_count"] != 1:
        yield "job_slice_count must be 1: each slice would decide with a part of the fleet"
    yield from _prompts(template)
    yield from _of_a_survey(template["survey_spec"])


def _prompts(template: Mapping[str, Any]) -> Iterator[str]:
    for key, value in template.items():
        if key.startswith("ask_") and value and key not in [f"ask_{prompt}_on_launch" for prompt in PROMPTS]:
            yield f"{key} must not be set: only {', '.join(PROMPTS)} may be asked for"


def _of_a_survey(survey: Mapping[str, Any]) -> Iterator[str]:
    seen = set()
    for question in survey.get("spec", ()):
        variable = question["variable"]
        if variable in seen:
            yield f"two questions ask for {variable}"
        seen.add(variable)
        yield from (f"question {variable}: {problem}" for problem in _of_a_question(question))


def _of_a_question(question: Mapping[str, Any]) -> Iterator[str]:
    if question["type"] not in _TYPES:
        yield f"its type must be one of {', '.join(_TYPES)}"
        return
    for limit in ("min", "max"):
        if not isinstance(question.get(limit, 0), int):
            yield f"{limit} must be a whole number"
    if question["type"] == "multiplechoice" and not (
        question.get("choices") and all(isinstance(choice, str) and choice.strip() and "\n" not in choice for choice in question["choices"])
    ):
        yield "its choices must be texts of one line each, since AWX has no other ones"
    if "default" in question:
        if question["required"]:
            yield "it has a default and is required: AWX refuses whoever leaves that to the default"
        problem = refused(question, question["default"])
        if problem:
            yield f"its default {problem}"


def refused(question: Mapping[str, Any], answer: Any) -> str:
    """Why AWX refuses an answer; "" where it does not."""
    kind = question["type"]
    if isinstance(answer, bool) or not isinstance(answer, _TYPES[kind]):
        return f"must be {'a number' if kind in ('integer', 'float') else 'a text'}, which {answer!r} is not"
    least, most = question.get("min"), question.get("max")
    size = len(answer) if isinstance(answer, str) else answer
    if kind == "multiplechoice":
        return "" if answer in question["choices"] else f"must be one of {', '.join(question['choices'])}, which {answer!r} is not"
    if least is not None and size < least and (answer != "" or question["required"]):
        return f"must be at least {least}{' long' if isinstance(answer, str) else ''}"
    if most is not None and size > most:
        return f"must be at most {most}{' long' if isinstance(answer, str) else ''}"
    return ""


def _of_answers(answers: Mapping[str, Any], survey: Mapping[str, Any]) -> Iterator[str]:
    questions = {question["variable"]: question for question in survey.get("spec", ())}
    for variable, answer in answers.items():
        if variable not in questions:
            yield f"it answers {variable}, which nobody asks for, so AWX refuses it"
        elif refused(questions[variable], answer):
            yield f"its answer to {variable} {refused(questions[variable], answer)}"
    for variable, question in questions.items():
        if question["required"] and variable not in answers:
            yield f"it has no answer to {variable}, which is required"


def _of_a_schedule(schedule: Mapping[str, Any], objects: Mapping[str, Any]) -> Iterator[str]:
    for template in objects["job_templates"]:
        if template["name"] == schedule["unified_job_template"]:
            yield from _of_answers(schedule["extra_data"], template["survey_spec"])
            return
    yield f"there is no job template {schedule['unified_job_template']}"


def _of_a_workflow(workflow: Mapping[str, Any], objects: Mapping[str, Any]) -> Iterator[str]:
    yield from _prompts(workflow)
    yield from _of_a_survey(workflow["survey_spec"])
    asked = {question["variable"] for question in workflow["survey_spec"].get("spec", ())}
    for word in ("lost_host", "migration_uuid"):
        if word in asked:
            yield f"it asks for {word}, which would reach each of its nodes"
    templates = {template["name"]: template for template in objects["job_templates"]}
    nodes = {node["identifier"]: node for node in objects["workflow_nodes"] if node["workflow_job_template"] == workflow["name"]}
    links = {link["identifier"]: link for link in objects["workflow_links"] if link["workflow_job_template"] == workflow["name"]}
    for identifier, node in nodes.items():
        leads_to = links.get(identifier, {})
        if "approval_node" in node:
            if not (leads_to.get("success_nodes") and leads_to.get("failure_nodes")):
                yield f"node {identifier}: an approval needs a node for yes and one for no or no answer"
        elif node["unified_job_template"] not in templates:
            yield f"node {identifier}: there is no job template {node['unified_job_template']}"
        else:
            for question in templates[node["unified_job_template"]]["survey_spec"].get("spec", ()):
                if question["required"] and question["variable"] not in asked:
                    yield f"node {identifier}: nobody answers {question['variable']}, which its template requires"
    for identifier, link in links.items():
        for other in (*link.get("success_nodes", ()), *link.get("failure_nodes", ()), *link.get("always_nodes", ())):
            if other not in nodes:
                yield f"node {identifier}: there is no node {other} to go on with"
