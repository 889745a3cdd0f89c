# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""PCI devices for guests."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.context import Context
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.filters.base import Filter, Rejection
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.host_state import HostState
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.validation import ValidationError, integer, number

_ALIAS = "pci_passthrough:alias"


class PciPassthroughFilter(Filter):
    """The host has the free devices that the extra spec `pci_passthrough:alias` (`NAME:COUNT,...`) asks for.

    `pci_alias` of the options says which vendor and product a name stands for. A host lists free devices as `pci_devices`, with
    `vendor_id`, `product_id` and `count`.
    """

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.requests = _requests(context)

    def applies(self) -> bool:
        return bool(self.requests)

    def rejection(self, host: HostState) -> Rejection | None:
        pools = free_pools(host)
        for name, wanted, count in self.requests:
            have = 0
            for pool in pools:
                if all(pool["device"].get(key) == text for key, text in wanted.items()):
                    taken = min(count - have, pool["count"])
                    pool["count"] -= taken
                    have += taken
            if have < count:
                return self.reject("pci", f"needs {count} free PCI devices '{name}', has {have}", count, have)
        return None


def free_pools(host: HostState) -> list[dict[str, Any]]:
    """The free devices of a host, each kind with its count."""
    return [
        {
            "device": {key: str(device.get(key)).lower() for key in ("vendor_id", "product_id")},
            "count": number(f"{host.path}.pci_devices.count", device.get("count"), 0),
        }
        for device in host.mappings("pci_devices")
    ]


def _requests(context: Context) -> list[tuple[str, Mapping[str, str], int]]:
    text, aliases = context.request.flavor.extra_specs.get(_ALIAS), context.options.pci_alias or {}
    path = f"request.flavor.extra_specs.{_ALIAS}"
    requests = []
    for part in text.split(",") if text else ():
        name, _colon, count = part.strip().partition(":")
        if name not in aliases:
            raise ValidationError(path, text, f"names out of scheduler.pci_alias ({', '.join(sorted(aliases)) or 'it is empty'})")
        requests.append((name, aliases[name], integer(path, count or 1, 1)))
    return requests
