# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A callback plugin that keeps the packed modules of a playbook for the next ones.

Ansible packs a module once a playbook, together with all that it imports, in half a second of processor time; the tests run hundreds of playbooks.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

from ansible import constants as C
from ansible.plugins.callback import CallbackBase

DOCUMENTATION = r"""
name: packed
type: notification
short_description: Pack each module once
description:
  - For the integration tests, whose modules stay the same from one playbook to the next.
  - E(KVMFLEET_PACKED) is a directory for what has been packed.
author: kvmfleet contributors
"""


def _copy_missing(source: Path, target: Path) -> None:
    """Copy the packed modules that the target lacks, each at once or not at all: playbooks run side by side."""
    target.mkdir(parents=True, exist_ok=True)
    for path in source.glob("*"):
        if path.suffix in (".lock", ".part") or path.name.endswith("-part") or (target / path.name).exists():
            continue
        with tempfile.NamedTemporaryFile(dir=target, suffix=".part", delete=False) as copy:
            shutil.copyfile(path, copy.name)
        os.replace(copy.name, target / path.name)


class CallbackModule(CallbackBase):
    """Does nothing unless its environment variable is set."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "notification"
    CALLBACK_NAME = "packed"

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        self._own = Path(C.DEFAULT_LOCAL_TMP) / "ansiballz_cache"
        if "KVMFLEET_PACKED" in os.environ:
            _copy_missing(Path(os.environ["KVMFLEET_PACKED"]), self._own)

    def v2_playbook_on_stats(self, stats):
        if "KVMFLEET_PACKED" in os.environ:
            _copy_missing(self._own, Path(os.environ["KVMFLEET_PACKED"]))
