# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""An API on the loopback interface that answers as that of AWX 24.6 does, as far as awx.awx asks it.

It keeps objects in memory, gives lists in pages, refuses what AWX refuses with the words of AWX, and logs what is written with names in place of numbers.
What it does not know it answers with 404, 400 or 405, never with something made up.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Lock, Thread
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

VERSION = "24.6.1"
ROOT = "/api/v2/"
TOKEN = "a token of the loopback interface"  # noqa: S105
UNIFIED = ("job_templates", "workflow_job_templates", "projects", "inventory_sources")
NODES = ("success_nodes", "failure_nodes", "always_nodes")
SURVEY_TYPES: Mapping[str, tuple[type, ...]] = {
    "text": (str,),
    "textarea": (str,),
    "password": (str,),
    "multiplechoice": (str,),
    "multiselect": (str,),
    "integer": (int,),
    "float": (float, int),
}


class Refused(Exception):
    """An answer with a status of 400 or above."""

    def __init__(self, status: int, body: Any) -> None:
        super().__init__(f"{status}: {body}")
        self.status = status
        self.body = body


@dataclass(frozen=True)
class Kind:
    """One kind of object.

    :param fields: every field that can be written, with its default; :param refers: fields that are the number of another object, with its kind;
    :param associated: lists of other objects, each with their kind; :param roles: what a team can be allowed; :param needs: fields that must be given;
    :param unique: fields that no two objects have in common.
    """

    type: str
    fields: Mapping[str, Any]
    refers: Mapping[str, str] = field(default_factory=dict)
    associated: Mapping[str, str] = field(default_factory=dict)
    roles: tuple[str, ...] = ()
    needs: tuple[str, ...] = ("name",)
    unique: tuple[str, ...] = ("name", "organization")
    identity: str = "name"


_PROMPTS = dict.fromkeys((f"ask_{prompt}_on_launch" for prompt in ("limit", "tags", "skip_tags", "variables", "inventory", "scm_branch", "labels")), False)
_TOLD = dict.fromkeys(("notification_templates_started", "notification_templates_success", "notification_templates_error"), "notification_templates")
_LAUNCH = {"inventory": None, "scm_branch": "", "job_type": None, "job_tags": "", "skip_tags": "", "limit": "", "diff_mode": None, "verbosity": None}
KINDS = {
    "organizations": Kind(
        "organization",
        {"name": "", "description": "", "max_hosts": 0, "default_environment": None},
        {"default_environment": "execution_environments"},
        {**_TOLD, "notification_templates_approvals": "notification_templates", "instance_groups": "instance_groups", "galaxy_credentials": "credentials"},
        ("admin", "execute", "member", "read", "approval"),
        unique=("name",),
    ),
    "credentials": Kind("credential", {"name": "", "description": "", "organization": None, "kind": ""}, {"organization": "organizations"}),
    "instance_groups": Kind("instance_group", {"name": ""}, unique=("name",)),
    "execution_environments": Kind(
        "execution_environment",
        {"name": "", "description": "", "organization": None, "image": "", "credential": None, "pull": ""},
        {"organization": "organizations", "credential": "credentials"},
        needs=("name", "image"),
        unique=("name",),
    ),
    "projects": Kind(
        "project",
        {
            "name": "",
            "description": "",
            "organization": None,
            "local_path": "",
            "scm_type": "",
            "scm_url": "",
            "scm_branch": "",
            "scm_refspec": "",
            "scm_clean": False,
            "scm_track_submodules": False,
            "scm_delete_on_update": False,
            "scm_update_on_launch": False,
            "scm_update_cache_timeout": 0,
            "allow_override": False,
            "timeout": 0,
            "credential": None,
            "default_environment": None,
        },
        {"organization": "organizations", "credential": "credentials", "default_environment": "execution_environments"},
        _TOLD,
        ("admin", "use", "update", "read"),
    ),
    "inventories": Kind(
        "inventory",
        {"name": "", "description": "", "organization": None, "kind": "", "host_filter": None, "variables": "", "prevent_instance_group_fallback": False},
        {"organization": "organizations"},
        {"instance_groups": "instance_groups"},
        ("admin", "update", "adhoc", "use", "read"),
        needs=("name", "organization"),
    ),
    "inventory_sources": Kind(
        "inventory_source",
        {
            "name": "",
            "description": "",
            "inventory": None,
            "source": "",
            "source_path": "",
            "source_vars": "",
            "scm_branch": "",
            "credential": None,
            "enabled_var": "",
            "enabled_value": "",
            "host_filter": "",
            "overwrite": False,
            "overwrite_vars": False,
            "timeout": 0,
            "verbosity": 1,
            "limit": "",
            "source_project": None,
            "update_on_launch": False,
            "update_cache_timeout": 0,
            "execution_environment": None,
        },
        {"inventory": "inventories", "source_project": "projects", "credential": "credentials", "execution_environment": "execution_environments"},
        _TOLD,
        needs=("name", "inventory"),
        unique=("name", "inventory"),
    ),
    "notification_templates": Kind(
        "notification_template",
        {"name": "", "description": "", "organization": None, "notification_type": "", "notification_configuration": {}, "messages": None},
        {"organization": "organizations"},
        needs=("name", "organization", "notification_type"),
    ),
    "job_templates": Kind(
        "job_template",
        {
            "name": "",
            "description": "",
            "job_type": "run",
            "inventory": None,
            "project": None,
            "playbook": "",
            "scm_branch": "",
            "forks": 0,
            "limit": "",
            "verbosity": 0,
            "extra_vars": "",
            "job_tags": "",
            "force_handlers": False,
            "skip_tags": "",
            "start_at_task": "",
            "timeout": 0,
            "use_fact_cache": False,
            "execution_environment": None,
            "host_config_key": "",
            "survey_enabled": False,
            "become_enabled": False,
            "diff_mode": False,
            "allow_simultaneous": False,
            "job_slice_count": 1,
            "webhook_service": "",
            "prevent_instance_group_fallback": False,
            **_PROMPTS,
            **dict.fromkeys(
                (
                    f"ask_{prompt}_on_launch"
                    for prompt in ("diff_mode", "job_type", "verbosity", "credential", "execution_environment", "forks", "job_slice_count", "timeout")
                ),
                False,
            ),
        },
        {"inventory": "inventories", "project": "projects", "execution_environment": "execution_environments"},
        {**_TOLD, "credentials": "credentials", "instance_groups": "instance_groups"},
        ("admin", "execute", "read"),
    ),
    "workflow_job_templates": Kind(
        "workflow_job_template",
        {
            "name": "",
            "description": "",
            "extra_vars": "",
            "organization": None,
            "survey_enabled": False,
            "allow_simultaneous": False,
            "inventory": None,
            "limit": None,
            "scm_branch": None,
            "webhook_service": "",
            "job_tags": None,
            "skip_tags": None,
            **_PROMPTS,
        },
        {"organization": "organizations", "inventory": "inventories"},
        {**_TOLD, "notification_templates_approvals": "notification_templates"},
        ("admin", "execute", "read", "approval"),
    ),
    "workflow_job_template_nodes": Kind(
        "workflow_job_template_node",
        {
            "identifier": "",
            "workflow_job_template": None,
            "unified_job_template": None,
            "all_parents_must_converge": False,
            "extra_data": {},
            **_LAUNCH,
        },
        {"workflow_job_template": "workflow_job_templates", "unified_job_template": "unified_job_templates", "inventory": "inventories"},
        {**dict.fromkeys(NODES, "workflow_job_template_nodes"), "credentials": "credentials"},
        needs=("workflow_job_template",),
        unique=("workflow_job_template", "identifier"),
        identity="identifier",
    ),
    "workflow_approval_templates": Kind("workflow_approval_template", {"name": "", "description": "", "timeout": 0}, unique=("id",)),
    "schedules": Kind(
        "schedule",
        {"name": "", "description": "", "rrule": "", "unified_job_template": None, "extra_data": {}, "enabled": True, **_LAUNCH},
        {"unified_job_template": "unified_job_templates", "inventory": "inventories"},
        {"credentials": "credentials", "instance_groups": "instance_groups"},
        needs=("name", "rrule", "unified_job_template"),
        unique=("name", "unified_job_template"),
    ),
    "teams": Kind(
        "team",
        {"name": "", "description": "", "organization": None},
        {"organization": "organizations"},
        {},
        ("admin", "member", "read"),
        needs=("name", "organization"),
    ),
}
CONFIGURATIONS = {
    "webhook": {"http_method": "POST", "disable_ssl_verification": False, "username": "", "password": ""},
    "email": {"port": 25, "username": "", "password": "", "use_tls": False, "use_ssl": False, "timeout": 30},
}
CONFIGURED = {"webhook": ("url", "headers"), "email": ("host", "sender", "recipients")}


class Awx:
    """The objects, and what is said about them."""

    def __init__(self, playbooks: Path, page_size: int = 25) -> None:
        self.playbooks = playbooks
        self.page_size = page_size
        self.log: list[dict[str, Any]] = []
        self.requests: list[str] = []
        self.launched: list[tuple[str, dict[str, Any]]] = []
        self._objects: dict[int, dict[str, Any]] = {}
        self._kinds: dict[int, str] = {}
        self._lists: dict[tuple[int, str], list[int]] = {}
        self._surveys: dict[int, Any] = {}
        self._roles: dict[int, tuple[int, str]] = {}
        self._granted: dict[int, list[int]] = {}
        self._updates: dict[int, int] = {}
        self._jobs: dict[int, int] = {}
        self._last = 0

    # What tests ask.

    def seed(self, kind_of_object: str, /, **fields: Any) -> int:
        """An object that was there before; its number."""
        return self._create(kind_of_object, fields)

    def seed_survey(self, template: str, survey: Any) -> None:
        """The survey of a job template that was there before."""
        self._surveys[self._number("job_templates", template)] = survey

    def associate(self, owner: int, association: str, other: int) -> None:
        """Put one object into a list of another one."""
        self._lists.setdefault((owner, association), []).append(other)

    def names(self, kind: str) -> list[str]:
        """What the objects of a kind are called."""
        return sorted(str(self._objects[number][KINDS[kind].identity]) for number, known in self._kinds.items() if known == kind)

    def listed(self, kind: str, name: str, association: str) -> list[str]:
        """What the objects in the list of another one are called."""
        return [self._name(number) for number in self._lists.get((self._number(kind, name), association), [])]

    def allowed(self, team: str) -> set[tuple[str, str]]:
        """What a team may do with what."""
        number = self._number("teams", team)
        return {(role, self._name(owner)) for key, (owner, role) in self._roles.items() if number in self._granted.get(key, [])}

    def forget(self, kind: str, name: str) -> None:
        """Remove an object as if it had never been there."""
        self._delete(self._number(kind, name))

    def found(self, kind: str, name: str) -> dict[str, Any]:
        """The fields of an object."""
        return self._objects[self._number(kind, name)]

    def _number(self, kind: str, name: str) -> int:
        return next(number for number, known in self._kinds.items() if known == kind and self._name(number) == name)

    def _name(self, number: int) -> str:
        if number not in self._kinds:
            return f"no object {number}"
        kind = KINDS[self._kinds[number]]
        return str(self._objects[number][kind.identity])

    # What the API answers.

    def answer(self, method: str, path: str, query: dict[str, str], body: Any) -> tuple[int, Any]:
        """Status and body.

        :raises Refused: it is refused.
        """
        if not path.endswith("/"):
            raise Refused(404, {"detail": "The requested resource could not be found."})
        parts = path.removeprefix(ROOT).strip("/").split("/")
        self.requests.append(f"{method} {path}?{urlencode(query)}")
        if parts == ["ping"] and method == "GET":
            return 200, {"version": VERSION}
        if parts == ["config"] and method == "GET":
            return 200, {"version": VERSION}
        if parts == ["jobs"] and method == "GET":
            return 200, self._page([self._job(int(number)) for number in query["id__in"].split(",") if int(number) in self._jobs], path, query)
        if parts[0] == "roles" and len(parts) == 3 and parts[2] == "teams":
            return self._of_a_role(method, int(parts[1]), body, path, query)
        if parts[0] == "project_updates" and len(parts) == 2 and int(parts[1]) in self._updates:
            return 200, self._update(int(parts[1]))
        if parts[0] == "unified_job_templates" and len(parts) == 1:
            return self._list(method, UNIFIED, path, query)
        if parts[0] not in KINDS:
            raise Refused(404, {"detail": "The requested resource could not be found."})
        if len(parts) == 1:
            return self._list(method, (parts[0],), path, query) if method != "POST" else self._post(parts[0], body)
        number = int(parts[1])
        if self._kinds.get(number) != parts[0]:
            raise Refused(404, {"detail": "Not found."})
        return self._of_one(method, number, body) if len(parts) == 2 else self._below(method, number, parts[2], body, path, query)

    def _of_one(self, method: str, number: int, body: Any) -> tuple[int, Any]:
        kind = self._kinds[number]
        if method == "GET":
            return 200, self._shown(number)
        if method == "PATCH":
            self._write("PATCH", number, "", body)
            changed = {**self._objects[number], **{key: value for key, value in body.items() if key in KINDS[kind].fields}}
            self._check(kind, changed, number)
            self._objects[number] = changed
            return 200, self._shown(number)
        if method == "DELETE":
            self._write("DELETE", number, "", None)
            self._delete(number)
            return 204, None
        raise Refused(405, {"detail": f'Method "{method}" not allowed.'})

    def _post(self, kind: str, body: Any) -> tuple[int, Any]:
        named = self._readable(kind, body)
        number = self._create(kind, body)
        self.log.append({"POST": kind, "data": named})
        if kind == "projects":
            self._sync(number)
        return 201, self._shown(number)

    def _create(self, kind: str, body: Mapping[str, Any]) -> int:
        known = KINDS[kind]
        fields = {**json.loads(json.dumps(known.fields)), **{key: value for key, value in body.items() if key in known.fields}}
        missing = {key: ["This field is required."] for key in known.needs if body.get(key) in (None, "")}
        if missing:
            raise Refused(400, missing)
        if kind == "job_templates" and fields["project"] in self._kinds:
            fields["organization"] = self._objects[fields["project"]]["organization"]
        self._check(kind, fields, None)
        number = self._next()
        self._objects[number], self._kinds[number] = fields, kind
        for role in known.roles:
            self._roles[self._next()] = (number, role)
        return number

    def _next(self) -> int:
        self._last += 1
        return self._last

    def _check(self, kind: str, fields: dict[str, Any], number: int | None) -> None:
        known = KINDS[kind]
        for key, other in known.refers.items():
            if fields[key] is not None and self._kinds.get(fields[key]) not in (UNIFIED if other == "unified_job_templates" else (other,)):
                approval = kind == "workflow_job_template_nodes" and self._kinds.get(fields[key]) == "workflow_approval_templates"
                if not approval:
                    raise Refused(400, {key: [f'Invalid pk "{fields[key]}" - object does not exist.']})
        for key, default in known.fields.items():
            if isinstance(default, bool) and not isinstance(fields[key], bool):
                raise Refused(400, {key: ["Must be a valid boolean."]})
            if fields[key] is None and isinstance(default, (str, int)):
                raise Refused(400, {key: ["This field may not be null."]})
        same = [
            other
            for other, its in self._kinds.items()
            if its == kind and other != number and all(self._objects[other].get(key) == fields.get(key) for key in known.unique)
        ]
        if same and known.unique != ("id",):
            raise Refused(400, {"__all__": [f"{known.type} with this {' and '.join(known.unique)} combination already exists."]})
        getattr(self, f"_check_{known.type}", lambda _fields: None)(fields)

    def _check_job_template(self, fields: dict[str, Any]) -> None:
        if fields["project"] is None:
            raise Refused(400, {"project": ["This field is required."]})
        if fields["inventory"] is None and not fields["ask_inventory_on_launch"]:
            raise Refused(400, {"inventory": ["Job Template must provide 'inventory' or allow prompting for it."]})
        if not (self.playbooks / fields["playbook"]).is_file():
            raise Refused(400, {"playbook": ["Playbook not found for project."]})

    def _check_notification_template(self, fields: dict[str, Any]) -> None:
        kind, given = fields["notification_type"], fields["notification_configuration"]
        if kind not in CONFIGURATIONS:
            raise Refused(400, {"notification_type": [f'"{kind}" is not a valid choice.']})
        missing = [key for key in CONFIGURED[kind] if key not in given]
        if missing:
            raise Refused(400, {"notification_configuration": [f"Missing required fields for Notification Configuration: {missing}."]})
        fields["notification_configuration"] = {**CONFIGURATIONS[kind], **given}
        for event, message in (fields["messages"] or {}).items():
            if event not in ("started", "success", "error", "workflow_approval"):
                raise Refused(400, {"messages": [f"Event '{event}' invalid, must be one of 'started', 'success', 'error', or 'workflow_approval'"]})
            parts = (message or {}).values() if event == "workflow_approval" else [message]
            for part in filter(None, parts):
                if set(part) - {"message", "body"}:
                    raise Refused(400, {"messages": ["Message type invalid, must be either 'message' or 'body'"]})
                if "\n" in (part.get("message") or ""):
                    raise Refused(400, {"messages": [f"Messages cannot contain newlines, found newline in {event} event"]})
                for text in filter(None, part.values()):
                    if re.search(r"artifacts\.\w", text):
                        raise Refused(400, {"messages": ["Field unavailable"]})

    def _check_workflow_job_template_node(self, fields: dict[str, Any]) -> None:
        if fields["workflow_job_template"] is None:
            raise Refused(400, {"workflow_job_template": ["This field is required."]})

    def _check_schedule(self, fields: dict[str, Any]) -> None:
        rule = fields["rrule"]
        if not re.match(r"DTSTART(;TZID=\S+)?:\d{8}T\d{6}Z? ", rule):
            raise Refused(400, {"rrule": ["Valid DTSTART required in rrule. Value should start with: DTSTART:YYYYMMDDTHHMMSSZ"]})
        if "RRULE:FREQ=" not in rule or "INTERVAL=" not in rule:
            raise Refused(400, {"rrule": ["INTERVAL required in rrule."]})
        if "FREQ=SECONDLY" in rule:
            raise Refused(400, {"rrule": ["SECONDLY is not supported."]})
        self._check_answers(fields["unified_job_template"], fields["extra_data"])

    def _check_answers(self, template: int, answers: Mapping[str, Any]) -> None:
        questions = {question["variable"]: question for question in self._surveys.get(template, {}).get("spec", [])}
        unknown = [name for name in answers if name not in questions]
        if unknown:
            raise Refused(400, {"extra_data": [f"Variables {', '.join(unknown)} are not allowed on launch. Check the Prompt on Launch setting."]})
        problems = []
        for name, question in questions.items():
            if name not in answers:
                problems += [f"'{name}' value missing"] if question["required"] else []
            elif isinstance(answers[name], bool) or not isinstance(answers[name], SURVEY_TYPES[question["type"]]):
                problems.append(f"Value {answers[name]} for '{name}' expected to be a {question['type']}.")
            elif question["type"] == "multiplechoice" and answers[name] not in question["choices"]:
                problems.append(f"Value {answers[name]} for '{name}' expected to be one of {question['choices']}.")
        if problems:
            raise Refused(400, {"variables_needed_to_start": problems})

    def _delete(self, number: int) -> None:
        """An object and what AWX deletes with it; what else refers to it does so no more."""
        del self._objects[number], self._kinds[number]
        self._surveys.pop(number, None)
        for role, (owner, _name) in list(self._roles.items()):
            if owner == number:
                del self._roles[role]
                self._granted.pop(role, None)
        for numbers in (*self._lists.values(), *self._granted.values()):
            numbers[:] = [other for other in numbers if other != number]
        gone_with = {"schedules": ("unified_job_template",), "workflow_job_template_nodes": ("workflow_job_template",), "inventory_sources": ("inventory",)}
        for other, kind in list(self._kinds.items()):
            for key in KINDS[kind].refers:
                if other in self._objects and self._objects[other][key] == number:
                    if key in gone_with.get(kind, ()):
                        self._delete(other)
                    else:
                        self._objects[other][key] = None
        approvals = {fields["unified_job_template"] for other, fields in self._objects.items() if self._kinds[other] == "workflow_job_template_nodes"}
        for other, kind in list(self._kinds.items()):
            if kind == "workflow_approval_templates" and other not in approvals and other in self._objects:
                self._delete(other)

    def _below(self, method: str, number: int, part: str, body: Any, path: str, query: dict[str, str]) -> tuple[int, Any]:
        kind = self._kinds[number]
        if part == "survey_spec" and kind in ("job_templates", "workflow_job_templates"):
            return self._survey(method, number, body)
        if part == "launch" and kind == "job_templates" and method == "POST":
            return self._launch(number, body)
        if part == "update" and kind == "projects" and method == "POST":
            return 202, {"project_update": self._sync(number), **self._update(max(self._updates))}
        if part == "create_approval_template" and kind == "workflow_job_template_nodes" and method == "POST":
            self._write("POST", number, part, body)
            approval = self._create("workflow_approval_templates", body)
            self._objects[number]["unified_job_template"] = approval
            return 201, self._shown(approval)
        if part not in KINDS[kind].associated:
            raise Refused(404, {"detail": "The requested resource could not be found."})
        members = self._lists.setdefault((number, part), [])
        if method == "GET":
            return 200, self._page([self._shown(other) for other in members], path, query)
        self._write("POST", number, part, {**body, "id": self._name(body["id"])})
        self._associate(number, part, body, members)
        return 204, None

    def _associate(self, number: int, part: str, body: Mapping[str, Any], members: list[int]) -> None:
        other = body["id"]
        if body.get("disassociate"):
            members.remove(other)
            return
        if self._kinds.get(other) != KINDS[self._kinds[number]].associated[part]:
            raise Refused(400, {"msg": f"{part} with id {other} does not exist."})
        if part == "galaxy_credentials" and self._objects[other]["kind"] != "galaxy_api_token":
            raise Refused(400, {"msg": "Credential must be a galaxy credential"})
        if part in NODES:
            if self._objects[other]["workflow_job_template"] != self._objects[number]["workflow_job_template"]:
                raise Refused(400, {"Error": "Node belongs to another workflow."})
            if any(other in self._lists.get((number, relation), []) for relation in NODES):
                raise Refused(400, {"Error": "Relationship not allowed."})
            if number in self._reached(other):
                raise Refused(400, {"Error": "Cycle detected."})
        if other not in members:
            members.append(other)

    def _reached(self, node: int) -> set[int]:
        onward = {other for relation in NODES for other in self._lists.get((node, relation), [])}
        return {node}.union(*(self._reached(other) for other in onward))

    def _survey(self, method: str, number: int, body: Any) -> tuple[int, Any]:
        if method == "GET":
            return 200, self._surveys.get(number, {})
        if method == "DELETE":
            self._surveys.pop(number, None)
            return 200, None
        self._write("POST", number, "survey_spec", body)
        error = survey_error(body)
        if error:
            raise Refused(400, {"error": error})
        self._surveys[number] = body
        return 200, None

    def _launch(self, template: int, body: Any) -> tuple[int, Any]:
        """What is not asked for is ignored, as AWX does: a limit, and variables that are not of the survey."""
        self._check_answers(template, body.get("extra_vars", {}))
        job = self._next()
        self._jobs[job] = template
        self.launched.append((self._name(template), body.get("extra_vars", {})))
        return 201, {"job": job, "ignored_fields": {key: value for key, value in body.items() if key != "extra_vars"}, **self._job(job)}

    def _job(self, job: int) -> dict[str, Any]:
        ended = {"status": "successful", "failed": False, "created": "2026-01-01T00:00:00Z", "finished": "2026-01-01T00:00:01Z", "artifacts": {}}
        return {"id": job, "type": "job", "url": f"{ROOT}jobs/{job}/", "name": self._name(self._jobs[job]), **ended}

    def _of_a_role(self, method: str, role: int, body: Any, path: str, query: dict[str, str]) -> tuple[int, Any]:
        if role not in self._roles:
            raise Refused(404, {"detail": "Not found."})
        members = self._granted.setdefault(role, [])
        if method == "GET":
            return 200, self._page([self._shown(team) for team in members], path, query)
        owner, name = self._roles[role]
        self.log.append({"POST": f"roles/{name} of {self._kinds[owner]} {self._name(owner)}/teams", "data": {**body, "id": self._name(body["id"])}})
        members.remove(body["id"]) if body.get("disassociate") else members.append(body["id"])
        return 204, None

    def _sync(self, project: int) -> int:
        """AWX syncs a project when it is made. Without a Galaxy credential it leaves the collections out and is successful all the same."""
        update = self._next()
        self._updates[update] = project
        return update

    def _update(self, update: int) -> dict[str, Any]:
        return {
            "id": update,
            "type": "project_update",
            "url": f"{ROOT}project_updates/{update}/",
            "name": self._name(self._updates[update]),
            "status": "successful",
            "failed": False,
            "finished": "2026-01-01T00:00:00Z",
            "event_processing_finished": True,
            "scm_revision": "1" * 40,
        }

    def _list(self, method: str, kinds: tuple[str, ...], path: str, query: dict[str, str]) -> tuple[int, Any]:
        if method != "GET":
            raise Refused(405, {"detail": f'Method "{method}" not allowed.'})
        found = []
        wanted = {key: value for key, value in query.items() if key not in ("page", "page_size", "order_by")}
        for number, kind in self._kinds.items():
            if kind in kinds:
                shown = self._shown(number)
                alternatives = [key for key in wanted if key.startswith("or__")]
                for key in wanted:
                    if key.removeprefix("or__") not in shown and key.removeprefix("or__") != "organization":
                        raise Refused(400, {"detail": f"{KINDS[kind].type} has no field named '{key}'"})
                if all(str(shown.get(key)) == value for key, value in wanted.items() if key not in alternatives) and (
                    not alternatives or any(str(shown.get(key.removeprefix("or__"))) == wanted[key] for key in alternatives)
                ):
                    found.append(shown)
        return 200, self._page(found, path, query)

    def _page(self, found: list[Any], path: str, query: dict[str, str]) -> dict[str, Any]:
        page, size = int(query.get("page", 1)), int(query.get("page_size", self.page_size))
        if page > 1 and (page - 1) * size >= len(found):
            raise Refused(404, {"detail": "Invalid page."})
        following = f"{path}?{urlencode({**query, 'page': page + 1})}" if page * size < len(found) else None
        return {"count": len(found), "next": following, "previous": None, "results": found[(page - 1) * size : page * size]}

    def _shown(self, number: int) -> dict[str, Any]:
        kind = self._kinds[number]
        url = f"{ROOT}{kind}/{number}/"
        fields = self._objects[number]
        related = {name: f"{url}{name}/" for name in (*KINDS[kind].associated, "survey_spec", "update", "launch", "create_approval_template")}
        if fields.get("unified_job_template") in self._kinds:
            related["unified_job_template"] = f"{ROOT}{self._kinds[fields['unified_job_template']]}/{fields['unified_job_template']}/"
        roles = {f"{role}_role": {"id": key, "name": role} for key, (owner, role) in self._roles.items() if owner == number}
        summary: dict[str, Any] = {"object_roles": roles}
        if fields.get("organization") in self._kinds:
            summary["organization"] = {"id": fields["organization"], "name": self._name(fields["organization"])}
        shown = {"id": number, "type": KINDS[kind].type, "url": url, "related": related, "summary_fields": summary, **fields}
        if kind == "projects":
            shown["scm_revision"] = "1" * 40
        return json.loads(json.dumps(shown))

    def _write(self, method: str, number: int, part: str, body: Any) -> None:
        kind = self._kinds[number]
        where = "/".join(filter(None, (kind, self._name(number), part)))
        if kind == "workflow_job_template_nodes":
            where = f"{kind}/{self._name(self._objects[number]['workflow_job_template'])}: {where.removeprefix(kind + '/')}"
        self.log.append({method: where, **({} if body is None else {"data": self._readable(kind, body)})})

    def _readable(self, kind: str, body: Any) -> Any:
        refers = KINDS[kind].refers if isinstance(body, dict) else {}
        return {key: self._name(value) if key in refers and isinstance(value, int) else value for key, value in body.items()}


def survey_error(survey: Any) -> str | None:
    """What AWX says of a survey that it does not take."""
    for key, expected, label in (("name", str, "string"), ("description", str, "string"), ("spec", list, "list of items")):
        if key not in survey:
            return f"Field '{key}' is missing from survey spec."
        if not isinstance(survey[key], expected):
            return f"Expected {label} for field '{key}', received {type(survey[key]).__name__} type."
    if not survey["spec"]:
        return "'spec' doesn't contain any items."
    variables = set()
    for index, question in enumerate(survey["spec"]):
        for key in ("type", "question_name", "variable", "required"):
            if key not in question:
                return f"'{key}' missing from survey question {index}"
            if not isinstance(question[key], bool if key == "required" else str):
                return f"'{key}' in survey question {index} expected to be {'boolean' if key == 'required' else 'string'}."
        if question["variable"] in variables:
            return f"'variable' '{question['variable']}' duplicated in survey question {index}."
        variables.add(question["variable"])
        error = _question_error(index, question)
        if error:
            return error
    return None


def _question_error(index: int, question: Mapping[str, Any]) -> str | None:
    kind, default = question["type"], question.get("default", "")
    if kind not in SURVEY_TYPES:
        return f"'{kind}' in survey question {index} is not one of '{', '.join(SURVEY_TYPES)}' allowed question types."
    if default != "" and (isinstance(default, bool) or not isinstance(default, SURVEY_TYPES[kind])):
        return f"Default value {default} in survey question {index} expected to be {kind if kind in ('integer', 'float') else 'string'}."
    for key in ("min", "max"):
        if question.get(key) is not None and not isinstance(question[key], int):
            return f"The {key} limit in survey question {index} expected to be integer."
    if kind in ("multiplechoice", "multiselect"):
        if "choices" not in question:
            return f"Survey question {index} of type {kind} must specify choices."
        if "default" in question:
            defaults = [line for line in default.splitlines() if line.strip()]
            if kind == "multiplechoice" and len(defaults) > 1:
                return "Multiple Choice (Single Select) can only have one default value."
            if any(line not in question["choices"] for line in defaults):
                return "Default choice must be answered from the choices listed."
    return None


class _Handler(BaseHTTPRequestHandler):
    awx: Awx
    lock: Lock

    def _reply(self, status: int, body: Any) -> None:
        data = b"" if body is None else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("X-API-Product-Name", "AWX")
        self.send_header("X-API-Product-Version", VERSION)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _handle(self) -> None:
        split = urlsplit(self.path)
        size = int(self.headers.get("Content-Length") or 0)
        body = json.loads(self.rfile.read(size) or b"{}") if size else {}
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            self._reply(401, {"detail": "Authentication credentials were not provided. To establish a login session, visit /api/login/."})
            return
        try:
            with self.lock:
                status, answer = self.awx.answer(self.command, split.path, dict(parse_qsl(split.query, keep_blank_values=True)), body)
        except Refused as refused:
            status, answer = refused.status, refused.body
        self._reply(status, answer)

    do_GET = do_POST = do_PATCH = do_DELETE = _handle  # noqa: N815

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Nothing: the tests read `Awx.log`."""


@contextmanager
def serving(awx: Awx) -> Iterator[str]:
    """The API while the block runs; its URL."""
    handler = type("Handler", (_Handler,), {"awx": awx, "lock": Lock()})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
