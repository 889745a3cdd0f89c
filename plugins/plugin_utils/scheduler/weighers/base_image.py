# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Hosts that hold the guest's base images."""

from __future__ import annotations

from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.bases import bytes_to_fetch
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.host_state import HostState
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.weighers.base import Weigher


class BaseImageWeigher(Weigher):
    """Bytes of base images that need not travel, since the host holds the same content."""

    multiplier_key = "base_image_weight_multiplier"

    def applies(self) -> bool:
        return bool(self.context.request.requirements.bases)

    def raw(self, host: HostState) -> float:
        bases = self.context.request.requirements.bases
        return sum(base.size_bytes for base in bases) - bytes_to_fetch(bases, host)
