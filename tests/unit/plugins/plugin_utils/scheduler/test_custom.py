# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.custom import PluginError
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.select import select_destinations
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.validation import ValidationError
from ansible_collections.kvmfleet.compute.tests.unit.plugins.plugin_utils.scheduler.fleet import host, request

BASE = "ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler"
RACK = f"""
from {BASE}.filters.base import Filter
from {BASE}.weighers.base import Weigher


class RackFilter(Filter):
    def rejection(self, host):
        rack = host.facts["rack"]
        return None if rack == "r1" else self.reject("other_rack", f"is in rack {{rack}}", "r1", rack)


class RackWeigher(Weigher):
    multiplier_key = "rack_weight_multiplier"

    def raw(self, host):
        return host.facts["rack_units"]
"""


@pytest.fixture
def plugins(tmp_path: Path) -> Path:
    (tmp_path / "rack.py").write_text(RACK)
    return tmp_path


def select(hosts: list[dict[str, Any]], **scheduler: Any) -> dict[str, Any]:
    return select_destinations(hosts, request(), {"enabled_filters": [], "weighers": {"RAMWeigher": 1.0}, **scheduler})


def test_filter_beside_the_playbook(plugins: Path) -> None:
    answer = select([host("a", rack="r1"), host("b", rack="r2")], enabled_filters=["rack.RackFilter"], plugin_path=str(plugins))
    assert answer["selected"] == "a"
    assert answer["rejected"] == {"b": [{"filter": "RackFilter", "code": "other_rack", "reason": "is in rack r2", "need": "r1", "have": "r2"}]}


def test_weigher_beside_the_playbook(plugins: Path) -> None:
    answer = select([host("a", rack_units=1), host("b", rack_units=9)], weighers={"rack.RackWeigher": 1.0}, plugin_path=str(plugins))
    assert answer["selected"] == "b"
    assert answer["ranked"][0]["weights"] == {"RackWeigher": {"raw": 9, "normalized": 1.0, "multiplier": 1.0}}


def test_filter_of_a_collection() -> None:
    name = "kvmfleet.compute.scheduler.RackFilter"
    with pytest.raises(PluginError, match=r"enabled_filters\[0\]: kvmfleet.compute.scheduler.RackFilter cannot be loaded: .* has no class of this name"):
        select([host()], enabled_filters=[name])


@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("def", r"rack\.py, line 1: SyntaxError"),
        ("import nothing_of_this_name", r"rack\.py, line 1: ModuleNotFoundError"),
        ("RackFilter = 1", r"rack\.py has RackFilter, which is not derived from Filter"),
        ("class RackFilter: pass", r"rack\.py has RackFilter, which is not derived from Filter"),
        ("", r"rack\.py has no class of this name"),
    ],
)
def test_broken_file_names_itself(tmp_path: Path, code: str, error: str) -> None:
    (tmp_path / "rack.py").write_text(code)
    with pytest.raises(PluginError, match=rf"scheduler\.enabled_filters\[0\]: rack\.RackFilter cannot be loaded: .*{error}"):
        select([host()], enabled_filters=["rack.RackFilter"], plugin_path=str(tmp_path))


@pytest.mark.parametrize(
    ("body", "error"),
    [
        ("1 / 0", r"rack\.py, line 6: ZeroDivisionError: division by zero"),
        ("return True", r"rejection\(\) returned True, expected None or self.reject"),
        ("return host.facts['rack']", r"rack\.py, line 6: KeyError: 'rack'"),
    ],
)
def test_broken_filter_names_itself_its_file_and_the_host(tmp_path: Path, body: str, error: str) -> None:
    source = f"from {BASE}.filters.base import Filter\n\nclass RackFilter(Filter):\n    # one\n    def rejection(self, host):\n        {body}\n"
    (tmp_path / "rack.py").write_text(source)
    with pytest.raises(PluginError, match=rf"enabled_filters\[0\]: RackFilter failed on host kvm1: .*{error}"):
        select([host()], enabled_filters=["rack.RackFilter"], plugin_path=str(tmp_path))


def test_broken_weigher_names_itself(plugins: Path) -> None:
    with pytest.raises(PluginError, match=r"scheduler\.weighers\.rack\.RackWeigher: RackWeigher failed on host kvm1: .*rack\.py, line 16: KeyError"):
        select([host(), host("kvm2")], weighers={"rack.RackWeigher": 1}, plugin_path=str(plugins))


@pytest.mark.parametrize(
    ("scheduler", "error"),
    [
        ({"enabled_filters": ["rack.RackFilter"]}, "plugin_path, which is not set"),
        ({"enabled_filters": ["rack.RackFilter"], "plugin_path": "/nonexistent"}, "there is no file /nonexistent/rack.py"),
        ({"enabled_filters": ["a.b.RackFilter"]}, "neither NAMESPACE.COLLECTION.FILE.CLASS nor FILE.CLASS"),
        ({"enabled_filters": ["acme.nowhere.rack.RackFilter"]}, "ModuleNotFoundError"),
        ({"plugin_path": "relative"}, "plugin_path: expected the absolute path"),
        ({"plugin_path": 3}, "plugin_path: expected the absolute path"),
    ],
)
def test_wrong_names(scheduler: dict[str, Any], error: str) -> None:
    with pytest.raises(ValidationError, match=error):
        select([host()], **scheduler)


def expression(text: str, name: str = "SameRack", reason: str = "is in another rack") -> dict[str, Any]:
    return {"custom_filters": [{"name": name, "expression": text, "reason": reason}]}


@pytest.mark.parametrize(
    "text",
    [
        "host.rack == 'r1'",
        "host.rack.startswith('r')",
        "host.memory_mb - host.memory_mb_used >= 2 * request.flavor.ram",
        "'guest-1' in host.instances",
        "host.instances | length < 2",
        "host.gpus | default([]) | length == 0",
        "host.get('gpus') is none",
        "request.instance.name == 'web1' and not host.host == 'kvm2'",
        "host.instances | map('upper') | list == ['GUEST-1']",
    ],
)
def test_expression_passes(text: str) -> None:
    assert select([host(rack="r1", instances=["guest-1"])], **expression(text))["selected"] == "kvm1"


def test_expression_rejects_with_its_reason() -> None:
    answer = select([host("a", rack="r1"), host("b", rack="r2")], **expression("host.rack == 'r1'"))
    assert answer["rejected"] == {"b": [{"filter": "SameRack", "code": "custom", "reason": "is in another rack", "need": None, "have": None}]}


@pytest.mark.parametrize(
    "text",
    [
        "lookup('ansible.builtin.file', '/etc/passwd') == ''",
        "lookup('ansible.builtin.pipe', 'id') == ''",
        "hostvars == {}",
        "''.__class__.__mro__ == 1",
        "host.__class__ == 1",
        "host | attr('__class__') == 1",
        "request.build.__globals__ == {}",
        "request.instance.build({}) == 1",
        "self.x == 1",
        "cycler(1, 2) == 1",
        "range(10 ** 9) | list | length > 1",
        "10 ** 10 ** 10 > 1",
        "'a' * 10000000000 == ''",
        "[1] * 10000000000 == []",
        "'%9999999999d' % 1 == ''",
        "'{:9999999999}'.format(1) == ''",
        "'a'.ljust(9999999999) == ''",
        "'a'.replace('', 'b') == ''",
        "['a'] | join('a') == ''",
        "'a' | center(9999999999) == ''",
        "host.pop('host') == ''",
        "host.update({'rack': 1}) is none",
        "{% for x in host %}{% endfor %}",
        "(" * 400 + "1" + ")" * 400,
        "host.rack ==",
        "host.nope",
        "host.nope > 1",
        "host.rack",
        "1",
        "none",
    ],
)
def test_expression_that_reaches_out_loops_or_is_no_boolean(text: str) -> None:
    with pytest.raises(ValidationError, match=r"scheduler\.custom_filters\[0\]\.expression: SameRack"):
        select([host(rack="r1")], **expression(text))


def test_broken_expression_names_the_host() -> None:
    with pytest.raises(PluginError, match="SameRack on host b: .*host.rack.startswith"):
        select([host("a", rack="r1"), host("b", rack=1)], **expression("host.rack.startswith('r')"))


def test_expressions_take_bounded_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(f"{BASE}.custom_expression.SECONDS", -1.0)
    with pytest.raises(PluginError, match="took longer than"):
        select([host()], **expression("true"))


@pytest.mark.parametrize(
    ("entry", "field"),
    [
        ("text", "custom_filters[0]"),
        ({"name": "a b", "expression": "true", "reason": "x"}, "custom_filters[0].name"),
        ({"name": "a", "expression": "", "reason": "x"}, "custom_filters[0].expression"),
        ({"name": "a", "expression": "1" * 1001, "reason": "x"}, "custom_filters[0].expression"),
        ({"name": "a", "expression": True, "reason": "x"}, "custom_filters[0].expression"),
        ({"name": "a", "expression": "true"}, "custom_filters[0].reason"),
        ({"name": "a", "expression": "true", "reason": "x", "when": 1}, "custom_filters[0].when"),
    ],
)
def test_malformed_entry_names_the_field(entry: object, field: str) -> None:
    with pytest.raises(ValidationError) as caught:
        select([host()], custom_filters=[entry])
    assert caught.value.field == f"scheduler.{field}"


def test_name_given_twice() -> None:
    entry = {"name": "a", "expression": "true", "reason": "x"}
    with pytest.raises(ValidationError, match=r"custom_filters\[1\]\.name: expected every name once"):
        select([host()], custom_filters=[entry, entry])


def test_the_example_runs() -> None:
    """`examples/placement`, as its playbook runs it."""
    directory = Path(__file__).parents[5] / "examples" / "placement"
    play = yaml.safe_load((directory / "place.yml").read_text())[0]["vars"]
    fleet = [{**play["usual"], "host": "kvm1", "rack": "r1", "rack_watts": 1}, {**play["usual"], "host": "kvm2", "rack": "r2", "rack_watts": 1}]
    answer = select_destinations(fleet, play["request"], {**play["kvmfleet_scheduler"], "plugin_path": str(directory / "placement_plugins")})
    assert answer["rejected"]["kvm2"][0]["filter"] == "RackFilter"
