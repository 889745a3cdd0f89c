# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the project of the example has beside the playbooks of the collection."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

PROJECT = Path(__file__).resolve().parents[2] / "examples/awx/project"


@pytest.mark.parametrize(
    ("handed_on", "said"),
    [
        ({"kvmfleet_error": {"code": "no_valid_host", "message": "No host can take web1."}, "kvmfleet_migrations": []}, "No host can take web1."),
        ({"kvmfleet_migrations": []}, "The move was cancelled or died. What became of the guest is in the job of recover."),
    ],
)
def test_a_workflow_whose_move_has_failed_fails_with_its_reason(handed_on: dict[str, Any], said: str) -> None:
    command = ["ansible-playbook", "-i", "localhost,", "move_failed.yml", "-e", json.dumps({"instance": "web1", **handed_on})]
    run = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False)
    assert run.returncode == 2, run.stdout
    assert f'"msg": "{said}"' in run.stdout
