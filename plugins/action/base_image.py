# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Says now and then how far the fetch of a base image is."""

from __future__ import annotations

import os

from ansible_collections.kvmfleet.compute.plugins.action import destination_copy


class ActionModule(destination_copy.ActionModule):
    """As for the disks of a guest, which come the same way."""

    def _takes_long(self) -> bool:
        return any(self._task.args.get(way) is not None for way in ("address", "url"))

    def _what(self) -> str:
        return f"base image {os.path.basename(str(self._task.args.get('path')))}, "
