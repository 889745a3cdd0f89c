# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Base images that a host holds, known by what they contain."""

from __future__ import annotations

from collections.abc import Iterable

from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.host_state import HostState
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.requirements import Base


def bytes_to_fetch(bases: Iterable[Base], host: HostState) -> int:
    """Size of the bases that the host is not known to hold."""
    held = host.texts("bases") or ()
    return sum(base.size_bytes for base in bases if base.sha256 not in held)
