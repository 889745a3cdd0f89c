# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What runs on hosts takes names away from files, and merges images, in rooms that ask first who uses them: a new place that does it itself fails here."""

from __future__ import annotations

import ast
from collections.abc import Iterator

import pytest

from ansible_collections.kvmfleet.compute.tests.unit.plugins.module_utils.sources import sources

CHANNEL = "in the directory of a channel, which no guest knows"
ROOMS = {
    "_storage.files": "asks who uses a file",
    "_system.whole_file": "the writer: what it replaces is what it is told to write",
    "_journal.state_dir": "the journal and its locks",
    ("_channel.export", "withdraw_file"): CHANNEL,
    ("_channel.export", "close"): CHANNEL,
    ("_channel.export", "_end"): CHANNEL,
    ("_channel.export", "_hide"): CHANNEL,
    ("_channel.serving", "start"): CHANNEL,
    ("_channel.cached_file", "served"): CHANNEL,
    ("_channel.protocol", "start_server"): CHANNEL,
    ("_journal.progress", "shown"): CHANNEL,
    ("_channel.pull", "__exit__"): CHANNEL,
    ("_channel.pull", "forget_peer"): CHANNEL,
    ("_channel.pull", "_set_size"): "the length of a copy that has not got its name yet",
    **{("_storage.download", function): "the length of a base image that has not got its name yet" for function in ("__exit__", "begin_again", "finish")},
    **{("_storage.kinds.file", function): "handed to `_storage.files`, which has asked" for function in ("rename", "remove")},
    ("_storage.shared_storage", "remove"): "probes, under names that nobody could guess, which never were a guest's",
    ("_storage.leftovers", "give_back"): "what is kept of a copy that never got its name",
    ("_storage.qemu_img", "create_overlay"): "the file that it has just made itself",
    ("_storage.eviction", "remove"): "base images, of whose uses it has a look of its own",
    ("_guest.belongings.tpm", "remove"): "bears the UUID of the guest, so that nobody else has it",
    ("_guest.belongings.firmware_variables", "bring_back"): "asked before the guest is stopped, by `_operation.in_place`",
    ("_guest.belongings.firmware_variables", "forget"): "the copy of an operation, which never was a guest's",
    ("_libvirt.blocks", "begin_commit"): "called by `_storage.merging` alone, see below",
    ("_libvirt.blocks", "pivot"): "called by `_storage.merging` alone, see below",
}
"""Places that may do it, and why nobody needs to be asked there."""

CALLS = {
    "os": {"unlink", "remove", "removedirs", "rename", "renames", "replace", "link", "rmdir", "truncate", "ftruncate"},
    "shutil": {"rmtree", "move"},
    "_whole_file": {"remove", "remove_directory", "rename", "replace"},
}
KNOWN_BY = {name: f"_{name}" for name in ("whole_file", "blocks", "qemu_img")}
"""What the modules above and below are imported as, everywhere."""
METHODS = {"blockCommit", "blockJobAbort", "blockCopy", "blockRebase", "blockPull", "blockResize", "managedSaveRemove", "wipe", "wipePattern"}
MERGING = {"begin_commit", "pivot"}
"""Functions of `_libvirt.blocks` that change which image a guest writes to, and in `_storage.qemu_img` what is in one."""


def takes_away(call: ast.Call) -> bool:
    """Whether a call removes, renames, replaces or shortens a file by itself, or lets libvirt merge images."""
    if not isinstance(call.func, ast.Attribute):
        return False
    base = call.func.value.id if isinstance(call.func.value, ast.Name) else None
    return call.func.attr in METHODS or call.func.attr in CALLS.get(base or "", ())


def merges(call: ast.Call) -> bool:
    """Whether a call merges images through the rooms below."""
    if not isinstance(call.func, ast.Attribute) or not isinstance(call.func.value, ast.Name):
        return False
    return (call.func.value.id == "_blocks" and call.func.attr in MERGING) or (call.func.value.id == "_qemu_img" and call.func.attr == "commit")


def hidden(node: ast.AST) -> bool:
    """Whether an import takes one of these calls under a name by which `takes_away` does not know it."""
    if isinstance(node, ast.ImportFrom):
        module = (node.module or "").rpartition(".")[2]
        taken = {**{name.lstrip("_"): calls for name, calls in CALLS.items()}, "blocks": MERGING, "qemu_img": {"commit"}}.get(module, set())
        return any(alias.name in taken or (alias.name in KNOWN_BY and alias.asname != KNOWN_BY[alias.name]) for alias in node.names)
    return isinstance(node, ast.Import) and any(alias.asname and alias.name in CALLS for alias in node.names)


def places(tree: ast.AST, wanted: object, inside: str = "") -> Iterator[tuple[str, int]]:
    """Function and line of each call that is wanted."""
    for node in ast.iter_child_nodes(tree):
        within = node.name if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) else inside
        if (isinstance(node, ast.Call) and wanted(node)) or hidden(node):  # type: ignore[operator]
            yield within, getattr(node, "lineno", 0)
        yield from places(node, wanted, within)


def found(wanted: object) -> Iterator[tuple[str, str, int]]:
    for name, _path, tree in sources():
        yield from ((name, function, line) for function, line in places(tree, wanted))


def test_nothing_takes_a_file_away_but_rooms_that_ask_who_uses_it() -> None:
    strays = [f"{stem}:{line} in {function or 'the module'}" for stem, function, line in found(takes_away) if not {stem, (stem, function)} & ROOMS.keys()]
    assert strays == [], f"go through _storage.files: {strays}"


def test_images_of_guests_are_merged_in_one_place() -> None:
    """At the destination a layer that has travelled is merged into what came before: neither has a name that a guest knows."""
    merging = {(stem, function) for stem, function, _line in found(merges)}
    assert merging == {("_storage.merging", "_commit_live"), ("_storage.merging", "merge"), ("_operation.receiving", "_merge_layers")}


def test_each_place_that_may_is_one_that_does() -> None:
    doing = {place for stem, function, _line in found(takes_away) for place in (stem, (stem, function))}
    assert sorted(map(str, ROOMS.keys() - doing)) == []


@pytest.mark.parametrize(
    "line",
    [
        "os.unlink(path)", "os.rename(path, new)", "shutil.rmtree(path)", "domain.blockCommit(target, base, top)", "domain.blockJobAbort(target, 2)",
        "_whole_file.replace(new, path)", "os.truncate(path, 0)", "from os import unlink", "from .._system.whole_file import replace",
        "from .._system import whole_file as files", "import shutil as files", "with os.remove(path) as x: pass",
    ],
)  # fmt: skip
def test_the_wall_has_no_hole(line: str) -> None:
    assert [function for function, _line in places(ast.parse(f"def f():\n    {line}"), takes_away)] == ["f"]
