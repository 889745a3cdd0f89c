# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the image asks of a hypervisor."""

from __future__ import annotations

import operator
import re
from collections.abc import Sequence

from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.context import Context
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.filters.base import Filter, Rejection
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.fleet_state import FleetState
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.host_state import HostState
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.validation import ValidationError, integer, mapping, number, sequence, strings

# In the order of a triple of `supported_instances`; the second name is the older one.
_TRIPLE = (("hw_architecture", "architecture"), ("img_hv_type", "hypervisor_type"), ("hw_vm_mode", "vm_mode"))
_VERSION = ("img_hv_requested_version", "hypervisor_version_requires")
_ALIASES = {"amd64": "x86_64", "x86-64": "x86_64", "i386": "i686", "i486": "i686", "i586": "i686", "arm64": "aarch64", "hv": "hvm", "pv": "xen"}
_COMPARISONS = {"<": operator.lt, "<=": operator.le, "==": operator.eq, "!=": operator.ne, ">=": operator.ge, ">": operator.gt}
_PREDICATE = re.compile(r"\s*(<=|>=|<|>|!=|==)\s*([0-9]+(?:\.[0-9]+){0,2})\s*")


class ImagePropertiesFilter(Filter):
    """One (architecture, hypervisor type, mode) of `supported_instances` has all that the image names; version and address bits are in range."""

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        properties = context.request.image
        asked = [next((properties[name] for name in names if properties.get(name)), "") for names in _TRIPLE]
        asked[0] = asked[0] or context.options.image_properties_default_architecture or ""
        self.wanted = [_canonical(word) for word in asked]
        self.text = " ".join(word for word in self.wanted if word)
        self.version = next(((name, properties[name]) for name in _VERSION if properties.get(name)), None)
        bits = properties.get("hw_maxphysaddr_bits")
        self.address_bits = integer("request.image.properties.hw_maxphysaddr_bits", bits, 1) if bits else 0
        self.predicates = _predicates(f"request.image.properties.{self.version[0]}", self.version[1]) if self.version else []

    def applies(self) -> bool:
        return bool(self.text or self.version or self.address_bits)

    def rejections(self, fleet: FleetState) -> dict[int, Rejection]:
        """A host that names the very triple needs no closer look."""
        if self.version or self.address_bits or not all(self.wanted):
            return super().rejections(fleet)
        wanted = self.wanted
        rows = [row for row, offered in enumerate(fleet.column("supported_instances")) if not isinstance(offered, list) or wanted not in offered]
        return self.asked(fleet, rows)

    def rejection(self, host: HostState) -> Rejection | None:
        path = f"{host.path}.supported_instances"
        offered = sequence(path, host.facts.get("supported_instances"))
        if (self.text or self.version) and not any(self._has_all(strings(path, triple)) for triple in offered):
            have = ", ".join(" ".join(_canonical(str(word)) for word in sequence(path, triple)) for triple in offered) or "nothing"
            return self.reject("image_properties", f"the image needs {self.text or 'a hypervisor'}, the host offers {have}", self.text, have)
        if self.version:
            name, wanted = self.version
            have = _host_version(host)
            if have is None or not all(compare(have, bound) for compare, bound in self.predicates):
                shown = ".".join(map(str, have)) if have else "unknown"
                return self.reject("image_properties", f"{name} is '{wanted}', the host's hypervisor is {shown}", wanted, shown)
        bits = _address_bits(host) if self.address_bits else None
        if bits is not None and bits < self.address_bits:
            reason = f"the image needs {self.address_bits} bits of physical addresses, the host has {bits}"
            return self.reject("image_properties", reason, self.address_bits, bits)
        return None

    def _has_all(self, triple: Sequence[str]) -> bool:
        return all(not wanted or wanted in (have, _canonical(str(have))) for wanted, have in zip(self.wanted, triple))


def _canonical(word: str) -> str:
    return _ALIASES.get(word.lower(), word.lower())


def _address_bits(host: HostState) -> int | None:
    """Width of the host's physical addresses, where it tells."""
    path = f"{host.path}.capabilities"
    info = mapping(f"{path}.cpu_info", mapping(path, host.facts.get("capabilities")).get("cpu_info"))
    bits = mapping(f"{path}.cpu_info.maxphysaddr", info.get("maxphysaddr")).get("bits")
    return None if bits is None else integer(f"{path}.cpu_info.maxphysaddr.bits", bits, 0)


def _predicates(path: str, text: str) -> list:
    predicates = []
    for part in text.split(","):
        match = _PREDICATE.fullmatch(part)
        if match is None:
            raise ValidationError(path, text, "version bounds such as '>=6.0,<9.0'")
        numbers = [int(word) for word in match[2].split(".")]
        predicates.append((_COMPARISONS[match[1]], tuple(numbers + [0] * (3 - len(numbers)))))
    return predicates


def _host_version(host: HostState) -> tuple[int, int, int] | None:
    """libvirt's number: major x 1,000,000 + minor x 1,000 + release."""
    value = host.facts.get("hypervisor_version")
    if value is None:
        return None
    version = int(number(f"{host.path}.hypervisor_version", value, 0))
    return version // 1_000_000, version // 1_000 % 1_000, version % 1_000
