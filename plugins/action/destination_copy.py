# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Says now and then how far the copy is while the module runs."""

from __future__ import annotations

import os
import shlex
from typing import Any

from ansible_collections.kvmfleet.compute.plugins.action import migration
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.planning.progress import copy_progress

_COPYING = ("precopied", "started")


class ActionModule(migration.ActionModule):
    """Reads the progress document of the host through a connection of its own meanwhile."""

    def _takes_long(self) -> bool:
        """Whether the module copies anything."""
        return self._task.args.get("state") in _COPYING

    def _what(self) -> str:
        """What is copied, where that is not the guest's disks."""
        return ""

    def _command(self, state: str, copies: str) -> str:
        """With a sign of life beside the document, without which a copy would go on whose controller vanished (see the module utility `_journal.desertion`)."""
        directory = os.path.dirname(copies)
        sign = f"printf %s {shlex.quote(str(self._task.args.get('owner')))} >{shlex.quote(os.path.join(directory, 'asked'))}"
        return f"[ ! -d {shlex.quote(directory)} ] || {{ {sign}; cat {shlex.quote(copies)} 2>/dev/null; }}"

    def _line(self, progress: dict[str, Any] | None, seconds: float) -> str | None:
        return f"{self._what()}{copy_progress(progress)}" if progress else None
