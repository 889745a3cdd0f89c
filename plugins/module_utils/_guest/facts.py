# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""All that a plan needs to know about one domain, and every reason why it cannot be moved as it is."""

from __future__ import annotations

import copy
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from typing import Any

from .._domain import (
    definition as _definition,
    flavor as _flavor,
    flavor_disks as _flavor_disks,
    origin as _origin,
    pins as _pins,
    referring as _referring,
)
from .._host import bindings as _bindings, capabilities as _capabilities, networks as _networks
from .._journal.state_dir import StateDir
from .._libvirt import blocks as _blocks, definitions as _definitions, domains as _domains
from .._rules import differences as _differences, exclusive as _exclusive, host_cpus as _host_cpus, huge_pages as _huge_pages
from .._rules.errors import KvmfleetError
from .._storage import (
    directories as _directories,
    identity as _identity,
    qemu_access as _qemu_access,
    qemu_user as _qemu_user,
)
from .._storage.disk_use import DiskUses
from .._storage.kinds import registry as _kinds
from .._storage.kinds.kind import Examined
from . import (
    live_differences as _live_differences,
)
from .belongings import registry as _belongings
from .belongings.belonging import Guest
from .disks import boot_file, disk_facts
from .fitness import refusals

_MIB, _GIB = 1024**2, 1024**3
_AGENT = "org.qemu.guest_agent.0"


def domain_facts(
    domain: Any,
    state: StateDir,
    *,
    image_directories: Sequence[str],
    identify: bool = False,
    new_flavor: Mapping[str, Any] | None = None,
    root_disk: str | None = None,
    ephemeral_disk: str | None = None,
    swap_disk: str | None = None,
    live_differences: str | None = None,
    uses: DiskUses | None = None,
) -> dict[str, Any]:
    """The domain as plain JSON, without secrets.

    :param identify: find out the ContentId of the layers below the guest-writable one, which reads them once; else as far as that is known already.
    :param new_flavor: `vcpus`, `ram` (MiB) and `tuning` that it is to get: whatever keeps its definition from getting them is a refusal, and
        what it needs of a host is told as it will be.
    :param root_disk: target of the disk that a flavor's `disk` is about, where the rule of `_domain.definition.root_disk` takes another one.
    :param ephemeral_disk: target of the disk that its `ephemeral` is about, :param swap_disk: and its `swap`, where our metadata names none, or another one.
    :param live_differences: `keep` for the domain as its definition will be with all that the running guest has.
    :param uses: who uses what on the host, where several domains are described at once.
    """
    conn = domain.connect()
    root = _definition.parse(_definitions.inactive_xml(domain, secure=False))
    live = _definition.parse(_definitions.live_xml(domain))
    active = _domains.is_active(domain)
    differing = _live_differences.found(live, root) if active else []
    root, unkept = _with_live(live, root) if differing and live_differences == _differences.KEEP else (root, [])
    planned, unfit = _with_flavor(root, new_flavor)
    dedicated = bool(new_flavor["tuning"].get("dedicated")) if new_flavor and new_flavor["tuning"] else _pins.are_ours(root)
    defined = _definition.disks(root, root_disk)
    content_ids = partial(_identity.content_ids if identify else _identity.known_content_ids, state)
    known = partial(disk_facts, Examined(conn, root, image_directories, active, content_ids, partial(_blocks.block_size, domain)))
    disks = _with_roles([known(disk) for disk in defined], _flavor_disks.roles(root, defined, {"ephemeral": ephemeral_disk, "swap": swap_disk}, _kinds.unfit))
    guest = Guest(domain, root, live if active else root)
    belonging = _belongings.facts(guest)
    facts = {
        **_state_of(domain, root),
        **_machine_of(domain, root, live if active else root),
        **_needs_of(root, planned, dedicated),
        **belonging,
        "flavor": _flavor_of(root, disks),
        "disks": disks,
        "free_targets": _flavor_disks.free_targets(root, defined, len(_flavor_disks.ROLES)),
        "boot_files": [known(boot_file(name, path)) for name, path in _definition.boot_files(root).items()],
        "interfaces": list(_interfaces(conn, root)),
        "references": [asdict(_belongings.answered(reference, belonging)) for reference in _referring.references(root)],
        "agent": _agent(live),
        "xml_digest": _definitions.fingerprint(domain),
        "live_differences": [{**difference._asdict(), "text": difference.text} for difference in differing],
    }
    reasons = [*unfit, *unkept, *refusals(guest, uses or DiskUses(conn, state), facts, live, image_directories)]
    names = _files_by_name(facts)
    return {
        **facts,
        "owners": _qemu_access.owners(conn, root, names, active),
        "directories": _directories.facts(_process(conn, root), _files(facts, image_directories)),
        "refusals": [{"code": code, "reason": reason} for code, reason in reasons],
    }


def _state_of(domain: Any, root: ET.Element) -> dict[str, Any]:
    """What libvirt says of the domain, besides its definition, and where a drain took it from."""
    return {
        "name": domain.name(),
        "uuid": domain.UUIDString(),
        "state": _domains.state_name(domain),
        "persistent": bool(domain.isPersistent()),
        "autostart": bool(domain.isPersistent() and domain.autostart()),
        "managed_save": _domains.has_managed_save(domain),
        "origin": _origin.read(root),
    }


def _machine_of(domain: Any, root: ET.Element, chosen: ET.Element) -> dict[str, Any]:
    """The machine that the guest sees.

    :param chosen: what libvirt has made of the definition for a guest that runs; of one that is off, the definition.
    """
    machine, arch = _definition.machine_and_arch(root)
    return {
        "machine": machine,
        "arch": arch,
        "virt_type": root.get("type"),
        "emulator": root.findtext("devices/emulator"),
        "cpu": _cpu(domain, root),
        "secure_boot": _secure_boot(root, chosen),
    }


def _needs_of(root: ET.Element, planned: ET.Element, dedicated: bool) -> dict[str, Any]:
    """What the guest takes of a host, besides vCPUs and memory: as it is, and where a flavor is planned, as it will be.

    :param dedicated: its vCPUs are bound at each host anew.
    """
    shares = planned.findtext("cputune/shares", "")
    return {
        "cpu_shares": int(shares) if shares.isdigit() else None,
        "host_cpus": _host_cpus.needed(planned, pins=not dedicated),
        "pinned_cpus": sorted(set(_bindings.own_cpus(root))),
        "huge_pages": _huge_pages.needed(planned),
        "exclusive": _exclusive.by_kind(_exclusive.things(root, lasting=True)),
    }


def _flavor_of(root: ET.Element, disks: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The flavor in force, with the sizes of the disks that a flavor is about, rounded up."""
    sizes = {"root" if disk["root"] else disk["role"]: disk.get("virtual_size") or 0 for disk in disks}
    return {
        **asdict(_definition.flavor_in_force(root)),
        "disk": -(-sizes.get("root", 0) // _GIB),
        "ephemeral": -(-sizes.get("ephemeral", 0) // _GIB),
        "swap": -(-sizes.get("swap", 0) // _MIB),
    }


def _with_roles(disks: list[dict[str, Any]], roles: Mapping[str, str]) -> list[dict[str, Any]]:
    """The disks with the role that each has for a flavor."""
    return [{**disk, "role": next((role for role, target in roles.items() if target == disk["target"]), None)} for disk in disks]


def _process(conn: Any, root: ET.Element) -> _qemu_user.Process:
    """As whom its QEMU runs."""
    return _qemu_user.running_as(_qemu_user.of_host(conn), _qemu_user.labels(root, None)[0])


def _files_by_name(facts: Mapping[str, Any]) -> dict[str, str]:
    """What the guest writes to or reads, by the name that it has in the channel."""
    return {**_disk_files(facts), **_belongings.sent(facts)}


def _disk_files(facts: Mapping[str, Any]) -> dict[str, str]:
    return {disk["target"]: disk["path"] for disk in (*facts["disks"], *facts["boot_files"]) if disk["path"]}


def _files(facts: Mapping[str, Any], directories: Sequence[str]) -> Iterator[tuple[str, Sequence[str]]]:
    """Each file of the guest outside of storage pools, and the directories that the host has for such."""
    in_pools = {disk["path"] for disk in facts["disks"] if not _kinds.of(disk).makes_directories}
    yield from ((path, directories) for path in _disk_files(facts).values() if path not in in_pools)
    yield from ((file.path, file.below) for file in _belongings.files(facts, directories))


def _with_live(live: ET.Element, root: ET.Element) -> tuple[ET.Element, list[tuple[str, str]]]:
    """The definition as it will be with all that the guest has, and what cannot be kept."""
    try:
        return _live_differences.kept(live, root), []
    except KvmfleetError as exc:
        return root, [(exc.code, exc.message)]


def _with_flavor(root: ET.Element, flavor: Mapping[str, Any] | None) -> tuple[ET.Element, list[tuple[str, str]]]:
    """The definition as it will be, and what it cannot be given: found out while the guest still runs."""
    if flavor is None:
        return root, []
    planned = copy.deepcopy(root)
    try:
        _flavor.apply_flavor(planned, flavor["vcpus"], flavor["ram"], flavor["tuning"])
    except KvmfleetError as exc:
        return root, [(exc.code, exc.message)]
    return planned, []


def _interfaces(conn: Any, root: ET.Element) -> Iterator[dict[str, Any]]:
    """Those of the definition; what sets no MTU has that of its bridge."""
    found = _definition.interfaces(root)
    bridges = _networks.bridges() if found else {}
    for nic in found:
        yield {**asdict(nic), "mtu": nic.mtu or (_networks.mtu(conn, nic.type, nic.source, bridges) if nic.source else None)}


def _cpu(domain: Any, root: ET.Element) -> dict[str, Any]:
    """Mode and model as defined; `features` is all that the guest gets of a model that is named, None where the host decides."""
    cpu = root.find("cpu")
    if cpu is None or cpu.find("model") is None:
        return {"mode": None if cpu is None else cpu.get("mode", "custom"), "model": None, "features": None}
    _machine, arch = _definition.machine_and_arch(root)
    xml = ET.tostring(cpu, encoding="unicode")
    features = _capabilities.expanded_features(domain.connect(), xml, root.get("type"), arch) if cpu.get("mode", "custom") == "custom" else None
    return {"mode": cpu.get("mode", "custom"), "model": root.findtext("cpu/model"), "features": features}


def _secure_boot(root: ET.Element, live: ET.Element) -> bool:
    """Whether it has to be in force. Where the definition leaves that to libvirt, it is what libvirt has chosen for the guest that runs."""
    told = root.find("os/loader") is not None or root.find("os/firmware/feature[@name='secure-boot']") is not None
    found = root if told else live
    return found.find("os/loader[@secure='yes']") is not None or found.find("os/firmware/feature[@name='secure-boot'][@enabled='yes']") is not None


def _agent(live: ET.Element) -> dict[str, bool]:
    targets = [target for target in live.findall("devices/channel/target") if target.get("name") == _AGENT]
    return {"configured": bool(targets), "connected": any(target.get("state") == "connected" for target in targets)}
