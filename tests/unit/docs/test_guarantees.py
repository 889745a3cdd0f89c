# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""README guarantees nothing that no test shows: each guarantee has witnesses, tests with the mark `invariant`, which docs/guarantees.md names."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
MARK = "invariant"
KINDS = ("unit", "integration")  # fast: on one host, all interleavings and figures; slow: on real hosts, which alone show that those were the right ones
NAMED = re.compile(r"`(test_\w+\.py)::(test_\w+)`(?: \((\*slow\*)\))?")
_NEVER_GREEN = {"skip", "skipif", "xfail"}  # a test that may not run shows nothing


@dataclass(frozen=True)
class Witness:
    """A test that fails first if a guarantee does not hold.

    :param kind: one of KINDS; :param slow: whether it runs in the longer stage only.
    """

    kind: str
    file: str
    test: str
    slow: bool


def marks(function: ast.FunctionDef) -> Iterator[tuple[str, list[object]]]:
    """Name and positional arguments of each decorator `pytest.mark.NAME`."""
    for decorator in function.decorator_list:
        call = decorator if isinstance(decorator, ast.Call) else None
        name = ast.unparse(call.func if call else decorator)
        if name.startswith("pytest.mark."):
            yield name.rpartition(".")[2], [ast.literal_eval(argument) for argument in call.args] if call and name.endswith(f".{MARK}") else []


def collected(tree: ast.Module) -> Iterator[ast.FunctionDef]:
    """What pytest collects: functions of the module and methods of its classes, if the names of both are those of tests."""
    for node in tree.body:
        for inner in node.body if isinstance(node, ast.ClassDef) and node.name.startswith("Test") else [node]:
            if isinstance(inner, ast.FunctionDef) and inner.name.startswith("test_"):
                yield inner


def witnesses(root: Path) -> dict[object, set[Witness]]:
    """Number of a guarantee -> the tests that are marked with it."""
    found: dict[object, set[Witness]] = {}
    for kind in KINDS:
        for path in (root / "tests" / kind).rglob("test_*.py"):
            for function in collected(ast.parse(path.read_text())):
                marked = list(marks(function))
                names = {name for name, _numbers in marked}
                for number in (number for name, numbers in marked if name == MARK and not names & _NEVER_GREEN for number in numbers):
                    found.setdefault(number, set()).add(Witness(kind, path.name, function.name, "slow" in names))
    return found


def promised(readme: str) -> list[int]:
    promises = readme.partition("\n## What it guarantees\n")[2].partition("\n## ")[0]
    return [int(number) for number in re.findall(r"^(\d+)\. ", promises, re.MULTILINE)]


def named(page: str) -> dict[object, set[Witness]]:
    """Number of a guarantee (F1 for one of the fleet) -> the tests that the page names, each in the column of its kind."""
    rows = [line.split("|")[1:4] for line in page.splitlines() if re.match(r"\| F?\d+ \|", line)]
    return {
        int(number) if number.strip().isdigit() else number.strip(): {
            Witness(kind, file, test, bool(slow)) for kind, cell in zip(KINDS, cells) for file, test, slow in NAMED.findall(cell)
        }
        for number, *cells in rows
    }


def unwitnessed(numbers: Iterable[object], marked: dict[object, set[Witness]]) -> list[tuple[object, str]]:
    """The numbers that no test of some kind is a witness of, with that kind."""
    return [(number, kind) for number in numbers for kind in KINDS if kind not in {witness.kind for witness in marked.get(number, ())}]


def test_every_guarantee_has_a_fast_witness_and_one_on_real_hosts() -> None:
    numbers = promised((ROOT / "README.md").read_text())
    assert numbers == list(range(1, 14))
    marked = witnesses(ROOT)
    assert unwitnessed({*numbers, *marked}, marked) == []


def test_the_page_names_exactly_the_tests_that_are_marked() -> None:
    page = named((ROOT / "docs" / "guarantees.md").read_text())
    assert [number for number in page if isinstance(number, int)] == promised((ROOT / "README.md").read_text())
    assert page == witnesses(ROOT)


@pytest.mark.parametrize(("settings", "known"), [("pyproject.toml", "tests/unit/conftest.py"), (*["tests/integration/pytest.ini"] * 2,)])
def test_a_mark_that_is_misspelt_fails_the_run(settings: str, known: str) -> None:
    assert re.search(r"^addopts = .*--strict-markers", (ROOT / settings).read_text(), re.MULTILINE)
    assert f"{MARK}(*numbers): " in (ROOT / known).read_text()


class TestTheseTestsCanFail:
    @pytest.fixture
    def root(self, tmp_path: Path) -> Path:
        for kind in KINDS:
            (tmp_path / "tests" / kind / "inner").mkdir(parents=True)
        return tmp_path

    @staticmethod
    def write(root: Path, kind: str, source: str, name: str = "test_one.py") -> None:
        (root / "tests" / kind / "inner" / name).write_text(source)

    def test_a_witness_is_a_marked_test_of_a_function_or_a_class(self, root: Path) -> None:
        self.write(
            root,
            "unit",
            "@pytest.mark.invariant(1, 2)\n@pytest.mark.slow\ndef test_a(): pass\nclass TestB:\n    @pytest.mark.invariant(2)\n    def test_c(): pass\n",
        )
        a, c = Witness("unit", "test_one.py", "test_a", True), Witness("unit", "test_one.py", "test_c", False)
        assert witnesses(root) == {1: {a}, 2: {a, c}}

    @pytest.mark.parametrize(
        "source",
        [
            "def test_a(): pass\n",
            "@pytest.mark.invariant(1)\ndef helper(): pass\n",
            "class Helper:\n    @pytest.mark.invariant(1)\n    def test_a(): pass\n",
            "def test_a():\n    @pytest.mark.invariant(1)\n    def test_b(): pass\n",
            "@pytest.mark.invariant(1)\n@pytest.mark.skip\ndef test_a(): pass\n",
            "@pytest.mark.invariant(1)\n@pytest.mark.skipif(True, reason='no')\ndef test_a(): pass\n",
            "@pytest.mark.invariant(1)\n@pytest.mark.xfail(reason='no')\ndef test_a(): pass\n",
        ],
    )
    def test_what_is_no_test_or_may_not_run_is_no_witness(self, root: Path, source: str) -> None:
        self.write(root, "unit", source)
        assert witnesses(root) == {}

    def test_a_file_that_is_not_collected_has_no_witness(self, root: Path) -> None:
        self.write(root, "unit", "@pytest.mark.invariant(1)\ndef test_a(): pass\n", "model.py")
        assert witnesses(root) == {}

    @pytest.mark.parametrize(("there", "lacking"), [("unit", "integration"), ("integration", "unit")])
    def test_a_witness_of_one_kind_is_not_enough(self, root: Path, there: str, lacking: str) -> None:
        self.write(root, there, "@pytest.mark.invariant(1)\ndef test_a(): pass\n")
        assert unwitnessed([1, 2], witnesses(root)) == [(1, lacking), (2, "unit"), (2, "integration")]

    def test_a_page_that_names_a_test_in_the_column_of_the_others_is_noticed(self) -> None:
        right = named("| 1 | `test_a.py::test_a` | `test_b.py::test_b` (*slow*) |")
        assert right == {1: {Witness("unit", "test_a.py", "test_a", False), Witness("integration", "test_b.py", "test_b", True)}}
        assert list(named("| F4 | `test_a.py::test_a` | `test_b.py::test_b` |")) == ["F4"]
        assert right != named("| 1 | `test_b.py::test_b` (*slow*) | `test_a.py::test_a` |")
        assert right != named("| 1 | `test_a.py::test_a` | `test_b.py::test_b` |")
