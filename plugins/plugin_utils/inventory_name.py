# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the inventory calls the host of a task, which nobody on that host knows, and by which whoever reads a message knows it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def tell_host_its_name(task: Any, variables: Mapping[str, Any]) -> str:
    """Give the module of a task the option `host`, unless the user did, and return what the task's host is called."""
    name = task.delegate_to or variables["inventory_hostname"]
    return str(task.args.setdefault("host", name))
