# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The vCPUs bound to CPUs of the host that a flavor asked for (`hw:cpu_policy=dedicated`), as libvirt's vcpupin and emulatorpin.

As with other extra specs, our metadata keeps what was there before, which comes back with a flavor that asks for none, and what somebody has
changed by hand meanwhile stays.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Sequence
from typing import NamedTuple

from .._rules import cpu_set as _cpu_set
from . import tree as _tree
from .definition import own_record
from .tuning import BEFORE

_PERIODS = tuple(f"{what}_{kind}" for what in ("global", "emulator", "iothread") for kind in ("period", "quota"))


class _Pin(NamedTuple):
    """The number of a vCPU, None for the emulator; the set that we wrote, and the one before, None if there was none."""

    vcpu: str | None
    cpuset: str
    was: str | None


def are_ours(root: ET.Element) -> bool:
    """Whether a flavor has bound the vCPUs."""
    return own_record(root, "pins") is not None


def apply(root: ET.Element, pins: Sequence[int] | None) -> None:
    """Bind vCPU N to the CPU `pins[N]`, and the emulator to all of these, as Nova does.

    :param pins: None for none: what an earlier flavor bound is as it was before that.
    """
    kept = {pin.vcpu: pin for pin in _recorded(root) if _read(root, pin.vcpu) == pin.cpuset}
    for pin in kept.values():
        _write(root, pin.vcpu, pin.was)
    if pins is None:
        _tree.record(root, "pins", None)
        return
    sets = {str(vcpu): str(cpu) for vcpu, cpu in enumerate(pins)}
    wanted = [_Pin(vcpu, cpuset, _read(root, vcpu)) for vcpu, cpuset in [*sets.items(), (None, _cpu_set.listed(set(pins)))]]
    for pin in wanted:
        _write(root, pin.vcpu, pin.cpuset)
    given = [{name: text for name, text in pin._asdict().items() if text is not None} for pin in wanted]
    _tree.record(root, "pins", {}, [("pin", attributes) for attributes in given])


def _recorded(root: ET.Element) -> list[_Pin]:
    items = _tree.items_of(own_record(root, "pins"), "pin")
    return [_Pin(item.get("vcpu"), item.get("cpuset", ""), item.get("was")) for item in items]


def _find(root: ET.Element, vcpu: str | None) -> ET.Element | None:
    if vcpu is None:
        return root.find("cputune/emulatorpin")
    return next((pin for pin in root.findall("cputune/vcpupin") if pin.get("vcpu") == vcpu), None)


def _read(root: ET.Element, vcpu: str | None) -> str | None:
    element = _find(root, vcpu)
    return None if element is None else element.get("cpuset")


def _write(root: ET.Element, vcpu: str | None, cpuset: str | None) -> None:
    """Set it, or remove it (None), and a `<cputune>` that is empty then."""
    tune, element = root.find("cputune"), _find(root, vcpu)
    if cpuset is None:
        if tune is not None and element is not None:
            _tree.remove(tune, element)
            if not len(tune):
                _tree.remove(root, tune)
        return
    if tune is None:
        tune = ET.Element("cputune")
        _tree.insert_after(root, tune, BEFORE["cputune"])
    if element is None:
        element = ET.Element("emulatorpin") if vcpu is None else ET.Element("vcpupin", {"vcpu": vcpu})
        _tree.insert_after(tune, element, ("shares", "period", "quota", *_PERIODS, "vcpupin"))
    element.set("cpuset", cpuset)
