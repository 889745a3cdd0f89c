# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.replay import Decision, compact, record
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.replay_cli import main
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.select import select_destinations
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.validation import ValidationError
from ansible_collections.kvmfleet.compute.tests.unit.plugins.plugin_utils.scheduler.fleet import flavor, host, request

HOSTS = [host("a", "az1", memory_mb=4096, memory_mb_used=1024), host("b", "az2", memory_mb=8192), host("c", "az1", memory_mb=2048)]
REQUEST = request("c", flavor=flavor(ram=4096), allow_resize_to_same_host=False)
OPTIONS = {"enabled_filters": ["AvailabilityZoneFilter", "RamFilter"], "weighers": {"RAMWeigher": 1.0}, "ram_allocation_ratio": 1.5}


def save(path: Path, hosts: Any, asked: Any, scheduler: Any) -> Path:
    path.write_text(compact(record(hosts, asked, scheduler, select_destinations(hosts, asked, scheduler))))
    return path


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    return save(tmp_path / "decision.json", HOSTS, REQUEST, OPTIONS)


def test_replays_bit_for_bit(saved: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(saved)]) == 0
    out, err = capsys.readouterr()
    assert out.startswith("web1 (1 vCPUs")
    assert err == "The same decision, bit for bit.\n"


@pytest.mark.parametrize("options", [{"host_subset_size": 3}, {"shuffle_best_same_weighed_hosts": True}])
def test_replays_a_drawn_decision_with_its_seed(tmp_path: Path, options: dict[str, Any]) -> None:
    fleet = [host(f"kvm{index}") for index in range(20)]
    path = save(tmp_path / "decision.json", fleet, request("kvm0", allow_resize_to_same_host=False), {**OPTIONS, **options, "shuffle_seed": 7})
    assert all(main([str(path)]) == 0 for _again in range(3))


def test_tells_when_the_decision_would_be_another_one(saved: Path, capsys: pytest.CaptureFixture[str]) -> None:
    decision = json.loads(saved.read_text())
    decision["hosts"][2]["memory_mb"] -= 1
    saved.write_text(json.dumps(decision))
    assert main([str(saved)]) == 1
    assert "ANOTHER decision" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "status", "line"),
    [
        (["--set", "ram_allocation_ratio=1.0"], 1, "Now: web1 (1 vCPUs, 4096 MB memory, 10240 MB disk) cannot be placed"),
        (["--without", "a"], 1, "cannot be placed"),
        (["--request", "availability_zone=az2"], 0, "goes to b"),
        (["--request", 'flavor={"vcpus": 1, "ram": 1024, "disk": 1}'], 0, "Now: web1 (1 vCPUs, 1024 MB memory, 1024 MB disk) goes to a"),
        (["--without", "a", "--with", "a=d"], 0, "goes to d"),
        (["--set", "ram_allocation_ratio=1.0", "--with", "a=d"], 0, "goes to d"),
    ],
)
def test_what_if(saved: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], status: int, line: str) -> None:
    assert main([str(saved), *arguments]) == status
    assert line in capsys.readouterr().out


def test_a_host_more_from_a_file(saved: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "new.json").write_text(json.dumps(host("new", "az1", memory_mb=65536)))
    assert main([str(saved), "--with", str(tmp_path / "new.json"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["selected"] == "new"


def test_how_many_more_fit(saved: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(saved), "--how-many"]) == 0
    assert capsys.readouterr().out == "4 more guests of this flavor fit:\n  az1: 1 on 1 hosts\n  az2: 3 on 1 hosts\n"


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["--without", "nope"], "without: expected one of a, b, c"),
        (["--with", "nope=d"], "with: expected one of a, b, c"),
        (["--with", "a"], "with: expected HOST=NAME"),
        (["--with", "a=b"], "hosts[3].host: expected every host once"),
        (["--set", "ram_allocation_ratio=-1"], "scheduler.ram_allocation_ratio: expected a number > 0"),
        (["--set", "ram_ratio=1"], "scheduler.ram_ratio: expected one of"),
        (["--with", "/nonexistent.json"], "No such file"),
    ],
)
def test_wrong_arguments(saved: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], error: str) -> None:
    assert main([str(saved), *arguments]) == 2
    assert error in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "field"),
    [({"schema_version": 2}, "schema_version"), ({"schema_version": None}, "schema_version"), ({"hosts": "x"}, "hosts"), ({"more": 1}, "more")],
)
def test_malformed_record_names_the_field(saved: Path, change: dict[str, Any], field: str) -> None:
    with pytest.raises(ValidationError) as caught:
        Decision({**json.loads(saved.read_text()), **change})
    assert caught.value.field == f"decision.{field}"


def test_record_is_compact(saved: Path) -> None:
    assert " " not in saved.read_text().split('"message"')[0]
    assert saved.stat().st_size < 2500
