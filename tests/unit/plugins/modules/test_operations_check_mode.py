# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""In check mode no module of an operation changes anything: state directory and images are afterwards what they were, byte for byte."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from ansible_collections.kvmfleet.compute.plugins.module_utils._journal.records import Journal
from ansible_collections.kvmfleet.compute.plugins.module_utils._journal.state_dir import StateDir
from ansible_collections.kvmfleet.compute.plugins.module_utils._storage import shared_storage as _shared_storage
from ansible_collections.kvmfleet.compute.plugins.modules import destination_copy, migration, resize_in_place, source_copy
from ansible_collections.kvmfleet.compute.tests.unit.plugins.modules.test_facts_modules import run_module

MODULES = {module.__name__.rpartition(".")[2]: (module, role) for module, role in (
    (source_copy, "source"), (destination_copy, "destination"), (resize_in_place, "in_place"), (migration, "source"),
)}  # fmt: skip
"""Those whose `state` names what is to become of an operation, and what their host is to it."""
FLAVOR = {"name": None, "vcpus": 1, "ram": 64, "disk": 1, "ephemeral": 0, "swap": 0, "extra_specs": {}}
GIVEN = {"address": "192.0.2.1", "port": 49152, "key": "0" * 64, "destination_host": "kvm2", "shared": ["vda"]}
"""Whatever a state may require."""


def states() -> list[tuple[str, str]]:
    return [(name, state) for name, (module, _role) in MODULES.items() for state in options(module)["state"]["choices"]]


def options(module: Any) -> dict[str, Any]:
    return yaml.safe_load(module.DOCUMENTATION)["options"]


def content(directory: Path) -> dict[str, tuple[bytes, int]]:
    """What each file holds, and when it was written last; locks hold nothing."""
    files = (path for path in sorted(directory.rglob("*")) if path.is_file() and "locks" not in path.parts)
    return {str(path): (path.read_bytes(), path.stat().st_mtime_ns) for path in files}


def plan(images: Path) -> dict[str, Any]:
    """The record of one, of a guest with a disk."""
    disk = {"target": "vda", "kind": "disk", "path": str(images / "web.img"), "format": "raw", "chain": [], "bases": [], "grow_to": None}
    parties = {"instance_uuid": "u-1", "instance_name": "web1", "source_host": "kvm1", "migration_type": "resize"}
    return {**parties, "disks": [disk], "nvram": None, "old_flavor": FLAVOR, "new_flavor": FLAVOR}


@pytest.mark.invariant(13)
@pytest.mark.parametrize(("name", "state"), states())
def test_no_state_is_reached_in_check_mode(tmp_path: Path, name: str, state: str) -> None:
    images, (module, role) = tmp_path / "images", MODULES[name]
    images.mkdir()
    (images / "web.img").write_bytes(b"data" * 1024)
    journal = Journal(StateDir(str(tmp_path / "state")))
    if state != "present":
        more = {"uuid": "m-1", "owner": "run-1", "role": role, "destination_host": "kvm2", "image_directories": [str(images)]}
        journal.begin({**plan(images), **more, "was_running": False})
    probes = _shared_storage.draw([str(images)])
    _shared_storage.write(probes)
    before = content(tmp_path)
    needed = {key: value for key, value in {**GIVEN, "probes": probes}.items() if key in options(module)}
    needed.update({"plan": plan(images)} if state == "present" else {})
    told = run_module(name, check=True, state=state, migration_uuid="m-1", owner="run-1", state_path=journal.state.path, uri="test:///default", **needed)
    assert not told.get("failed"), told
    assert content(tmp_path) == before
