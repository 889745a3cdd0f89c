# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The record of an operation has a definition: no code reads or writes a key that it does not have, and it has none that no code needs."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from ansible_collections.kvmfleet.compute.plugins.module_utils._journal.record import DiskRecord, Record
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.planning import flavor_disks, record as planned
from ansible_collections.kvmfleet.compute.tests.unit.plugins.module_utils.sources import sources

WRITERS = {"update", "close", "begin", "_write"}
NO_KEYS = {"note", "progress"}
"""A word for the history; and what facts tell of a copy beside its record."""
OTHER_RECORDS = {"_storage.identity", "_host.capabilities"}
"""What is called a record there is the identity of a base image."""


def keys(tree: ast.AST) -> Iterator[str]:
    """Each key of what is called `record`, read or written by its name."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Subscript) and ast.unparse(node.value) == "record":
            yield from texts(node.slice)
        elif isinstance(node, ast.Compare) and any(ast.unparse(found) == "record" for found in node.comparators):
            yield from texts(node.left)
        elif isinstance(node, ast.Call):
            called, base = ast.unparse(node.func).rpartition(".")[::2][::-1]
            if base == "record" and called in ("get", "setdefault", "pop"):
                yield from texts(node.args[0])
            elif (base in ("journal", "self") and called in WRITERS) or (called == "dict" and node.args and ast.unparse(node.args[0]) == "record"):
                yield from (word.arg for word in node.keywords if word.arg)


def texts(node: ast.expr) -> Iterator[str]:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value


def used() -> set[str]:
    return {key for name, _path, tree in sources() if name not in OTHER_RECORDS for key in keys(tree)}


def begun() -> dict[str, object]:
    """The record of a plan."""
    disk = {"target": "vda", "device": "disk", "readonly": False, "root": True, "path": "/i/web", "format": "qcow2", "allocated_bytes": 1, "virtual_size": 2,
            "chain": [{"path": "/i/web", "format": "qcow2", "virtual_size": 2}]}  # fmt: skip
    domain = {"xml_digest": "d", "agent": {"connected": True}, "disks": [disk], "firmware": {}}
    asked = {"tuning": None, "zone": None, "live_differences": {"answer": None, "found": []}, "part_of": None}
    return planned.begun({"uuid": "u", "name": "web"}, domain, "kvm1", {}, {}, 0, flavor_disks.NONE, **asked)


def test_no_key_is_used_that_the_record_does_not_have() -> None:
    assert len(used()) > 60
    assert sorted(used() - set(Record.__annotations__) - NO_KEYS) == []


def test_a_plan_begins_a_record_and_its_disks_with_keys_that_they_have() -> None:
    assert sorted(begun().keys() - set(Record.__annotations__)) == []
    assert sorted(begun()["disks"][0].keys() - set(DiskRecord.__annotations__)) == []  # type: ignore[index]


def test_the_record_has_no_key_that_nothing_uses() -> None:
    named = {node.value for _name, _path, tree in sources() for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    named |= {word.arg for _name, _path, tree in sources() for node in ast.walk(tree) if isinstance(node, ast.Call) for word in node.keywords if word.arg}
    assert sorted(set(Record.__annotations__) - named - begun().keys()) == []


def test_a_new_key_would_be_found() -> None:
    lines = ("record['new']", "record.get('new')", "journal.update(record, new=1)", "'new' in record", "dict(record, new=1)")
    assert [list(keys(ast.parse(line))) for line in lines] == [["new"]] * len(lines)
