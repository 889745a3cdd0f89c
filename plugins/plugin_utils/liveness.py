# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A connection to a host that stopped without a word ends by itself: ssh asks the host for a sign of life now and then."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

DEFAULT_LIMIT = 60.0
_TIMES = 4


def keep_asking(connection: Any, arguments: Mapping[str, Any]) -> None:
    """Let the ssh that Ansible starts give the host up after about as long as a module there may hang; what the user says of that goes first.

    :param connection: of a task; one of another kind is left alone. :param arguments: those of the module.
    """
    if connection.transport != "ssh":
        return
    try:
        limit = float(arguments.get("hang_timeout", DEFAULT_LIMIT))
    except (TypeError, ValueError):
        return  # the module says better what is wrong with it
    before = connection.get_option("ssh_extra_args") or ""
    ask = f"-o ServerAliveInterval={max(1, round(limit / _TIMES))} -o ServerAliveCountMax={_TIMES}"
    connection.set_option("ssh_extra_args", f"{before} {ask}".strip())
