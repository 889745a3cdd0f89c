# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Facts of this run, of others, and of other clocks."""

from __future__ import annotations

import json
import multiprocessing
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.kvmfleet.compute.plugins.filter.locate_instance import locate_instance
from ansible_collections.kvmfleet.compute.plugins.plugin_utils import run
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.planning import freshness

RUN = run.Run("now", "controller", 10_000.0)


def facts(host: str, **changes: Any) -> dict[str, Any]:
    return {"host": host, "run": "before", "gathered_at": RUN.now - 60, "gathered_by": "controller", "up": True, **changes}


@pytest.mark.parametrize("max_age", [0, 600])
def test_facts_of_this_run_may_be_decided_from(max_age: float) -> None:
    known = [facts("kvm1", run="now", gathered_at=None), {"host": "kvm2", "run": "now", "up": False}]
    assert freshness.old(["kvm1", "kvm2", "kvm3"], known, RUN, max_age) == ["kvm3"]


def test_facts_of_another_run_never_count_where_no_age_is_allowed() -> None:
    """What a fact cache remembers, however young it is."""
    assert freshness.old(["kvm1"], [facts("kvm1", gathered_at=RUN.now)], RUN, 0) == ["kvm1"]


@pytest.mark.parametrize(("changes", "fresh"), [
    ({}, True),
    ({"gathered_at": RUN.now - 600}, True),
    ({"gathered_at": RUN.now - 601}, False),
    ({"gathered_at": RUN.now + 1}, False),  # the clock was set back since
    ({"gathered_by": "another controller"}, False),  # whose clock may say anything
    ({"gathered_by": None}, False),
    ({"gathered_at": None}, False),
    ({"gathered_at": "9999"}, False),
    ({"gathered_at": True}, False),
    ({"gathered_at": float("nan")}, False),
])  # fmt: skip
def test_facts_of_another_run_count_by_the_clock_that_they_were_timed_by(changes: dict[str, Any], fresh: bool) -> None:
    assert (freshness.old(["kvm1"], [facts("kvm1", **changes)], RUN, 600) == []) is fresh


def test_facts_cannot_say_of_themselves_that_they_were_read_now() -> None:
    assert [host["read_now"] for host in freshness.marked([facts("kvm1", read_now=True), facts("kvm2", run="now")], RUN)] == [False, True]


def twins(run_name: str) -> list[dict[str, Any]]:
    domain = {"name": "web1", "uuid": "u-1", "state": "shutoff"}
    return [{"host": name, "up": True, "run": run_name, "domains": [domain]} for name in ("kvm1", "kvm2")]


def test_nobody_is_told_to_undefine_a_copy_from_facts_that_were_not_read_now() -> None:
    now = locate_instance(twins(run.this().name), {"instance": "web1"})["error"]
    assert (now["code"], "undefine the other one" in now["message"]) == ("instance_on_several_hosts", True)
    for others in (twins("another"), [twins(run.this().name)[0], twins("another")[1]]):
        before = locate_instance(others, {"instance": "web1"})["error"]
        assert before["code"] == "instance_on_several_hosts"
        assert "undefine" not in before["message"]
        assert "facts say which were not gathered in this run" in before["message"]


def _tell(connection: Any) -> None:
    connection.send(run.this().name)


class WorkerProcess(multiprocessing.get_context("fork").Process):  # type: ignore[name-defined,misc]
    """Ansible calls its own by this name."""


def test_a_run_has_one_name_in_all_its_processes_and_another_one_the_next_time() -> None:
    here, there = multiprocessing.Pipe()
    worker = WorkerProcess(target=_tell, args=(there,))
    worker.start()
    assert here.recv() == run.this().name
    worker.join()
    code = f"import sys; sys.path[:] = {sys.path!r}; import runpy; print(runpy.run_path({run.__file__!r}, run_name='run')['this']().name)"
    names = {subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout for _again in range(3)}
    assert len(names | {run.this().name}) == 4
    assert replace(run.this(), now=0.0) == replace(run.this(), now=0.0)


@pytest.fixture
def remembered(tmp_path: Path) -> Path:
    """A fact cache that says that the guest is on kvm1, in an inventory that has localhost too."""
    (tmp_path / "facts").mkdir()
    for host in twins("another"):
        (tmp_path / "facts" / host["host"]).write_text(json.dumps({"kvmfleet_host": {**host, "gathered_at": run.this().now, "gathered_by": run.this().clock}}))
    (tmp_path / "ansible.cfg").write_text(f"[defaults]\nfact_caching = jsonfile\nfact_caching_connection = {tmp_path}/facts\n")
    (tmp_path / "inventory.ini").write_text("localhost ansible_connection=local\n[compute]\nkvm1\nkvm2\n")
    return tmp_path


@pytest.mark.parametrize("playbook", ["migrate", "recover"])
def test_a_limit_does_not_let_a_run_decide_from_what_a_cache_remembers(remembered: Path, playbook: str) -> None:
    command = [Path(sys.executable).parent / "ansible-playbook", "-i", remembered / "inventory.ini", f"kvmfleet.compute.{playbook}", "--limit", "localhost"]
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(remembered), "ANSIBLE_CONFIG": str(remembered / "ansible.cfg"), "ANSIBLE_NOCOLOR": "1"}
    collections = {"ANSIBLE_COLLECTIONS_PATH": str(Path(run.__file__).parents[5])}
    done = subprocess.run([*command, "-e", "instance=web1"], cwd=remembered, env={**environment, **collections}, check=False, capture_output=True, text=True)
    assert done.returncode == 2, done.stdout
    assert "The limit 'localhost' of this run leaves out kvm1, kvm2. Nothing was done." in done.stdout
    assert "undefine" not in done.stdout
