# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The vCPUs of a definition: how many, which of them are online, what tunes each, and the topology that the guest sees."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Mapping

from .._rules import cpu_set as _cpu_set
from . import tree as _tree
from .definition import integer, own_record

_INNER = ("dies", "clusters", "cores", "threads")
_BEFORE_CPU = ("os", "bootloader", "bootloader_args", "sysinfo", "idmap", "features")


def maximum(root: ET.Element) -> int:
    """How many vCPUs the guest can have, those that are offline included."""
    vcpu = root.find("vcpu")
    return 1 if vcpu is None else integer(vcpu.text, "vcpu", least=1)


def set_vcpus(root: ET.Element, vcpus: int) -> None:
    """Give the guest so many vCPUs, all of them online. What tunes a vCPU that goes, goes with it; nothing is invented for a new one."""
    element = root.find("vcpu")
    if element is None:
        element = ET.Element("vcpu")
        _tree.insert_after(root, element, ("currentMemory", "memory", "maxMemory", "name"))
    element.text = str(vcpus)
    element.attrib.pop("current", None)
    _set_individual_vcpus(root, vcpus)
    tune = root.find("cputune")
    if tune is not None:
        for pin in tune.findall("vcpupin"):
            if integer(pin.get("vcpu", "0"), "vcpupin") >= vcpus:
                _tree.remove(tune, pin)
        _trim(tune, vcpus)


def set_topology(root: ET.Element, vcpus: int, wanted: Mapping[str, int] | None) -> None:
    """Let the topology multiply to the vCPUs.

    Without a wish (`sockets`, `cores`, `threads`) keep dies, clusters, cores and threads and vary the sockets; where they do not divide the
    vCPUs, one core a socket. The shape that had to give way is kept in our metadata, empty where there was none, and comes back with the
    first flavor that it fits.
    """
    topology, kept = root.find("cpu/topology"), own_record(root, "topology")
    source = topology if kept is None else kept
    shape = {} if source is None else {name: value for name, value in source.attrib.items() if name in _INNER}
    if wanted is not None:
        inner = {**dict.fromkeys(shape, 1), "cores": wanted["cores"], "threads": wanted["threads"]}
        _write_topology(root, wanted["sockets"], inner)
        _tree.record(root, "topology", shape)
    elif shape:
        size = 1
        for name, value in shape.items():
            size *= integer(value, f"topology {name}", least=1)
        fits = vcpus % size == 0
        _write_topology(root, vcpus // size if fits else vcpus, {name: value if fits else 1 for name, value in shape.items()})
        _tree.record(root, "topology", None if fits else shape)
    elif kept is not None:
        _remove_topology(root)
        _tree.record(root, "topology", None)
    elif topology is not None:
        topology.set("sockets", str(vcpus))


def cpu_element(root: ET.Element) -> ET.Element:
    """The `<cpu>` of the definition, a new one if there is none."""
    cpu = root.find("cpu")
    if cpu is None:
        cpu = ET.Element("cpu")
        _tree.insert_after(root, cpu, _BEFORE_CPU)
    return cpu


def drop_empty_cpu(root: ET.Element) -> None:
    """Remove a `<cpu>` that says nothing any more."""
    cpu = root.find("cpu")
    if cpu is not None and not len(cpu) and not cpu.attrib:
        _tree.remove(root, cpu)


def _write_topology(root: ET.Element, sockets: int, inner: Mapping[str, object]) -> None:
    topology = root.find("cpu/topology")
    if topology is None:
        topology = ET.Element("topology")
        _tree.insert_after(cpu_element(root), topology, ("arch", "model", "vendor", "microcode", "signature"))
    topology.attrib.update(sockets=str(sockets), **{name: str(value) for name, value in inner.items()})


def _remove_topology(root: ET.Element) -> None:
    cpu, topology = root.find("cpu"), root.find("cpu/topology")
    if topology is not None:
        _tree.remove(cpu, topology)
        drop_empty_cpu(root)


def _set_individual_vcpus(root: ET.Element, vcpus: int) -> None:
    """Where vCPUs are listed one by one, list all of them, online; new ones are hot-pluggable if any was."""
    listed = root.find("vcpus")
    if listed is None:
        return
    known = {element.get("id"): element for element in listed.findall("vcpu")}
    pluggable = "yes" if any(element.get("hotpluggable") == "yes" for element in known.values()) else "no"
    for number in range(vcpus):
        if str(number) not in known:
            known[str(number)] = ET.SubElement(listed, "vcpu", {"id": str(number), "enabled": "yes", "hotpluggable": pluggable})
    for number, element in known.items():
        element.set("enabled", "yes")
        element.attrib.pop("order", None)
        if integer(number, "vcpu id") >= vcpus:
            _tree.remove(listed, element)


def _trim(parent: ET.Element, vcpus: int) -> None:
    """Take vCPUs that are gone out of the lists of vcpusched, cachetune, memorytune and their monitors; a list that is empty goes."""
    for element in list(parent):
        text = element.get("vcpus")
        if text is None:
            continue
        numbers = _cpu_set.parse(text, f"{element.tag} vcpus")
        left = {number for number in numbers if number < vcpus}
        if not left:
            _tree.remove(parent, element)
            continue
        if left != numbers:
            element.set("vcpus", _cpu_set.listed(left))
        _trim(element, vcpus)
