# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Guests of the same kind of image."""

from __future__ import annotations

from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.host_state import HostState
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.weighers.base import Weigher
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.validation import mapping


class ImagePropertiesWeigher(Weigher):
    """How many image properties the guests of the host have in common with this one, by `image_properties` of the host's `domains`.

    With `image_props_weight_setting` only the properties named there count, each as much as it says.
    """

    multiplier_key = "image_props_weight_multiplier"

    def applies(self) -> bool:
        return bool(self.context.request.image)

    def raw(self, host: HostState) -> float:
        wanted = self.context.request.image
        known = [mapping(f"{host.path}.domains.image_properties", domain.get("image_properties")) for domain in host.mappings("domains")]
        shared = [name for properties in known for name, value in wanted.items() if name in properties and str(properties[name]) == value]
        ratios = self.context.options.image_props_weight_setting
        return sum(ratios.get(name, 0) for name in shared) if ratios else len(shared)
