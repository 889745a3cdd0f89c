# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A CPU that the guest can live with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.context import Context
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.filters.base import Filter, Rejection
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.host_state import HostState
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.validation import mapping, strings

_SHOWN = 8


class CpuCompatibilityFilter(Filter):
    """The host offers every CPU feature that the guest sees, and knows its CPU model.

    `host-passthrough` shows the guest the CPU of the host, so it stays on CPUs of the same vendor and model which lack nothing, unless
    `allow_unlike_cpu` says otherwise. `host-model` and `maximum` are fitted to each host at the start of the guest and go anywhere.
    A host that reports no `cpu` for the guest's virtualization type is left to libvirt.
    """

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.cpu = context.request.requirements.cpu
        self.virt_type = context.request.requirements.virt_type
        current = context.current_host
        self.source = None if current is None else _Seen.of(current)
        self.features = frozenset(self.cpu.features or ()) if self.cpu else frozenset()
        here = None if current is None else current.mapping("cpu")
        if here and here.get("features") and here.get("virt_type") == self.virt_type:
            # What a model names and the guest's present host lacks, the guest does without already.
            self.features &= frozenset(strings(f"{current.path}.cpu.features", here["features"]))
        # libvirt may have put another model in place of one that it does not know there.
        self.replaced = bool(self.cpu and here and here.get("virt_type") == self.virt_type and self._unknown(f"{current.path}.cpu", here))

    def applies(self) -> bool:
        if self.cpu is None or self.cpu.mode in ("host-model", "maximum"):
            return False
        return self.cpu.mode != "host-passthrough" or not self.context.options.allow_unlike_cpu

    def rejection(self, host: HostState) -> Rejection | None:
        if self.cpu.mode == "host-passthrough":
            return self._passthrough(host)
        path, offered = f"{host.path}.cpu", host.mapping("cpu") or {}
        if self.virt_type not in (None, offered.get("virt_type")):
            return None
        if not self.replaced and self._unknown(path, offered):
            return self.reject(
                "cpu_model", f"does not know the CPU model {self.cpu.model}; its own is {offered.get('model')}", self.cpu.model, offered.get("model")
            )
        if self.cpu.features is not None and offered.get("features") is not None:
            missing = sorted(self.features.difference(strings(f"{path}.features", offered["features"])))
            if missing:
                return self.reject("cpu_features", f"its CPU ({offered.get('model')}) lacks {_listed(missing)}", ", ".join(missing), offered.get("model"))
        elif self.cpu.model and offered.get("models") and self.cpu.model not in strings(f"{path}.models", offered["models"]):
            return self.reject(
                "cpu_model", f"cannot offer the CPU model {self.cpu.model}; its own is {offered.get('model')}", self.cpu.model, offered.get("model")
            )
        return None

    def _unknown(self, path: str, offered: Mapping[str, Any]) -> bool:
        """Whether the host tells all models that it knows, and that of the guest is not among them."""
        if not self.cpu.model or offered.get("unusable_models") is None:
            return False
        return not any(self.cpu.model in strings(f"{path}.{key}", offered.get(key)) for key in ("models", "unusable_models"))

    def _passthrough(self, host: HostState) -> Rejection | None:
        if self.source is None or host.name == self.context.request.instance.host:
            return None
        there = _Seen.of(host)
        if there.name != self.source.name:
            reason = f"has {there.name}, the guest sees the {self.source.name} of its host"
        elif self.source.features - there.features:
            reason = f"lacks {_listed(sorted(self.source.features - there.features))}, which the guest sees of its host"
        else:
            return None
        return self.reject("cpu_unlike", f"{reason} (host-passthrough); allow_unlike_cpu permits it", self.source.name, there.name)


class _Seen:
    """A CPU as host-passthrough shows it."""

    def __init__(self, name: str, features: frozenset[str]) -> None:
        self.name = name
        self.features = features

    @classmethod
    def of(cls, host: HostState) -> _Seen:
        path = f"{host.path}.capabilities.cpu_info"
        info = mapping(path, (host.mapping("capabilities") or {}).get("cpu_info"))
        return cls(f"{info.get('vendor')} {info.get('model')}", frozenset(strings(f"{path}.features", info.get("features"))))


def _listed(names: list[str]) -> str:
    more = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {more} more" if more > 0 else "")
