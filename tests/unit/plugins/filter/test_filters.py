# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The filter plugins as a playbook meets them: templated, with Ansible's lazy containers and tagged scalars."""

from __future__ import annotations

import json
from typing import Any

import pytest
from ansible.errors import AnsibleError
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar

from ansible_collections.kvmfleet.compute.plugins.filter.select_destinations import FilterModule

try:
    from ansible.template import trust_as_template
except ImportError:  # before ansible-core 2.19 every template is trusted
    trust_as_template = str

VARIABLES = """
memory: 8192
hosts:
  - {host: kvm1, availability_zone: "{{ zone }}", vcpus: 8, vcpus_used: 0, memory_mb: "{{ memory }}", memory_mb_used: 6144, local_gb: 100, local_gb_used: 0}
  - {host: kvm2, availability_zone: az1, vcpus: "8", vcpus_used: 0, memory_mb: "{{ memory | int }}", memory_mb_used: "0", local_gb: 100.5, local_gb_used: 0,
     aggregates: [{name: ssd, metadata: {ram_allocation_ratio: "{{ ratio }}", ram_weight_multiplier: "2"}}]}
  - {host: kvm3, vcpus: 8, vcpus_used: 0, memory_mb: 65536, memory_mb_used: 0, local_gb: 100, local_gb_used: 0, enabled: true, up: true}
zone: az1
ratio: "1.0"
request:
  instance: {name: web1, host: kvm1}
  flavor: {vcpus: 4, ram: "{{ 8 * 1024 }}", disk: 40, extra_specs: {"capabilities:host": "<in> kvm"}}
  image: {properties: {}}
options: {ram_allocation_ratio: "1.5", max_attempts: 2}
"""

SELECT = "hosts | kvmfleet.compute.select_destinations(request, options)"


def load() -> dict[str, Any]:
    return DataLoader().load(trust_as_template(VARIABLES))


def evaluate(expression: str, **changes: Any) -> Any:
    return Templar(loader=DataLoader(), variables={**load(), **changes}).template(trust_as_template("{{ " + expression + " }}"))


def test_decision_through_a_template():
    result = evaluate(SELECT)
    assert result["selected"] == "kvm2"
    assert [reason["code"] for reason in result["rejected"]["kvm1"]] == ["ram"]
    assert result["rejected"]["kvm3"][0]["have"] == "nova"


def types(value: Any) -> set[type]:
    items = [*value.keys(), *value.values()] if isinstance(value, dict) else value if isinstance(value, list) else []
    return {type(value)}.union(*map(types, items))


def test_result_is_made_of_plain_types_though_the_input_is_not():
    variables = load()
    templar = Templar(loader=DataLoader(), variables=variables)
    arguments = [templar.template(variables[name]) for name in ("hosts", "request", "options")]
    result = FilterModule().filters()["select_destinations"](*arguments)
    assert types(result) <= {dict, list, str, int, float, type(None)}
    assert evaluate(SELECT) == json.loads(json.dumps(result)) == result


def test_options_may_be_left_out():
    assert evaluate("hosts | kvmfleet.compute.select_destinations(request)")["selected"] == "kvm2"


def test_a_filtered_fleet_is_a_list():
    result = evaluate("hosts | rejectattr('host', 'eq', 'kvm2') | list | kvmfleet.compute.select_destinations(request)")
    assert result["selected"] is None


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"memory": "lots"}, "hosts[0].memory_mb: expected a number >= 0, got 'lots'"),
        ({"memory": float("nan")}, "hosts[0].memory_mb: expected a number >= 0, got"),
        ({"ratio": "-1"}, "hosts[1].aggregates[0].metadata.ram_allocation_ratio: expected a number > 0, got '-1'"),
        ({"zone": "az 1; reboot"}, "hosts[0].availability_zone: expected a name of 1 to 128 characters"),
        ({"hosts": "kvm1"}, "hosts: expected a list, got 'kvm1'"),
        ({"hosts": {"kvm1": {}}}, "hosts: expected a list, got {'kvm1': {}}"),
        ({"hosts": [None]}, "hosts[0]: expected a mapping, the state of one host, got nothing"),
        ({"request": None}, "request: expected a mapping with instance and flavor, got nothing"),
        ({"request": {"flavour": {}}}, "(did you mean 'flavor'?), got 'flavour'"),
        ({"options": {"enabled_filters": ["RamFliter"]}}, "scheduler.enabled_filters[0]: expected one of "),
    ],
)
def test_malformed_input_names_the_field(changes, error):
    with pytest.raises(AnsibleError) as caught:
        evaluate(SELECT, **changes)
    assert error in str(caught.value)


def test_table_through_a_template():
    table = evaluate(f"({SELECT}) | kvmfleet.compute.placement_table(hosts)")
    assert table.splitlines()[:3] == [
        "host  zone  verdict",
        "kvm2  az1   selected weight 0.00",
        "kvm1  az1   RamFilter: needs 8192 MB, 6144 MB left of 12288 MB (8192 MB x 1.5), 6144 MB used",
    ]


def test_table_of_something_else_is_an_error():
    with pytest.raises(AnsibleError, match="result: expected the result of select_destinations, got"):
        evaluate("hosts | kvmfleet.compute.placement_table")
