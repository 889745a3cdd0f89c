# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""All that a plan needs to know about one domain, and every reason why it cannot be moved as it is."""

from __future__ import annotations

import contextlib
import copy
import os
import stat
import xml.etree.ElementTree as ET
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

from .._domain import (
    definition as _definition,
    edit as _edit,
    flavor_disks as _flavor_disks,
    media as _media,
    pins as _pins,
    references as _references,
    referring as _referring,
)
from .._host import bindings as _bindings, capabilities as _capabilities, networks as _networks
from .._journal.state_dir import StateDir
from .._libvirt import blocks as _blocks, definitions as _definitions, domains as _domains
from .._rules import differences as _differences, exclusive as _exclusive, host_cpus as _host_cpus, huge_pages as _huge_pages, value_kinds as _value_kinds
from .._rules.errors import KvmfleetError
from .._storage import (
    directories as _directories,
    identity as _identity,
    places as _places,
    pools as _pools,
    qemu_access as _qemu_access,
    qemu_img as _qemu_img,
    qemu_user as _qemu_user,
)
from .._storage.disk_use import DETACH, DiskUses
from .._system import paths as _paths, walking as _walking, whole_file as _whole_file
from . import (
    console_logs as _console_logs,
    handed_definition as _handed_definition,
    live_differences as _live_differences,
    power as _power,
    secrets as _secrets,
    snapshots as _snapshots,
)

_BOOT_FILE = "boot_file"
_MIB, _GIB = 1024**2, 1024**3
_AGENT = "org.qemu.guest_agent.0"
_NVRAM_FORMATS = {"fd": "raw", "qcow2": "qcow2"}


def domain_facts(
    domain: Any,
    state: StateDir,
    *,
    image_directories: Sequence[str],
    digests: bool = False,
    new_flavor: Mapping[str, Any] | None = None,
    root_disk: str | None = None,
    ephemeral_disk: str | None = None,
    swap_disk: str | None = None,
    live_differences: str | None = None,
    uses: DiskUses | None = None,
) -> dict[str, Any]:
    """The domain as plain JSON, without secrets.

    :param digests: identify the layers below the guest-writable one by content, which reads them once; else as far as that is known already.
    :param new_flavor: `vcpus`, `ram` (MiB) and `tuning` that it is to get: whatever keeps its definition from getting them is a refusal, and
        what it needs of a host is told as it will be.
    :param root_disk: target of the disk that a flavor's `disk` is about, where the rule of `_domain.definition.root_disk` takes another one.
    :param ephemeral_disk: target of the disk that its `ephemeral` is about, :param swap_disk: and its `swap`, where our metadata names none, or another one.
    :param live_differences: `keep` for the domain as its definition will be with all that the running guest has.
    :param uses: who uses what on the host, where several domains are described at once.
    """
    root = _definition.parse(_definitions.inactive_xml(domain, secure=False))
    live = _definition.parse(_definitions.live_xml(domain))
    active = _domains.is_active(domain)
    differing = _live_differences.found(live, root) if active else []
    root, unkept = _with_live(live, root) if differing and live_differences == _differences.KEEP else (root, [])
    defined = _definition.disks(root, root_disk)
    roles = _flavor_disks.roles(root, defined, {"ephemeral": ephemeral_disk, "swap": swap_disk})
    disks = [_disk_facts(domain.connect(), disk, state, image_directories, active, digests) for disk in defined]
    for disk in disks:
        disk["role"] = next((role for role, target in roles.items() if target == disk["target"]), None)
    for network in _definition.network_disks(root):
        disk = next(disk for disk in disks if disk["target"] == network.target)
        disk.update(network=asdict(network), virtual_size=_blocks.block_size(domain, network.target))
    files = [_boot_file(name, path) for name, path in _definition.boot_files(root).items()]
    boot_files = [_disk_facts(domain.connect(), file, state, image_directories, active, digests) for file in files]
    planned, unfit = _with_flavor(root, new_flavor)
    dedicated = bool(new_flavor["tuning"].get("dedicated")) if new_flavor and new_flavor["tuning"] else _pins.are_ours(root)
    secrets = _secrets.facts(domain.connect(), root)
    flavor = _definition.flavor_in_force(root)
    machine, arch = _definition.machine_and_arch(root)
    sizes = {"root" if disk["root"] else disk["role"]: disk.get("virtual_size") or 0 for disk in disks}
    facts = {
        "name": domain.name(),
        "uuid": domain.UUIDString(),
        "state": _domains.state_name(domain),
        "persistent": bool(domain.isPersistent()),
        "autostart": bool(domain.isPersistent() and domain.autostart()),
        "managed_save": _domains.has_managed_save(domain),
        "snapshots": _snapshots.facts(domain),
        "has_checkpoints": _domains.has_checkpoints(domain),
        "flavor": {
            **asdict(flavor),
            "disk": -(-sizes.get("root", 0) // _GIB),
            "ephemeral": -(-sizes.get("ephemeral", 0) // _GIB),
            "swap": -(-sizes.get("swap", 0) // _MIB),
        },
        "machine": machine,
        "arch": arch,
        "virt_type": root.get("type"),
        "emulator": root.findtext("devices/emulator"),
        "cpu": _cpu(domain, root),
        "tpm": _tpm(root),
        "secure_boot": _secure_boot(root, live if active else root),
        "cpu_shares": int(shares) if (shares := planned.findtext("cputune/shares", "")).isdigit() else None,
        "host_cpus": _host_cpus.needed(planned, pins=not dedicated),
        "pinned_cpus": sorted(set(_bindings.own_cpus(root))),
        "huge_pages": _huge_pages.needed(planned),
        "exclusive": _exclusive.by_kind(_exclusive.things(root, lasting=True)),
        "disks": disks,
        "free_targets": _flavor_disks.free_targets(root, defined, len(_flavor_disks.ROLES)),
        "boot_files": boot_files,
        "interfaces": list(_interfaces(domain.connect(), root)),
        "firmware": asdict(_firmware(domain.name(), live if active else root)),
        "console_logs": _console_logs.facts(root),
        "secrets": secrets,
        "references": [asdict(_staying(reference, secrets)) for reference in _referring.references(root)],
        "agent": _agent(live),
        "xml_digest": _definitions.xml_digest(domain),
        "live_differences": [{**difference._asdict(), "text": difference.text} for difference in differing],
    }
    images = {layer["path"] for disk in disks for layer in disk.get("chain", ())}
    reasons = [
        *unfit,
        *unkept,
        *_refusals(domain.connect(), facts, root, live, image_directories),
        *(("block_job_active", f"A block job works on a disk of the guest ({job}): let it end, or abort it.") for job in _blocks.block_jobs(domain)),
        *_used_by_others(uses or DiskUses(domain.connect(), state), facts),
        *_console_logs.refusals(facts["console_logs"], image_directories),
        *_snapshots.refusals(domain, images),
    ]
    names = {disk["target"]: disk["path"] for disk in (*disks, *boot_files) if disk["path"] and "network" not in disk}
    names.update({"nvram": facts["firmware"]["nvram"]} if facts["firmware"]["nvram"] else {})
    facts["owners"] = _qemu_access.owners(domain.connect(), root, names, active)
    process = _qemu_user.running_as(_qemu_user.of_host(domain.connect()), _qemu_user.labels(root, None)[0])
    facts["directories"] = _directories.facts(process, _files(facts, names, image_directories))
    facts["refusals"] = [{"code": code, "reason": reason} for code, reason in reasons]
    return facts


def _files(facts: Mapping[str, Any], names: Mapping[str, str], directories: Sequence[str]) -> Iterator[tuple[str, Sequence[str]]]:
    """Each file of the guest outside of storage pools, and the directories that the host has for such."""
    in_pools = {disk["path"] for disk in facts["disks"] if disk["pool"]}
    for name, path in names.items():
        if path not in in_pools:
            yield path, _value_kinds.variables_below(directories) if name == "nvram" else directories
    yield from ((log["path"], _value_kinds.logs_below(directories)) for log in facts["console_logs"])


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
        _edit.apply_flavor(planned, flavor["vcpus"], flavor["ram"], flavor["tuning"])
    except KvmfleetError as exc:
        return root, [(exc.code, exc.message)]
    return planned, []


def _staying(reference: _referring.Reference, secrets: Sequence[Mapping[str, Any]]) -> _referring.Reference:
    """The answer to a reference, other than that of the table for a secret whose value stays on this host."""
    found = next((secret for secret in secrets if secret["withheld"] and reference.name == secret[secret["by"]]), None)
    if reference.kind != "secret" or found is None:
        return reference
    return replace(reference, answer=_references.KEEP, reason=f"it {found['withheld']}; the destination must have it")


def _interfaces(conn: Any, root: ET.Element) -> Iterator[dict[str, Any]]:
    """Those of the definition; what sets no MTU has that of its bridge."""
    found = _definition.interfaces(root)
    bridges = _networks.bridges() if found else {}
    for nic in found:
        yield {**asdict(nic), "mtu": nic.mtu or (_networks.mtu(conn, nic.type, nic.source, bridges) if nic.source else None)}


def _firmware(name: str, root: ET.Element) -> _definition.Firmware:
    """Where libvirt chooses the firmware at each start, a definition does not say where the variables are: they bear the name of the domain."""
    found = _definition.firmware(root)
    if found.kind == "uefi" and found.nvram is None:
        for suffix, image_format in _NVRAM_FORMATS.items():
            path = os.path.join(_value_kinds.NVRAM_DIRECTORY, f"{name}_VARS.{suffix}")
            if os.path.isfile(path):
                return replace(found, nvram=path, nvram_format=image_format)
    return found


def _refusals(conn: Any, facts: dict[str, Any], root: ET.Element, live: ET.Element, directories: Sequence[str]) -> Iterator[tuple[str, str]]:
    active = facts["state"] != "shutoff"
    if not facts["persistent"]:
        yield "not_persistent", "The domain is transient: it vanishes when it stops. Define it first."
    if facts["managed_save"]:
        yield "managed_save", _power.SAVED
    if facts["has_checkpoints"]:
        yield "has_checkpoints", "libvirt knows checkpoints of the domain, which are not carried yet: delete them."
    if facts["virt_type"] not in _handed_definition.VIRT_TYPES:
        yield "unsupported_virt_type", f"The domain has the type {facts['virt_type']!r}; {' and '.join(_handed_definition.VIRT_TYPES)} can be moved."
    for target, defined, used in _live_differences.moved_disks(conn, live, root):
        yield "definition_differs", f"Disk {target} is {defined} in the definition, but the guest writes to {used}."
    if not any(disk["root"] for disk in facts["disks"]):
        yield "no_root_disk", "The domain has no writable disk that could be its root disk."
    for reference in facts["references"]:
        if reference["answer"] == _references.REFUSE:
            disk = next((disk for disk in facts["disks"] if disk["path"] == reference["name"]), None)
            code, target = f"unsupported_{reference['kind']}", f"Disk {disk['target']}, " if disk else ""
            way_out = _media.way_out(facts["name"], disk, code, directories, active=active) if disk else ""
            yield code, f"{target}{reference['name']}: {reference['reason']} ({reference['element']}).{way_out}"
    yield from _secrets.refusals(facts["secrets"], [disk["target"] for disk in facts["disks"] if disk["encrypted"] and disk["path"]])
    for disk in facts["disks"] + facts["boot_files"]:
        if "error" in disk:
            code, what = disk["error"]["code"], "File" if disk["device"] == _BOOT_FILE else "Disk"
            yield code, f"{what} {disk['target']}: {disk['error']['message']}{_media.way_out(facts['name'], disk, code, directories, active=active)}"
        yield from _image_refusals(disk, active)
    nvram = facts["firmware"]["nvram"]
    allowed = _value_kinds.variables_below(directories)
    if nvram and not _places.may_lie(nvram, allowed):
        yield (
            "image_outside_directories",
            f"The firmware variables {nvram} lie in none of the directories {', '.join(allowed)}, or behind a link there: add "
            "their directory to kvmfleet_image_directories on all hosts, or move them and say so in the definition (virsh edit, <nvram>).",
        )
    yield from _name_refusals(facts)
    yield from _link_refusals([disk["path"] for disk in facts["disks"] if disk["path"]], facts["firmware"]["nvram"])


def _link_refusals(disks: Iterable[str], nvram: str | None) -> Iterator[tuple[str, str]]:
    """What the writer will not touch. That there are no firmware variables is no refusal: a guest that was never started has none."""
    directories = dict.fromkeys(os.path.dirname(path) for path in disks)
    for path, opened in [*((directory, _walking.directory) for directory in directories), *([(nvram, _whole_file.opened)] if nvram else [])]:
        try:
            with contextlib.suppress(OSError), opened(path):
                pass
        except KvmfleetError as exc:
            yield exc.code, exc.message


def _name_refusals(facts: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """A name that an operation cannot append anything to: the destination asks its own filesystems again."""
    paths = [disk["path"] for disk in facts["disks"] + facts["boot_files"]] + [facts["firmware"]["nvram"], *(log["path"] for log in facts["console_logs"])]
    for name in map(_paths.too_long, dict.fromkeys(filter(None, paths))):
        if name is not None:
            yield "name_too_long", f"{name}."


def _used_by_others(uses: DiskUses, facts: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """What others need of what the guest has to itself. What it only reads, or shares by its definition, stays where it is."""
    own = [disk["path"] for disk in facts["disks"] if disk["device"] == "disk" and not (disk["readonly"] or disk["shareable"]) and disk["path"]]
    own += [facts["firmware"]["nvram"]] if facts["firmware"]["nvram"] else []
    for path, found in uses.of(own, guest=facts["uuid"]).items():
        yield "disk_in_use_by", f"{path} is used by {', '.join(dict.fromkeys(use.who for use in found))}. {DETACH}"


def _image_refusals(disk: dict[str, Any], active: bool) -> Iterator[tuple[str, str]]:
    layers = disk.get("chain", ())
    # An image with lazy refcounts that a guest writes to is dirty until QEMU closes it.
    for layer in layers[1:] if active else layers:
        if layer["dirty"]:
            yield "image_dirty", f"Disk {disk['target']}: {_qemu_img.DIRTY.format(path=layer['path'])}"
    if len(layers) > 1 and (disk["readonly"] or disk["device"] != "disk"):
        yield (
            "readonly_layers",
            f"Disk {disk['target']} is read-only and has {len(layers)} layers; what a guest only reads is carried byte for byte, without a base image: "
            "convert it to one file (qemu-img convert).",
        )
    if disk["encrypted"] and len(layers) > 1:
        yield "encrypted_layers", f"Disk {disk['target']} is encrypted and has {len(layers)} layers: convert it to one file (qemu-img convert)."
    if disk["encrypted"] and layers and layers[0]["format"] != "raw" and not layers[0]["encrypted"]:
        yield "image_not_encrypted", f"Disk {disk['target']}: {layers[0]['path']} is not encrypted, and the definition says that it is."
    for layer in layers:
        if layer["encrypted"] and not disk["encrypted"]:
            yield "image_encrypted", f"Disk {disk['target']}: {layer['path']} is encrypted, and the definition names no secret for it."
        if layer["corrupt"]:
            yield "image_corrupt", f"Disk {disk['target']}: {layer['path']} is marked corrupt; repair it (qemu-img check -r) first."


def _disk_facts(conn: Any, disk: _definition.Disk, state: StateDir, directories: Sequence[str], active: bool, digests: bool) -> dict[str, Any]:
    facts: dict[str, Any] = {
        "target": disk.target,
        "device": disk.device,
        "source_type": disk.source_type,
        "path": disk.path,
        "pool": disk.pool,
        "volume": disk.volume,
        "format": disk.format,
        "bus": disk.bus,
        "readonly": disk.readonly,
        "shareable": disk.shareable,
        "root": disk.is_root,
        "encrypted": disk.encrypted,
    }
    if disk.source_type not in ("file", "volume") or (disk.path or disk.volume) is None:
        return facts
    try:
        facts["path"] = _pools.path_of(conn, disk)
        if _media.is_left_out(disk, facts["path"]):
            return {**facts, **dict.fromkeys(("path", "pool", "volume")), "left_out": facts["path"]}
        layers = _qemu_img.chain(facts["path"], disk.format, directories, force_share=active)
        top = layers[0]
        size = _qemu_img.luks_size(top.path, force_share=active) if disk.encrypted and disk.format == "raw" else top.virtual_size
        facts["chain"] = [_layer_facts(layer) for layer in layers]
        identities = _identity.chain_identities if digests else _identity.kept_identities
        for layer, identity in zip(facts["chain"][1:], identities(state, layers[1:])):
            layer.update({"identity": identity} if identity else {})
    except KvmfleetError as exc:
        facts["error"] = {"code": exc.code, "message": exc.message}
        if exc.code == "image_outside_directories" and not os.path.lexists(facts["path"]):
            # Where it should lie is of no use to somebody who has to find out that it is gone.
            facts["error"] = {"code": "image_missing", "message": f"{facts['path']} does not exist."}
    except OSError as exc:
        facts["error"] = {"code": "image_unreadable", "message": f"{facts['path']} cannot be read: {exc}."}
    else:
        facts.update(virtual_size=size, allocated_bytes=top.actual_size, file_bytes=top.file_size)
    return facts


def _boot_file(name: str, path: str) -> _definition.Disk:
    """It travels as a medium does: byte for byte, and the source keeps it, since other guests may boot from it."""
    return _definition.Disk(
        target=name,
        device=_BOOT_FILE,
        source_type="file",
        path=path,
        pool=None,
        volume=None,
        format="raw",
        readonly=True,
        shareable=False,
        bus=None,
        serial=None,
        boot_order=None,
        is_root=False,
    )


def _layer_facts(layer: _qemu_img.Layer) -> dict[str, Any]:
    return {
        "path": layer.path,
        "format": layer.format,
        "virtual_size": layer.virtual_size,
        "allocated_bytes": layer.actual_size,
        "file_bytes": layer.file_size,
        "encrypted": layer.encrypted,
        "corrupt": layer.corrupt,
        "dirty": layer.dirty,
        "snapshots": list(layer.snapshots),
        "mode": f"{stat.S_IMODE(os.stat(layer.path).st_mode):04o}",
    }


def _cpu(domain: Any, root: ET.Element) -> dict[str, Any]:
    """Mode and model as defined; `features` is all that the guest gets of a model that is named, None where the host decides."""
    cpu = root.find("cpu")
    if cpu is None or cpu.find("model") is None:
        return {"mode": None if cpu is None else cpu.get("mode", "custom"), "model": None, "features": None}
    _machine, arch = _definition.machine_and_arch(root)
    xml = ET.tostring(cpu, encoding="unicode")
    features = _capabilities.expanded_features(domain.connect(), xml, root.get("type"), arch) if cpu.get("mode", "custom") == "custom" else None
    return {"mode": cpu.get("mode", "custom"), "model": root.findtext("cpu/model"), "features": features}


def _tpm(root: ET.Element) -> dict[str, str | None] | None:
    tpm = root.find("devices/tpm")
    backend = None if tpm is None else tpm.find("backend[@type='emulator']")
    return None if tpm is None else {"model": tpm.get("model"), "version": None if backend is None else backend.get("version")}


def _secure_boot(root: ET.Element, live: ET.Element) -> bool:
    """Whether it has to be in force. Where the definition leaves that to libvirt, it is what libvirt has chosen for the guest that runs."""
    told = root.find("os/loader") is not None or root.find("os/firmware/feature[@name='secure-boot']") is not None
    found = root if told else live
    return found.find("os/loader[@secure='yes']") is not None or found.find("os/firmware/feature[@name='secure-boot'][@enabled='yes']") is not None


def _agent(live: ET.Element) -> dict[str, bool]:
    targets = [target for target in live.findall("devices/channel/target") if target.get("name") == _AGENT]
    return {"configured": bool(targets), "connected": any(target.get("state") == "connected" for target in targets)}
