# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The modules as they run on a managed host."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ansible_collections.kvmfleet.compute.plugins.module_utils._rules.errors import KvmfleetError
from ansible_collections.kvmfleet.compute.plugins.modules import host_facts


def run_module(module: str, *, check: bool = False, path: tuple[str, ...] = (), **arguments: Any) -> dict[str, Any]:
    """What the module prints, in a process of its own as on a managed host."""
    collections = Path(host_facts.__file__).parents[5]
    said = subprocess.run(
        [sys.executable, "-m", f"ansible_collections.kvmfleet.compute.plugins.modules.{module}"],
        input=json.dumps({"ANSIBLE_MODULE_ARGS": {**arguments, "_ansible_check_mode": check}}),
        env={**os.environ, "PYTHONPATH": os.pathsep.join([*path, str(collections), *sys.path])},
        check=False,
        capture_output=True,
        text=True,
    )
    assert said.stdout.lstrip().startswith("{"), said.stdout + said.stderr
    return {key: value for key, value in json.loads(said.stdout).items() if key != "invocation"}


def fail(**arguments: Any) -> KvmfleetError:
    defaults = {name: option.get("default") for name, option in host_facts.ARGUMENT_SPEC.items()}
    with pytest.raises(KvmfleetError) as caught:
        host_facts.main(SimpleNamespace(params={**defaults, "host": "kvm1", "uri": "test:///default", "images_path": "/", **arguments}))
    return caught.value


def test_host_facts_as_a_host_returns_them(tmp_path: Path) -> None:
    result = run_module(
        "host_facts", check=True, host="kvm1", availability_zone="az1", aggregates=[{"name": "ssd", "metadata": {"ram_allocation_ratio": "2.0"}}], enabled="no",
        ram_allocation_ratio="1.25", uri="test:///default", images_path=str(tmp_path), state_path=str(tmp_path / "state"),
    )  # fmt: skip
    facts = result["ansible_facts"]["kvmfleet_host"]
    assert result.get("changed", False) is False
    assert (facts["host"], facts["availability_zone"], facts["enabled"], facts["ram_allocation_ratio"], facts["cpu_allocation_ratio"]) == (
        "kvm1", "az1", False, 1.25, None,
    )  # fmt: skip
    assert facts["aggregates"] == [{"name": "ssd", "metadata": {"ram_allocation_ratio": "2.0"}}]
    assert (facts["vcpus"], facts["vcpus_used"], facts["memory_mb"], facts["memory_mb_used"]) == (16, 2, 3072, 8192 + 512)
    assert facts["networks"] == ["default"]
    assert not (tmp_path / "state").exists()


def test_a_host_without_libvirt_says_so_by_name() -> None:
    result = run_module("host_facts", host="kvm1", uri="qemu+unix:///system?socket=/nonexistent")
    assert result["error_code"] == "libvirt_unavailable"
    assert result["msg"].startswith("kvm1: libvirt does not answer at qemu+unix:///system?socket=/nonexistent")


@pytest.mark.parametrize(("images_path", "code"), [("/dev/null/images", "os_error"), ("/usr", "libvirt_error"), ("/", "invalid_directory")])
def test_what_nobody_expected_is_told_as_such(tmp_path: Path, images_path: str, code: str) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        "import libvirt\ndef refuse(*arguments):\n    raise libvirt.libvirtError('refused')\nlibvirt.virConnect.getAllDomainStats = refuse\n"
    )
    result = run_module("host_facts", path=(str(tmp_path),), host="kvm1", uri="test:///default", images_path=images_path)
    assert (result["failed"], result["error_code"]) == (True, code)


def test_domain_info_takes_any_name(tmp_path: Path) -> None:
    found = run_module("domain_info", name="a;b $(reboot)\n../x", uri="test:///default", state_path=str(tmp_path))
    assert found == {"domain": None}


def test_domain_info_describes_all_domains_in_one_call_and_writes_nothing(tmp_path: Path) -> None:
    arguments = {"uri": "test:///default", "state_path": str(tmp_path / "state")}
    (told,) = run_module("domain_info", **arguments)["domains"]
    one = run_module("domain_info", name=told["uuid"], **arguments)
    assert (told["name"], told["error"], told["domain"]) == ("test", None, one["domain"])
    assert not (tmp_path / "state").exists()


def test_way_info_tells_of_each_host_whether_a_copy_gets_here_straight() -> None:
    ways = run_module("way_info", hosts={"kvm2": "127.0.0.1", "kvm3": "no.such.host.invalid"}, port=49215)["ways"]
    assert ways["kvm2"] == {"source_address": None, "local_address": None, "no_way": "127.0.0.1 means this host itself here"}
    assert "This host has no way to no.such.host.invalid" in ways["kvm3"]["no_way"]


def test_a_domain_that_cannot_be_described_is_one_of_the_answers(tmp_path: Path) -> None:
    (told,) = run_module("domain_info", uri="test:///default", root_disk="vdz", state_path=str(tmp_path))["domains"]
    assert (told["name"], told["domain"], told["error"]["code"]) == ("test", None, "invalid_root_disk")


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        ({"reserved_host_memory_mb": -1}, "invalid_parameter", "reserved_host_memory_mb is -1"),
        ({"reserved_host_cpus": -2}, "invalid_parameter", "reserved_host_cpus is -2"),
        ({"ram_allocation_ratio": 0.0}, "invalid_parameter", "ram_allocation_ratio is 0.0"),
        ({"disk_allocation_ratio": float("nan")}, "invalid_parameter", "disk_allocation_ratio is nan"),
        ({"images_path": "/nowhere"}, "images_path_missing", "/nowhere"),
    ],
)
def test_bad_input_is_named_with_its_value(arguments: dict[str, Any], code: str, told: str) -> None:
    error = fail(**arguments)
    assert error.code == code
    assert told in error.message


def test_a_claim_of_a_newer_release_is_refused(tmp_path: Path) -> None:
    claims = tmp_path / "claims"
    claims.mkdir()
    (claims / "a.json").write_text('{"schema_version": 99}')
    assert fail(state_path=str(tmp_path)).code == "schema_too_new"
