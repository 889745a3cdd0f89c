# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A playbook of ours in a playbook of somebody else that leaves it out. What narrows a run itself is tried by `tests/compat/narrowed.py`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from ansible_collections.kvmfleet.compute.plugins.plugin_utils import run

SITE = """
- name: Ours
  import_playbook: kvmfleet.compute.status
  {how}
- name: Theirs
  hosts: localhost
  gather_facts: false
  tasks:
    - name: Go on
      ansible.builtin.debug:
        msg: went on
"""


@pytest.mark.parametrize(("how", "options"), [("when: false", ()), ("tags: [fleet]", ("--skip-tags", "fleet"))], ids=["condition", "tags"])
def test_whoever_leaves_out_a_playbook_of_ours_goes_on_with_his_own(tmp_path: Path, how: str, options: tuple[str, ...]) -> None:
    (tmp_path / "site.yml").write_text(SITE.format(how=how))
    (tmp_path / "inventory.ini").write_text("[compute]\nkvm1 ansible_connection=local ansible_python_interpreter=/nowhere/python\n")
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "ANSIBLE_NOCOLOR": "1", "ANSIBLE_COLLECTIONS_PATH": str(Path(run.__file__).parents[5])}
    command = [Path(sys.executable).parent / "ansible-playbook", "-i", "inventory.ini", "site.yml", *options]
    done = subprocess.run(command, cwd=tmp_path, env=environment, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "went on" in done.stdout
    assert "kvm1" not in done.stdout
