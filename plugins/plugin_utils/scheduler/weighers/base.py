# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a weigher is."""

from __future__ import annotations

from typing import ClassVar

from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.context import Context
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.host_state import HostState


class Weigher:
    """Gives every host a raw value; the more, the better while the multiplier is positive.

    `minval` and `maxval` bound the raw values before they are normalised; `multiplier_key` is the aggregate metadata that overrides the
    multiplier on the hosts of an aggregate.
    """

    minval: ClassVar[float | None] = None
    maxval: ClassVar[float | None] = None
    multiplier_key: ClassVar[str]

    def __init__(self, context: Context, multiplier: float) -> None:
        self.context = context
        self.default_multiplier = multiplier

    def raw(self, host: HostState) -> float:
        """The value of one host."""
        raise NotImplementedError

    def multiplier(self, host: HostState) -> float:
        """The lowest multiplier that the host's aggregates give, else the one configured."""
        own = host.metadata_min(self.multiplier_key) if host.metadata else None
        return self.default_multiplier if own is None else float(own)
