# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Messages call a host as the inventory does, whatever the machine calls itself; in a whole run of ansible-playbook."""

from __future__ import annotations

import importlib
import json
import platform
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from ansible_collections.kvmfleet.compute.plugins.action import host_facts, migration
from ansible_collections.kvmfleet.compute.plugins.module_utils import _module
from ansible_collections.kvmfleet.compute.plugins.modules import migration_info

ROOT = Path(__file__).parents[4]
COLLECTION = "kvmfleet.compute"
NAME = "rack7-north"
OPERATION = {"migration_uuid": "9a6d5b8e-1111-4222-8333-0123456789ab", "owner": "one", "state_path": "/"}
RUNTIME = yaml.safe_load((ROOT / "meta/runtime.yml").read_text())
COLLECTIONS = str(Path(_module.__file__).parents[5])
FRAMES = ("plugins.module_utils._module import", "plugins.module_utils._operation.frame import")
"""What a module that runs on a host begins with; others are done by their action plugin, on the controller."""
MODULES = sorted(path.stem for path in (ROOT / "plugins/modules").glob("*.py") if any(frame in path.read_text() for frame in FRAMES))


@pytest.mark.parametrize("module", MODULES)
def test_every_module_of_a_host_is_told_what_the_inventory_calls_it(module: str) -> None:
    action = RUNTIME["plugin_routing"]["modules"].get(module, {}).get("action_plugin", f"{COLLECTION}.{module}").removeprefix(f"{COLLECTION}.")
    plugin = importlib.import_module(f"ansible_collections.{COLLECTION}.plugins.action.{action}").ActionModule
    assert plugin.run in (migration.ActionModule.run, host_facts.ActionModule.run)  # both are run below


@pytest.mark.parametrize("module", MODULES)
def test_every_module_of_a_host_documents_that_it_is_told(module: str) -> None:
    documented = yaml.safe_load(importlib.import_module(f"ansible_collections.{COLLECTION}.plugins.modules.{module}").DOCUMENTATION)
    assert f"{COLLECTION}.hanging" in documented["extends_documentation_fragment"]


def test_there_are_modules_of_hosts() -> None:
    assert len(MODULES) > 10


ASK = """
- hosts: NAME
  gather_facts: false
  tasks:
    - {name: Of the host itself, kvmfleet.compute.migration_info: {state_path: /}, register: itself, ignore_errors: true}

- hosts: localhost
  gather_facts: false
  tasks:
    - {name: For another host, kvmfleet.compute.migration: OPERATION, delegate_to: NAME, register: delegated, ignore_errors: true}
    - {name: By another name, kvmfleet.compute.migration_info: {state_path: /, host: fourth}, delegate_to: NAME, register: given, ignore_errors: true}
    - name: Hand on what was answered
      ansible.builtin.debug:
        msg: "told {{ [hostvars.NAME.itself, delegated, given] | map(attribute='msg') | map('split', ': ') | map('first') | list }}"
"""


def test_a_refusal_names_the_host_of_the_inventory_and_not_the_machine(tmp_path: Path) -> None:
    """Asked by itself, by a host that delegates, as the roles do, and by somebody who calls it otherwise."""
    local = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}
    (tmp_path / "inventory.json").write_text(json.dumps({"all": {"hosts": {NAME: local, "localhost": local}}}))
    playbook = ASK.replace("hostvars.NAME", f"hostvars['{NAME}']").replace("NAME", NAME).replace("OPERATION", json.dumps({**OPERATION, "state": "idle"}))
    (tmp_path / "ask.yml").write_text(playbook)
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "ANSIBLE_NOCOLOR": "1", "ANSIBLE_COLLECTIONS_PATH": COLLECTIONS}
    command = [str(Path(sys.executable).parent / "ansible-playbook"), "-i", "inventory.json", "ask.yml"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert f"told ['{NAME}', '{NAME}', 'fourth']" in done.stdout, done.stdout


def test_a_module_that_nobody_told_calls_the_machine_by_its_own_name() -> None:
    arguments = json.dumps({"ANSIBLE_MODULE_ARGS": {"state_path": "/"}})
    command = [sys.executable, migration_info.__file__]
    done = subprocess.run(command, input=arguments, env={"PYTHONPATH": COLLECTIONS}, capture_output=True, text=True, check=False)
    assert json.loads(done.stdout)["msg"].startswith(f"{platform.node()}: state_path: expected")
