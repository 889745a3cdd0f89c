# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The nouns have a definition each: `DomainFacts`, `HostFacts`, `Plan` (`test_record.py` has `Record`). What is written, documented and read has its keys.

mypy looks for a key that planning reads and that none of them has; here is what it does not see.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from ansible_collections.kvmfleet.compute.plugins.filter import plan_migration as plan_filter
from ansible_collections.kvmfleet.compute.plugins.module_utils._domain import definition as _definition
from ansible_collections.kvmfleet.compute.plugins.module_utils._guest.belongings import registry as _belongings
from ansible_collections.kvmfleet.compute.plugins.module_utils._guest.belongings.belonging import Guest
from ansible_collections.kvmfleet.compute.plugins.module_utils._guest.facts import domain_facts
from ansible_collections.kvmfleet.compute.plugins.module_utils._journal.state_dir import StateDir
from ansible_collections.kvmfleet.compute.plugins.module_utils._rules.domain_facts import DiskFacts, DomainFacts, FlavorFacts, LayerFacts
from ansible_collections.kvmfleet.compute.plugins.module_utils._rules.host_facts import HostFacts
from ansible_collections.kvmfleet.compute.plugins.modules import domain_info, host_facts
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.planning import facts as checked
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.planning.plan import Plan
from ansible_collections.kvmfleet.compute.tests.unit.plugins.plugin_utils.planning.test_migration import planned

ROOT = Path(__file__).parents[3]
PLANNING = ROOT / "plugins/plugin_utils/planning"
OF_A_SILENT_HOST = {"reachable", "down_reason"}
OF_THE_FILTERS = {"read_now"}
CLEAN_ROOMS = ("_journal", "_operation", "planning", "settling")
"""Rooms of the nouns, in which mypy finds nothing at all."""


def keys(noun: type) -> set[str]:
    return set(noun.__annotations__)


@pytest.fixture
def described(guest: Callable[..., Any], images: Path, qemu_img: Callable[[str], str]) -> Any:
    """A guest with a disk on a base image."""
    qemu_img("create -q -f raw base.raw 1M")
    qemu_img("create -q -f qcow2 -b base.raw -F raw web1.qcow2")
    return guest("web1", {"vda": images / "web1.qcow2"})


@pytest.fixture
def told(described: Any, images: Path, state: StateDir) -> dict[str, Any]:
    return domain_facts(described, state, image_directories=[str(images)], identify=True)


def returned(module: Any, *path: str) -> set[str]:
    """The keys that a RETURN documents, below the path."""
    found: Any = {"contains": yaml.safe_load(module.RETURN)}
    for name in path:
        found = found["contains"][name]
    return set(found["contains"])


def test_a_host_tells_of_a_guest_what_the_noun_has(described: Any, told: dict[str, Any]) -> None:
    """A kind of belonging may tell more, under keys that stand in its file."""
    root = _definition.parse(described.XMLDesc())
    own = set(_belongings.facts(Guest(described, root, root)))
    assert told.keys() - own == keys(DomainFacts) - own
    (disk,) = told["disks"]
    assert disk.keys() <= keys(DiskFacts)
    assert keys(DiskFacts) - disk.keys() == {"network", "left_out", "error"}
    assert disk["chain"][0].keys() == keys(LayerFacts) - {"identity"}
    assert disk["chain"][1].keys() == keys(LayerFacts)
    assert told["flavor"].keys() == keys(FlavorFacts)


def test_the_module_documents_what_it_tells_of_a_guest(told: dict[str, Any]) -> None:
    assert returned(domain_info, "domain") == told.keys()
    assert returned(domain_info, "domain", "disks") == keys(DiskFacts)
    assert returned(domain_info, "domain", "flavor") == keys(FlavorFacts)


def test_a_host_tells_of_itself_what_the_noun_has_and_the_module_documents(tmp_path: Path) -> None:
    defaults = {name: option.get("default") for name, option in host_facts.ARGUMENT_SPEC.items()}
    given = {"host": "kvm1", "uri": "test:///default", "images_path": str(tmp_path), "state_path": str(tmp_path / "state")}
    facts = host_facts.main(SimpleNamespace(params={**defaults, **given}))["ansible_facts"]["kvmfleet_host"]
    assert facts.keys() == keys(HostFacts) - OF_A_SILENT_HOST - OF_THE_FILTERS
    assert returned(host_facts, "ansible_facts", "kvmfleet_host") == facts.keys()


def test_the_role_tells_of_a_silent_host_what_the_noun_has() -> None:
    notes = [notes for path in ROOT.glob("roles/**/tasks/**/*.yml") for notes in re.findall(r"kvmfleet_host:.*\n((?: {6}\w+:.*\n)+)", path.read_text())]
    assert notes
    for note in notes:
        assert set(re.findall(r"^ {6}(\w+):", note, re.MULTILINE)) <= keys(HostFacts)


def test_what_is_checked_of_facts_is_what_the_nouns_have() -> None:
    assert checked._HOST.keys() <= keys(HostFacts)
    assert checked._GUEST.keys() <= keys(DomainFacts)
    assert checked._DISK.keys() | checked._FILE.keys() <= keys(DiskFacts)
    assert checked._LAYER.keys() <= keys(LayerFacts)


@pytest.mark.parametrize("request_of", [{"target_host": "kvm2"}, {"target_host": "kvm1"}, {"flavor": "small"}], ids=["move", "in place", "nothing to do"])
def test_a_plan_has_all_its_keys_whatever_it_comes_to(request_of: dict[str, str]) -> None:
    assert planned(**request_of).keys() == keys(Plan)


def test_the_filter_documents_the_plan() -> None:
    assert returned(plan_filter, "_value", "plan") == keys(Plan)


def test_roles_and_filters_read_of_a_plan_what_it_has() -> None:
    texts = [path.read_text() for folder in ("roles", "playbooks") for path in (ROOT / folder).rglob("*.yml")]
    read = {key for text in texts for key in re.findall(r"_plan\.(\w+)", text)}
    assert len(read) > 10
    assert read - keys(Plan) == set()


def of_domains(tree: ast.AST) -> Iterator[str]:
    """Each key that is read by its name of what is called `domain`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Subscript) and ast.unparse(node.value) == "domain" and isinstance(node.slice, ast.Constant):
            yield node.slice.value
        elif isinstance(node, ast.Call) and ast.unparse(node.func) == "domain.get":
            yield ast.literal_eval(node.args[0])


def test_planning_reads_of_a_guest_what_the_noun_has() -> None:
    read = {key for path in PLANNING.glob("*.py") for key in of_domains(ast.parse(path.read_text()))}
    assert len(read) > 20
    assert read - keys(DomainFacts) == set()


def test_a_key_that_no_noun_has_would_be_found() -> None:
    assert [*of_domains(ast.parse("domain['new']")), *of_domains(ast.parse("domain.get('newer')"))] == ["new", "newer"]


def test_no_type_of_these_rooms_is_on_the_list_of_what_is_to_be_mended() -> None:
    listed = (ROOT / "tests/mypy-baseline.txt").read_text().splitlines()
    assert [line for line in listed if line.split(":")[0].split("/")[2] in CLEAN_ROOMS] == []
