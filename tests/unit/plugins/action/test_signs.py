# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a controller says of a copy that runs, and the sign of life that it leaves there (see the module utility `_journal.desertion`)."""

from __future__ import annotations

import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest

from ansible_collections.kvmfleet.compute.plugins.action import base_image, destination_copy, migration
from ansible_collections.kvmfleet.compute.plugins.module_utils._journal import desertion as _desertion
from ansible_collections.kvmfleet.compute.plugins.module_utils._journal.progress import peer_directory
from ansible_collections.kvmfleet.compute.plugins.module_utils._journal.state_dir import StateDir

PROGRESS = {"percent": 3.0, "bytes_total": 100 * 2**20, "rate": 200 * 2**10, "eta": 497.0}


def task(**arguments):
    return SimpleNamespace(_task=SimpleNamespace(args=arguments))


def said(command: str) -> str:
    return subprocess.run(["sh", "-c", command], check=True, capture_output=True, text=True).stdout.strip()


@pytest.mark.parametrize("plugin", [destination_copy, base_image])
def test_whoever_asks_for_a_copy_leaves_a_sign_that_the_module_knows(tmp_path: Path, plugin) -> None:
    state = StateDir(str(tmp_path / "state dir"))
    directory = Path(peer_directory(state, "m-1"))
    command = plugin.ActionModule._command(task(owner="run 1"), state.path, str(directory / "progress.json"))
    assert said(command) == ""
    assert not directory.exists()  # the copy is over: nothing is left behind
    directory.mkdir(parents=True)
    (directory / "progress.json").write_text("{}")
    assert said(command) == "{}"
    assert (directory / _desertion.ASKED).read_text() == "run 1"


def test_whoever_waits_leaves_no_sign_and_says_so_only_while_he_waits(tmp_path: Path) -> None:
    state = StateDir(str(tmp_path / "state dir"))
    directory = Path(peer_directory(state, "m-1"))
    directory.mkdir(parents=True)
    command = migration.ActionModule._command(task(migration_uuid="m-1"), state.path, str(directory / "progress.json"))
    assert said(command) == ""
    with _desertion.wanted(state, "m-1", 60):
        assert said(command) == "null"
        (directory / "progress.json").write_text("{}")
        assert said(command) == "{}"
    assert said(command) == ""
    assert not (directory / _desertion.ASKED).exists()


def test_whoever_waits_says_for_whom_and_how_long() -> None:
    waits = task(state="taken_over", wait=600)
    assert migration.ActionModule._takes_long(waits)
    assert not migration.ActionModule._takes_long(task(state="present"))
    assert migration.ActionModule._line(waits, PROGRESS, 20.2) == (
        "waits for the run that works on it, which copies: 3 % of 100 MiB, 200 KiB/s, 497 s left (20 of at most 600 s)"
    )
    assert migration.ActionModule._line(waits, None, 20.2) == "waits for the run that works on it (20 of at most 600 s)"
