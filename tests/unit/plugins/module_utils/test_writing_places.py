# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What runs on hosts writes files through `_system.whole_file` alone: a new place that opens one for writing, or copies it, fails here."""

from __future__ import annotations

import ast
from collections.abc import Iterator

import pytest

from ansible_collections.kvmfleet.compute.tests.unit.plugins.module_utils.sources import sources

WRITER = "_system.whole_file"
ROOMS = {
    ("_journal.state_dir", "write"): "the journal, which writes in the same way",
    ("_journal.state_dir", "_locked"): "files of locks, which hold nothing",
    ("_channel.protocol", "start_server"): "the last words of a server, in the directory of its channel",
    ("_storage.qemu_access", "_answer"): "what QEMU would open, as its user, to see whether it may; it is closed at once",
    ("_channel.pull", "_run"): "the last words of a tool, in the directory of its channel",
}
"""Places that may open a file for writing, and what for. No file of a guest, and none that anybody relies on."""

WRITING = {"O_WRONLY", "O_RDWR", "O_CREAT", "O_TRUNC", "O_APPEND", "O_TMPFILE"}
CALLS = {
    "os": {"truncate", "mkfifo", "mknod", "chmod", "chown", "lchown", "sendfile", "copy_file_range", "writev", "creat", "popen", "system", "setxattr"},
    "shutil": {"copy", "copy2", "copyfile", "copyfileobj", "copytree", "move", "chown", "copymode", "copystat"},
    "tempfile": None,  # all
}
METHODS = {"write_text", "write_bytes", "touch"}


def writes(call: ast.Call) -> bool:
    """Whether a call gives the content, owner or mode of a file by its name, or opens one so that the content can be given."""
    name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
    base = call.func.value.id if isinstance(call.func, ast.Attribute) and isinstance(call.func.value, ast.Name) else None
    if call.args and ast.unparse(call.args[0]) == "os.devnull":
        return False
    if (base, name) == ("os", "open"):
        flags = [node for argument in (*call.args[1:2], *(word.value for word in call.keywords if word.arg == "flags")) for node in ast.walk(argument)]
        named = {node.attr for node in flags if isinstance(node, ast.Attribute)}
        # Flags that come out of a variable may be any.
        return bool(named & WRITING) or any(isinstance(node, ast.Name) and node.id != "os" for node in flags) or not named
    if name == "open" and (isinstance(call.func, ast.Name) or base == "io"):
        modes = [*call.args[1:2], *(word.value for word in call.keywords if word.arg == "mode")]
        return any(not isinstance(mode, ast.Constant) or set(str(mode.value)) & set("wax+") for mode in modes)
    if name == "open" and base != "os":
        return any(isinstance(argument, ast.Constant) and isinstance(argument.value, str) and set(argument.value) & set("wax+") for argument in call.args[:1])
    return name in METHODS or (base in CALLS and (CALLS[base] is None or name in CALLS[base]))


def hidden(node: ast.AST) -> bool:
    """Whether an import takes one of these calls under a name by which `writes` does not know it."""
    if isinstance(node, ast.ImportFrom):
        return not node.level and node.module in CALLS and node.module != "os.path"
    return isinstance(node, ast.Import) and any(alias.asname and alias.name in CALLS for alias in node.names)


def places(tree: ast.AST, inside: str = "") -> Iterator[tuple[str, int]]:
    """Function and line of each call that writes."""
    for node in ast.iter_child_nodes(tree):
        within = node.name if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) else inside
        if (isinstance(node, ast.Call) and writes(node)) or hidden(node):
            yield within, getattr(node, "lineno", 0)
        yield from places(node, within)


def found() -> Iterator[tuple[str, str, int]]:
    for name, _path, tree in sources():
        yield from ((name, function, line) for function, line in places(tree) if name != WRITER)


def test_nothing_but_the_writer_opens_a_file_for_writing() -> None:
    strays = [f"{stem}:{line} in {function or 'the module'}" for stem, function, line in found() if (stem, function) not in ROOMS]
    assert strays == [], f"write through {WRITER}: {strays}"


def test_each_place_that_may_is_one_that_does() -> None:
    assert {(stem, function) for stem, function, _line in found()} == set(ROOMS)


@pytest.mark.parametrize(
    "line",
    [
        "open(path, 'w')",
        "open(path, mode='r+b')",
        "open(path, mode)",
        "io.open(path, 'xb')",
        "os.open(path, os.O_WRONLY | os.O_CLOEXEC)",
        "os.open(path, flags)",
        "os.open(path, 577)",
        "os.open(path, os.O_RDONLY | more)",
        "os.open(name, os.O_CREAT | os.O_EXCL, 0o600, dir_fd=where)",
        "Path(path).write_bytes(content)",
        "Path(path).open('w')",
        "shutil.copy2(path, other)",
        "shutil.copyfileobj(stream, other)",
        "tempfile.NamedTemporaryFile()",
        "os.truncate(path, 0)",
        "os.chmod(path, 0o600)",
        "from shutil import copyfile",
        "import shutil as files",
        "from os import open as begin",
    ],
)
def test_a_new_place_would_be_seen(line: str) -> None:
    assert list(places(ast.parse(f"def new():\n    {line}"))) == [("new", 2)]


@pytest.mark.parametrize(
    "line",
    [
        "open(path)",
        "open(path, 'rb')",
        "open(path, encoding='utf-8')",
        "os.open(path, os.O_RDONLY | os.O_NOFOLLOW)",
        "os.open(os.devnull, os.O_RDWR)",
        "server.open(address='127.0.0.1')",
        "stream.write(content)",
        "with _whole_file.make(path) as stream: pass",
    ],
)
def test_who_reads_is_left_alone(line: str) -> None:
    assert list(places(ast.parse(f"def old():\n    {line}"))) == []
