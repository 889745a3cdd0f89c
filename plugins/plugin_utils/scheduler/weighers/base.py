# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a weigher is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.context import Context
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.fleet_state import FleetState
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.host_state import HostState
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.validation import ValidationError


class Weigher:
    """Gives every host a raw value; the more, the better while the multiplier is positive.

    `minval` and `maxval` bound the raw values before they are normalised; `multiplier_key` is the aggregate metadata that overrides the
    multiplier on the hosts of an aggregate; `sign` is -1 for a weigher whose multiplier says how much worse a host gets; `may_be_negative`
    is false where a negative multiplier would turn the meaning around; `reads` names the optional parts of the request that the weigher honours.
    """

    minval: ClassVar[float | None] = None
    maxval: ClassVar[float | None] = None
    multiplier_key: ClassVar[str]
    sign: ClassVar[int] = 1
    may_be_negative: ClassVar[bool] = True
    reads: ClassVar[frozenset[str]] = frozenset()

    def __init__(self, context: Context, multiplier: float) -> None:
        if multiplier < 0 and not self.may_be_negative:
            raise ValidationError(f"scheduler.weighers.{type(self).__name__}", multiplier, "a number >= 0")
        self.context = context
        self.default_multiplier = multiplier * self.sign

    def applies(self) -> bool:
        """Whether the request gives the weigher anything to tell hosts apart by; one that has nothing is left out."""
        return True

    def raw(self, host: HostState) -> float:
        """The value of one host."""
        raise NotImplementedError

    def raws(self, fleet: FleetState, rows: Sequence[int]) -> list[float]:
        """The values of the hosts in these rows."""
        return [self.raw(fleet.host(row)) for row in rows]

    def multipliers(self, fleet: FleetState, rows: Sequence[int]) -> list[float]:
        """What the values of these hosts are multiplied with, worked out once for aggregates that say the same."""
        if not any(texts := fleet.metadata_texts(self.multiplier_key)):
            return [self.default_multiplier] * len(rows)
        told = [texts[row] for row in rows]
        known = {text: self.multiplier(fleet.host(row)) for text, row in dict(zip(told, rows)).items()}
        return [known[text] for text in told]

    def multiplier(self, host: HostState) -> float:
        """The lowest multiplier that the host's aggregates give, else the one configured."""
        own = host.metadata_min(self.multiplier_key)
        return self.default_multiplier if own is None else float(own) * self.sign


class ColumnWeigher(Weigher):
    """A weigher that reads its values off the columns."""

    def raw(self, host: HostState) -> float:
        return self.raws(host.fleet, [host.row])[0]
