# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""All objects of AWX that run this collection, as parameters of the modules of awx.awx."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ansible_collections.kvmfleet.compute.plugins.module_utils._rules.errors import KvmfleetError
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.awx import messages, rules
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.awx.playbooks import asked
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.awx.questions import survey
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.validation import ValidationError

_SINCE = "DTSTART:20260101T000000Z"


@dataclass(frozen=True)
class Site:
    """What a site calls its things.

    :param name: what the name of each object starts with; :param forks: of each job; :param execution_environment: "" for that of AWX;
    :param flavors: names, none where they are not known; :param schedules: changes to the schedules, by name; :param teams: names of the teams, by what
        they are for; :param notification: `type` and `configuration`, or nothing.
    """

    name: str
    organization: str
    project: str
    inventory: str
    credential: str
    execution_environment: str = ""
    instance_groups: Sequence[str] = ()
    forks: int = 50
    flavors: Sequence[str] = ()
    zones: Sequence[str] = ()
    approval_timeout: int = 86400
    schedules: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    teams: Mapping[str, str] = field(default_factory=dict)
    notification: Mapping[str, Any] = field(default_factory=dict)

    def called(self, name: str) -> str:
        """The name of an object in AWX."""
        return f"{self.name} {name}"


def everything(site: Site, described: Mapping[str, Any], playbooks: Mapping[str, Sequence[Any]], specs: Mapping[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """The objects by kind, each kind in the order in which they are made.

    :param described: the parsed `objects.yml`; :param playbooks: the parsed playbooks that it names, and what lies beside them by `vars/NAME`;
        :param specs: parsed argument specifications, by role.
    :raises ValidationError: the site names something that is not described.
    :raises KvmfleetError: `refused_by_awx`, with a line for each object that AWX would refuse, or trip over.
    """
    templates = {name: _template(site, name, template, described, playbooks, specs) for name, template in described["templates"].items()}
    workflows = {name: _workflow(site, name, workflow, templates) for name, workflow in described["workflows"].items()}
    nodes = [(name, identifier, node) for name, workflow in described["workflows"].items() for identifier, node in workflow["nodes"].items()]
    objects = {
        "notification_templates": [_notification(site)] if site.notification else [],
        "job_templates": list(templates.values()),
        "workflows": list(workflows.values()),
        "workflow_nodes": [_node(site, *node) for node in nodes],
        "workflow_links": [link for node in nodes for link in _link(site, *node)],
        "schedules": [_schedule(site, name, schedule) for name, schedule in described["schedules"].items()],
        "teams": [{"name": site.teams[team], "description": f"{team.capitalize()} of {site.name}."} for team in described["grants"] if team in site.teams],
        "grants": [_grant(site, site.teams[team], grant, described) for team, grants in described["grants"].items() if team in site.teams for grant in grants],
    }
    for option, known in (("awx_schedules", described["schedules"]), ("awx_teams", described["grants"])):
        for name in getattr(site, option.removeprefix("awx_")):
            if name not in known:
                raise ValidationError.not_one_of(f"{option}.{name}", name, list(known))
    problems = rules.broken(objects, [f"{playbook}.yml" for playbook in (*playbooks, *described["of_the_project"]) if "/" not in playbook])
    if problems:
        raise KvmfleetError("refused_by_awx", "\n".join(problems))
    return objects


def _template(
    site: Site, name: str, template: Mapping[str, Any], described: Mapping[str, Any], playbooks: Mapping[str, Sequence[Any]], specs: Mapping[str, Any]
) -> dict[str, Any]:
    unasked = {*described["never_asked"], *template.get("without", ())}
    told = template.get("told", {})
    words = [
        replace(one, option={**one.option, "description": told[one.word]}) if one.word in told else one
        for one in asked(playbooks.get(template["playbook"], ()), specs, template.get("role", ""), playbooks)
        if one.word not in unasked and one.word in template.get("only", (one.word,))
    ]
    zones = [*site.zones, "any"] if site.zones else []
    questions = survey(name, words, {"flavor": site.flavors, "zone": zones})
    return {
        "name": site.called(name),
        "description": template["does"],
        "job_type": "run",
        "project": site.project,
        "playbook": f"{template['playbook']}.yml",
        "inventory": site.inventory,
        "credentials": [site.credential],
        **({"execution_environment": site.execution_environment} if site.execution_environment else {}),
        **({"instance_groups": list(site.instance_groups)} if site.instance_groups else {}),
        "forks": int(site.forks),
        "timeout": 0,
        "job_slice_count": 1,
        "allow_simultaneous": bool(template.get("simultaneous")),
        "use_fact_cache": bool(template.get("fact_cache")),
        **{
            f"ask_{prompt}_on_launch": prompt in template.get("prompts", ())
            for prompt in (*rules.PROMPTS, "limit", "tags", "skip_tags", "variables", "inventory", "job_slice_count", "scm_branch")
        },
        "survey_enabled": bool(questions),
        "survey_spec": questions,
        **_told(site),
    }


def _told(site: Site) -> dict[str, list[str]]:
    """Who hears of a failure."""
    return {"notification_templates_error": [site.name]} if site.notification else {}


def _workflow(site: Site, name: str, workflow: Mapping[str, Any], templates: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    return {
        "name": site.called(name),
        "description": workflow["does"],
        "allow_simultaneous": True,
        **{f"ask_{prompt}_on_launch": False for prompt in ("limit", "tags", "skip_tags", "variables", "inventory", "scm_branch")},
        "survey_enabled": True,
        "survey_spec": {**templates[workflow["survey_of"]]["survey_spec"], "name": name},
        **_told(site),
        **({"notification_templates_approvals": [site.name]} if site.notification else {}),
    }


def _node(site: Site, workflow: str, identifier: str, node: Mapping[str, Any]) -> dict[str, Any]:
    runs: dict[str, Any] = (
        {"approval_node": {"name": node["approval"], "description": node["does"], "timeout": int(site.approval_timeout)}}
        if "approval" in node
        else {"unified_job_template": site.called(node["template"])}
    )
    return {"workflow_job_template": site.called(workflow), "identifier": identifier, **runs}


def _link(site: Site, workflow: str, identifier: str, node: Mapping[str, Any]) -> list[dict[str, Any]]:
    """How it goes on after a node. Made after all nodes: awx.awx would ask an approval for its successors at an address that AWX does not have."""
    leads_to = {f"{outcome}_nodes": list(node[outcome]) for outcome in ("success", "failure", "always") if outcome in node}
    return [{"workflow_job_template": site.called(workflow), "identifier": identifier, **leads_to}] if leads_to else []


def _schedule(site: Site, name: str, schedule: Mapping[str, Any]) -> dict[str, Any]:
    changed = {**schedule, **site.schedules.get(name, {})}
    for key in changed:
        if key not in ("template", "every", "answers", "enabled"):
            raise ValidationError.not_one_of(f"awx_schedules.{name}.{key}", key, ("every", "answers", "enabled"))
    return {
        "name": site.called(name),
        "unified_job_template": site.called(schedule["template"]),
        "rrule": f"{_SINCE} RRULE:{changed['every']}",
        "extra_data": dict(changed.get("answers", {})),
        "enabled": changed["enabled"],
    }


def _notification(site: Site) -> dict[str, Any]:
    for key in site.notification:
        if key not in ("type", "configuration"):
            raise ValidationError.not_one_of(f"awx_notification.{key}", key, ("type", "configuration"))
    kind, configuration = site.notification.get("type", "webhook"), site.notification.get("configuration")
    if not isinstance(configuration, dict):
        raise ValidationError("awx_notification.configuration", configuration, "what AWX takes for a notification of that type, such as url")
    return {
        "name": site.name,
        "description": f"Failures and approvals of {site.name}.",
        "notification_type": kind,
        "notification_configuration": {**messages.CONFIGURED.get(kind, {}), **configuration},
        "messages": messages.written(kind),
    }


def _grant(site: Site, team: str, grant: Mapping[str, Any], described: Mapping[str, Any]) -> dict[str, Any]:
    """What a team may do with which objects."""
    named = {}
    for kind, parameter in (("templates", "job_templates"), ("workflows", "workflows")):
        names = described[kind] if grant.get(kind) == "all" else grant.get(kind, ())
        if names:
            named[parameter] = [site.called(name) for name in names]
    return {"team": team, "role": grant["role"], **named}
