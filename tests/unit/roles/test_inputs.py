# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Everything that a person can give goes through one reader, which knows all of it: roles, playbooks, README and the table of inputs agree."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jinja2
import pytest
import yaml
from jinja2 import nodes

from ansible_collections.kvmfleet.compute.plugins.plugin_utils.given import kinds
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.given.table import FLEET, HOST, INPUTS, ROLES, WORDS, Input

ROOT = Path(__file__).resolve().parents[3]
FILES = sorted([*ROOT.glob("playbooks/**/*.yml"), *ROOT.glob("roles/*/tasks/**/*.yml"), *ROOT.glob("roles/*/vars/*.yml"), *ROOT.glob("roles/*/defaults/*.yml")])
EXPRESSIONS = ("when", "until", "failed_when", "changed_when", "that")
READERS = ("kvmfleet.compute.given",)
# Evaluated for every task in a process of its own, each of which would have to load the reader first: a third of a second.
BECOME = "{{ kvmfleet_become | default(true) | string | trim | lower not in ['false', 'no', 'off', '0', 'n', 'f'] }}"
# Kinds of values by the types that the specification of an option may have for them.
TYPES = {
    kinds.flag: {"bool"},
    kinds.seconds: {"float", "str"},
    kinds.directory: {"path"},
    kinds.local_path: {"path", "str"},
    kinds.directories: {"list"},
    kinds.names: {"list"},
    kinds.directories_by_name: {"dict"},
    kinds.flavors: {"dict"},
    kinds.options: {"dict"},
    kinds.handed_over: {"dict"},
}


def options(role: str) -> dict[str, Any]:
    entry_points = yaml.safe_load((ROOT / "roles" / role / "meta/argument_specs.yml").read_text())["argument_specs"].values()
    return {name: option for entry_point in entry_points for name, option in entry_point["options"].items()}


def table_of_readme(head: str) -> dict[str, str]:
    """The names in the first column of a table, each with its second column."""
    rows = re.search(rf"^\| {re.escape(head)} \|.*?\n\n", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL)
    assert rows, head
    cells = [row.split(" | ") for row in rows[0].splitlines()[2:] if row]
    return {name: cell[1] for cell in cells for name in re.findall(r"`(\w+)`", cell[0])}


@pytest.mark.parametrize("role", ROLES)
def test_the_table_has_every_option_of_the_roles_and_no_other(role: str) -> None:
    assert set(ROLES[role]) == {name for name in options(role) if name.startswith(f"{role}_")}
    assert set(options(role)) - set(ROLES[role]) <= set(ROLES["migrate"])


@pytest.mark.parametrize(("name", "known"), [(name, known) for inputs in ROLES.values() for name, known in inputs.items()])
def test_an_option_means_what_its_specification_says(name: str, known: Input) -> None:
    option = options(next(role for role, inputs in ROLES.items() if name in inputs))[name]
    assert option["type"] in TYPES.get(known.read, {"str", "int", "list"}), name
    if "choices" in option:
        assert [known.read(name, choice) for choice in option["choices"]] if option["type"] == "str" else known.read(name, option["choices"])
    if option.get("default") not in (None, ""):
        assert known.read(name, option["default"]) == kinds.plain(known.default)
    elif option.get("default") == "":
        assert known.default == ""


def test_readme_lists_what_the_table_has() -> None:
    in_readme = {*table_of_readme("Variable of a host"), *table_of_readme("Variable of the group `compute`")}
    assert in_readme | {"kvmfleet_become"} == set(HOST) | set(FLEET)


def test_readme_lists_the_words_of_the_playbooks() -> None:
    assert {name: long for name, long in table_of_readme("Short name").items() if name in WORDS} == {
        word: f"`{known.unmistakable}`" for word, known in WORDS.items()
    }
    listed = re.search(r"^\| Playbook \| Extra variables \|.*?\n\n", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL)
    assert listed
    named = {name for row in listed[0].splitlines()[2:] if row for name in re.findall(r"`(\w+)`", row.split(" | ")[1])}
    assert named - {"resize", "migrate", "kvmfleet_resize_confirm_window"} <= set(WORDS)
    assert set(WORDS) - named == {"reason", "plan_file"}  # told below the table


def strings(value: Any, key: str = "") -> Iterator[str]:
    """Every template in a document; conditions are made into some."""
    if isinstance(value, dict):
        for name, item in value.items():
            yield from strings(item, str(name))
    elif isinstance(value, list):
        for item in value:
            yield from strings(item, key)
    elif isinstance(value, str) and (key, value) != ("become", BECOME):
        yield "{{ " + value + " }}" if key in EXPRESSIONS else value


@pytest.mark.parametrize("given", [None, "", " ", True, False, 0, 1, "0", "1", "no", " No ", "off", "F", "yes", "true", "False", "y"])
def test_what_is_read_for_every_task_is_read_as_by_the_reader(given: Any) -> None:
    read = jinja2.Environment().from_string(BECOME).render(kvmfleet_become=given)  # noqa: S701
    assert read == str(True if kinds.is_blank(given) else kinds.flag("kvmfleet_become", given))


def read_in(node: nodes.Node) -> Iterator[str]:
    """Names of variables that are read without a reader of inputs, also those of other hosts."""
    if isinstance(node, nodes.Filter) and node.name in READERS:
        return
    if isinstance(node, nodes.Name):
        yield node.name
    elif isinstance(node, nodes.Getattr):
        yield node.attr
    elif isinstance(node, nodes.Getitem) and isinstance(node.arg, nodes.Const):
        yield str(node.arg.value)
    for child in node.iter_child_nodes():
        yield from read_in(child)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_nothing_is_read_from_a_person_but_through_the_one_reader(path: Path) -> None:
    environment = jinja2.Environment()  # noqa: S701
    read = {name for text in strings(yaml.safe_load(path.read_text())) if "{{" in text for name in read_in(environment.parse(text))}
    assert sorted(read & set(INPUTS)) == []
    assert sorted(read & {known.unmistakable for known in WORDS.values()}) == []


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_words_that_an_inventory_may_have_are_read_through_the_lookup_alone(path: Path) -> None:
    environment = jinja2.Environment()  # noqa: S701
    texts = [text for text in strings(yaml.safe_load(path.read_text())) if "{{" in text]
    names = {node.name for text in texts for node in environment.parse(text).find_all(nodes.Name)}
    assert sorted(names & set(WORDS)) == []


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_facts_are_never_read_as_variables(path: Path) -> None:
    """With inject_facts_as_vars=False there are none of these names."""
    environment = jinja2.Environment()  # noqa: S701
    read = {name for text in strings(yaml.safe_load(path.read_text())) if "{{" in text for name in read_in(environment.parse(text))}
    allowed = {"kvmfleet_host"} if path.parts[-3:] == ("gather", "tasks", "main.yml") else set()  # of the result of the module itself
    assert sorted(read & {"kvmfleet_host", "kvmfleet_history"} - allowed) == []


def test_each_word_that_resize_plan_and_migrate_take_stands_once_in_their_table() -> None:
    table = ROOT / "playbooks/vars/asked.yml"
    words = re.findall(r"'kvmfleet\.compute\.asked', '(\w+)'", table.read_text())
    assert len(words) == len(set(words))
    assert set(yaml.safe_load(table.read_text())) <= set(ROLES["resize"]) | set(ROLES["migrate"])
    told = {path.stem: set(re.findall(r"'kvmfleet\.compute\.asked', '(\w+)'", path.read_text())) for path in ROOT.glob("playbooks/*.yml")}
    assert {name: told[name] for name in ("resize", "plan", "migrate")} == {"resize": set(), "plan": {"flavor", "plan_file"}, "migrate": set()}


PLANNING = [ROOT / "plugins/plugin_utils" / name for name in ("given/of_host.py", "planning/per_host.py")]


def templates_of_host_variables() -> Iterator[tuple[str, str]]:
    for path in FILES:
        for name in re.findall(r"given_for\([^,]+, '(\w+)'\)", path.read_text()):
            yield path.name, name
    for path in PLANNING:
        for name in re.findall(r'"(kvmfleet_\w+)"', path.read_text()):
            yield path.name, name


def test_every_variable_of_a_host_is_read_somewhere() -> None:
    assert {name for _path, name in templates_of_host_variables()} == set(HOST)
