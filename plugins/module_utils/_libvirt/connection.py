# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The only file that imports libvirt."""

from __future__ import annotations

import contextlib
import hashlib
import json
import sys
import time
import urllib.parse
import uuid
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, TypeVar

from .._rules.errors import KvmfleetError, shown
from .._system.watchdog import patience

try:
    import libvirt
except ImportError:
    HAS_LIBVIRT = False

    class LibvirtError(Exception):
        """Stands in for libvirt.libvirtError where the binding is missing; never raised."""

        def get_error_code(self) -> int:
            return 0

else:
    HAS_LIBVIRT = True
    LibvirtError = libvirt.libvirtError

try:
    import libvirt_qemu
except ImportError:
    libvirt_qemu = None

T = TypeVar("T")

_STATES = ("nostate", "running", "blocked", "paused", "shutdown", "shutoff", "crashed", "pmsuspended")
_PAUSED = {1: "by a user", 2: "migration", 3: "save", 4: "dump", 5: "I/O error", 6: "watchdog", 9: "snapshot", 10: "crashed", 14: "a call of libvirt failed"}
_SHUTOFF = {1: "it shut down", 2: "its power was cut", 3: "it crashed", 5: "its memory was saved", 6: "libvirt could not start it"}
"""Why a guest is in that state, by libvirt's numbers, as far as it says more."""
SECRET_USAGES = ("none", "volume", "ceph", "iscsi", "tls", "vtpm")
"""What secrets are for, by libvirt's numbers."""
_SHUTDOWN_SILENCE = 2  # seconds
_THAWS = 3
_KIB_A_SECOND = 1024 * 1024  # of a guest's memory, which QEMU may have to fill before it starts
_NO_AGENT = (
    "VIR_ERR_AGENT_UNRESPONSIVE",
    "VIR_ERR_AGENT_UNSYNCED",
    "VIR_ERR_AGENT_COMMAND_TIMEOUT",  # since libvirt 11
    "VIR_ERR_ARGUMENT_UNSUPPORTED",
    "VIR_ERR_NO_SUPPORT",
    "VIR_ERR_OPERATION_INVALID",
)


@contextlib.contextmanager
def connect(uri: str = "qemu:///system") -> Iterator[Any]:
    """A virConnect for the duration of the block.

    :raises KvmfleetError: `libvirt_unavailable` says what to install or start; `unsupported_uri`.
    """
    if not HAS_LIBVIRT:
        raise KvmfleetError(
            "libvirt_unavailable",
            f"The libvirt binding for Python is missing for {sys.executable}: install python3-libvirt.",
            interpreter=sys.executable,
        )
    libvirt.registerErrorHandler(lambda context, error: None, None)
    _refuse_session(uri, uri)
    try:
        connection = libvirt.open(uri)
    except LibvirtError as exc:
        raise KvmfleetError(
            "libvirt_unavailable",
            f"libvirt does not answer at {uri}: {exc}. Install libvirt-daemon-system (Debian, Ubuntu) or libvirt-daemon-kvm (Fedora, RHEL), "
            "start libvirtd, and run the play with become or as a member of the group libvirt.",
            uri=uri,
        ) from exc
    try:
        # An alias of the client's configuration, or an empty URI, tells only now.
        _refuse_session(uri, connection.getURI())
        yield connection
    finally:
        connection.close()


def _refuse_session(asked: str, uri: str) -> None:
    try:
        path = urllib.parse.urlsplit(uri).path
    except ValueError:
        return  # libvirt says better what is wrong with it
    if path == "/session":
        raise KvmfleetError(
            "unsupported_uri",
            f"uri is {asked!r}, the libvirt of a single user. The guests of a host are those of its system instance, whose firmware variables, TPMs and "
            "disks lie where root alone can seal them: leave uri at qemu:///system and run the play with become.",
            uri=asked,
            need="qemu:///system",
        )


def find_domain(connection: Any, key: str) -> Any | None:
    """The domain with this UUID or name; None where neither is defined."""
    with contextlib.suppress(ValueError):
        found = _lookup(connection.lookupByUUIDString, str(uuid.UUID(key)))
        if found is not None:
            return found
    return _lookup(connection.lookupByName, key)


def state_name(domain: Any) -> str:
    """libvirt's own word for the state: running, paused, shutdown (going down), shutoff, crashed, pmsuspended, blocked, nostate."""
    return state_word(domain.state()[0])


def state_reason(domain: Any) -> tuple[str, str]:
    """The same, and why; the reason is empty where libvirt knows none, or none that says more than the state."""
    state, reason = domain.state()
    word = state_word(state)
    return word, {"paused": _PAUSED, "shutoff": _SHUTOFF}.get(word, {}).get(reason, "")


def disk_errors(domain: Any) -> dict[str, str]:
    """Target of each disk that QEMU stopped the guest for -> what was wrong: no space, or an I/O error."""
    errors = supported(lambda: _unless(libvirt.VIR_ERR_OPERATION_INVALID, domain.diskErrors), None) or {}
    return {target: "no space" if error == libvirt.VIR_DOMAIN_DISK_ERROR_NO_SPACE else "I/O error" for target, error in errors.items()}


def state_word(state: int) -> str:
    return _STATES[state] if 0 <= state < len(_STATES) else f"unknown-{state}"


def inactive_xml(domain: Any, *, secure: bool = True) -> str:
    """The definition of the next boot; `secure` includes passwords, which must not reach facts or logs."""
    return domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE | (libvirt.VIR_DOMAIN_XML_SECURE if secure else 0))


def portable_xml(domain: Any) -> str | None:
    """The definition of the next boot, passwords included, without what libvirt adds by itself and an older one may not know.

    None where the domain has snapshots, whose definitions libvirt does not write like that.
    """
    if snapshots(domain):
        return None
    return domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE | libvirt.VIR_DOMAIN_XML_SECURE | libvirt.VIR_DOMAIN_XML_MIGRATABLE)


def live_xml(domain: Any) -> str:
    """What runs now, without secrets; the same as the definition for a stopped domain."""
    return domain.XMLDesc(0)


def memory_mb(connection: Any) -> int:
    """MiB of the whole host; not the sum over its NUMA cells, which misses memory that a virtual host was given later."""
    stats = supported(lambda: connection.getMemoryStats(libvirt.VIR_NODE_MEMORY_STATS_ALL_CELLS), {})
    return stats["total"] // 1024 if "total" in stats else connection.getInfo()[1]


def host_capabilities(connection: Any) -> str:
    """The capabilities XML of the host."""
    return connection.getCapabilities()


def domain_capabilities(connection: Any, arch: str | None = None, virt_type: str | None = None, emulator: str | None = None, machine: str | None = None) -> str:
    """The domain capabilities XML for one combination; what is None is libvirt's default for the host."""
    return connection.getDomainCapabilities(emulator, arch, machine, virt_type)


def expanded_cpu(connection: Any, cpu_xml: str, virt_type: str | None, arch: str | None) -> str | None:
    """A `<cpu>` with all features of its model written out; None where libvirt cannot do that for this hypervisor or CPU."""
    try:
        return connection.baselineHypervisorCPU(None, arch, None, virt_type, [cpu_xml], libvirt.VIR_CONNECT_BASELINE_CPU_EXPAND_FEATURES)
    except LibvirtError:
        return None


def pci_devices(connection: Any) -> list[Any]:
    """The PCI devices of the host; none where the driver does not know node devices."""
    return supported(lambda: connection.listAllDevices(libvirt.VIR_CONNECT_LIST_NODE_DEVICES_CAP_PCI_DEV), [])


def all_domain_stats(connection: Any) -> list[tuple[Any, dict[str, Any]]]:
    """State, vCPU, balloon and block figures of every domain, in one call; a driver leaves out what it does not know."""
    wanted = libvirt.VIR_DOMAIN_STATS_STATE | libvirt.VIR_DOMAIN_STATS_VCPU | libvirt.VIR_DOMAIN_STATS_BALLOON | libvirt.VIR_DOMAIN_STATS_BLOCK
    return [(domain, stats) for domain, stats in connection.getAllDomainStats(wanted, 0) if not _is_trial(domain)]


def trial_name(uuid: str) -> str:
    """What a definition is called that is only tried, and bears the UUID of the operation. No list of guests has it."""
    return f"kvmfleet-trial-{uuid}"


def _is_trial(domain: Any) -> bool:
    return domain.name() == trial_name(domain.UUIDString())


def domain_uuids(connection: Any, *, persistent: bool = False, autostart: bool = False, flags: int = 0) -> set[str]:
    """UUIDs of the domains that are persistent and (or) started with the host, or whatever other flags of libvirt's say."""
    flags |= (libvirt.VIR_CONNECT_LIST_DOMAINS_PERSISTENT if persistent else 0) | (libvirt.VIR_CONNECT_LIST_DOMAINS_AUTOSTART if autostart else 0)
    return {domain.UUIDString() for domain in connection.listAllDomains(flags)}


def supported(call: Callable[[], T], default: T) -> T:
    """`call()`, or the default where the driver does not implement it."""
    try:
        return call()
    except LibvirtError as exc:
        if exc.get_error_code() in (libvirt.VIR_ERR_NO_SUPPORT, libvirt.VIR_ERR_OPERATION_UNSUPPORTED):
            return default
        raise


def agent_command(domain: Any, command: dict[str, Any], timeout: int = 5) -> dict[str, Any] | None:
    """Ask the guest agent; its answer, or None where no agent answers within `timeout` seconds with what can be read."""
    if libvirt_qemu is None:
        return None
    try:
        return json.loads(libvirt_qemu.qemuAgentCommand(domain, json.dumps(command), timeout, 0))
    except (ValueError, RecursionError):
        return None
    except LibvirtError as exc:
        if exc.get_error_code() in {getattr(libvirt, name, None) for name in _NO_AGENT}:
            return None
        raise KvmfleetError(
            "agent_command_failed",
            f"The guest agent of {domain.name()} refused {command.get('execute')}: {shown(str(exc))}.",
            command=command.get("execute"),
        ) from exc


def find_pool(connection: Any, name: str) -> Any | None:
    """The storage pool of this name; None where there is none, or the driver does not know pools."""
    return _unless(libvirt.VIR_ERR_NO_STORAGE_POOL, lambda: supported(lambda: connection.storagePoolLookupByName(name), None))


def network_bridge(connection: Any, name: str) -> str | None:
    """The bridge of a libvirt network; None for one that has none, or is not there."""
    try:
        return connection.networkLookupByName(name).bridgeName()
    except LibvirtError:
        return None


def all_pools(connection: Any) -> list[Any]:
    """Every storage pool, active or not; none where the driver does not know pools."""
    return supported(lambda: connection.listAllStoragePools(0), [])


def pool_xml(pool: Any) -> str:
    """The definition of a pool, active or not."""
    return pool.XMLDesc(0)


def has_volume(pool: Any, name: str) -> bool:
    """Whether libvirt knows this volume, as of its latest look into the pool."""
    try:
        return pool.storageVolLookupByName(name) is not None
    except LibvirtError:
        return False


def refresh_pool(pool: Any) -> None:
    """Look into the pool again; one that is inactive or busy stays as it is."""
    with contextlib.suppress(LibvirtError), patience():
        pool.refresh(0)


def find_secret(connection: Any, *, uuid: str | None, usage: tuple[str | None, str | None]) -> Any | None:
    """The secret of the UUID, or where that is None of the usage, a type and a name; None where there is none, or the driver does not know secrets."""

    def lookup() -> Any | None:
        if uuid is not None:
            return supported(lambda: connection.secretLookupByUUIDString(uuid), None)
        if usage[0] in SECRET_USAGES and usage[1] is not None:
            return supported(lambda: connection.secretLookupByUsage(SECRET_USAGES.index(usage[0]), usage[1]), None)
        return None

    return _unless(libvirt.VIR_ERR_NO_SECRET, lookup)


def secret_usage(secret: Any) -> tuple[str, str]:
    """Type and name of what a secret is for; the name is empty where the type is none."""
    number = secret.usageType()
    return (SECRET_USAGES[number] if number < len(SECRET_USAGES) else f"unknown-{number}"), secret.usageID()


def secret_xml(secret: Any) -> str:
    """Its definition, in which the value is not."""
    return secret.XMLDesc(0)


def secret_value(secret: Any) -> bytes | None:
    """Its value; None where it has none. libvirt tells that of a private secret to nobody, which is an error here."""
    return _unless(libvirt.VIR_ERR_NO_SECRET, secret.value)


def define_secret(connection: Any, xml: str) -> Any:
    """Define a secret, which has no value then."""
    return connection.secretDefineXML(xml, 0)


def undefine_secret(secret: Any) -> None:
    """Remove a secret with its value; one that has gone meanwhile is fine."""
    _unless(libvirt.VIR_ERR_NO_SECRET, secret.undefine)


def block_size(domain: Any, target: str) -> int | None:
    """The size in bytes that the guest sees of a disk wherever it is; None where libvirt cannot tell."""
    try:
        return domain.blockInfo(target)[0]
    except LibvirtError:
        return None


def _lookup(call: Callable[[str], Any], key: str) -> Any | None:
    return _unless_gone(lambda: call(key))


def _unless_gone(call: Callable[[], T]) -> T | None:
    return _unless(libvirt.VIR_ERR_NO_DOMAIN, call)


def _unless(code: int, call: Callable[[], T]) -> T | None:
    """`call()`, or None where it fails with this code of libvirt's."""
    try:
        return call()
    except LibvirtError as exc:
        if exc.get_error_code() == code:
            return None
        raise


def has_managed_save(domain: Any) -> bool:
    """Whether the memory of the guest lies in a file that libvirt would start it from, with the definition of then."""
    return bool(domain.isPersistent() and supported(domain.hasManagedSaveImage, 0))


def is_active(domain: Any) -> bool:
    """Whether a QEMU process of the domain exists (running, paused, shutting down, crashed but kept ...)."""
    return bool(domain.isActive())


def create(domain: Any) -> None:
    with patience(domain.maxMemory() / _KIB_A_SECOND):
        domain.create()


def destroy(domain: Any) -> None:
    """Cut the power; a domain that went off meanwhile is fine."""
    _unless(libvirt.VIR_ERR_OPERATION_INVALID, domain.destroy)


def on_poweroff(domain: Any, *, live: bool) -> str:
    """What libvirt does when the guest powers off, now or from its next start on: destroy (it is off then) or restart."""
    root = ET.fromstring(live_xml(domain) if live else inactive_xml(domain, secure=False))  # noqa: S314 - libvirt wrote it
    return root.findtext("on_poweroff") or "destroy"


def set_on_poweroff(domain: Any, action: str) -> None:
    """Let libvirt do that when the guest that runs now powers off; its definition stays."""
    wanted = {"destroy": libvirt.VIR_DOMAIN_LIFECYCLE_ACTION_DESTROY, "restart": libvirt.VIR_DOMAIN_LIFECYCLE_ACTION_RESTART}[action]
    domain.setLifecycleAction(libvirt.VIR_DOMAIN_LIFECYCLE_POWEROFF, wanted, libvirt.VIR_DOMAIN_AFFECT_LIVE)


def wait_for_reset(uri: str, key: str, seconds: float) -> bool:
    """Wait until the guest was reset, which this tells, or went off, its libvirt is gone, or so many seconds are over.

    Only for a process that does nothing else.
    """
    libvirt.virEventRegisterDefaultImpl()
    connection = libvirt.open(uri)
    domain = connection.lookupByUUIDString(key)
    seen: list[Any] = []
    connection.setKeepAlive(5, 3)
    connection.domainEventRegisterAny(domain, libvirt.VIR_DOMAIN_EVENT_ID_REBOOT, lambda *event: seen.append(event), None)
    libvirt.virEventAddTimeout(1000, lambda timer, opaque: None, None)
    deadline = time.monotonic() + seconds
    while not seen and connection.isAlive() and domain.isActive() and time.monotonic() < deadline:
        libvirt.virEventRunDefaultImpl()
    return bool(seen)


def request_shutdown(domain: Any, modes: Sequence[str]) -> str | None:
    """Ask the guest to shut down through the first mode (agent, acpi) that there is; None where there is none. Does not wait for the guest."""
    requests = {"agent": _shut_down_through_agent, "acpi": _press_power_button}
    return next((mode for mode in modes if requests[mode](domain)), None)


def _shut_down_through_agent(domain: Any) -> bool:
    # Not domain.shutdownFlags: that waits up to a minute for a guest which the agent cannot shut down.
    if libvirt_qemu is None or not agent_answers(domain):
        return False
    # The agent that just answered never replies to this command: it ends in silence or with the guest.
    with contextlib.suppress(LibvirtError):
        libvirt_qemu.qemuAgentCommand(domain, json.dumps({"execute": "guest-shutdown"}), _SHUTDOWN_SILENCE, 0)
    return True


def _press_power_button(domain: Any) -> bool:
    try:
        domain.shutdownFlags(libvirt.VIR_DOMAIN_SHUTDOWN_ACPI_POWER_BTN)
    except LibvirtError:
        return False
    return True


def agent_answers(domain: Any) -> bool:
    return agent_command(domain, {"execute": "guest-ping"}, timeout=1) is not None


def define(connection: Any, xml: str) -> Any:
    """Define (or redefine) a domain as libvirt itself wrote it. That need not be what its schema allows: libvirt takes, keeps and writes more."""
    return connection.defineXML(xml)


def define_checked(connection: Any, xml: str) -> Any | None:
    """Define (or redefine) a domain, checked against libvirt's schema; None, and nothing defined, where that does not allow it."""
    return _unless(libvirt.VIR_ERR_XML_INVALID_SCHEMA, lambda: connection.defineXMLFlags(xml, libvirt.VIR_DOMAIN_DEFINE_VALIDATE))


def undefine_keeping_everything(domain: Any) -> None:
    """Undefine, and keep NVRAM, TPM state and every file. What libvirt knows of snapshots goes with the definition (see `_guest.snapshots`)."""
    kept = libvirt.VIR_DOMAIN_UNDEFINE_KEEP_NVRAM | getattr(libvirt, "VIR_DOMAIN_UNDEFINE_KEEP_TPM", 0)
    domain.undefineFlags(kept | libvirt.VIR_DOMAIN_UNDEFINE_SNAPSHOTS_METADATA)


def snapshots(domain: Any, *, secure: bool = True) -> list[dict[str, Any]]:
    """`name`, `xml` and `current` (the one that the guest goes on from) of each snapshot, parents first; `secure` includes passwords."""
    flags = libvirt.VIR_DOMAIN_SNAPSHOT_XML_SECURE if secure else 0
    found = supported(lambda: domain.listAllSnapshots(libvirt.VIR_DOMAIN_SNAPSHOT_LIST_TOPOLOGICAL), [])
    return [{"name": snapshot.getName(), "xml": snapshot.getXMLDesc(flags), "current": bool(snapshot.isCurrent())} for snapshot in found]


def redefine_snapshot(domain: Any, xml: str, current: bool) -> None:
    """Let libvirt know of a snapshot again, whose data is in the images."""
    flags = libvirt.VIR_DOMAIN_SNAPSHOT_CREATE_REDEFINE | (libvirt.VIR_DOMAIN_SNAPSHOT_CREATE_CURRENT if current else 0)
    domain.snapshotCreateXML(xml, flags)


def set_autostart(domain: Any, autostart: bool) -> None:
    if bool(domain.autostart()) != autostart:
        domain.setAutostart(int(autostart))


def xml_digest(domain: Any) -> str:
    """SHA-256 of the definition of the next boot, passwords left out: tells whether somebody changed it."""
    return hashlib.sha256(inactive_xml(domain, secure=False).encode()).hexdigest()


def layer_disks(domain: Any, layers: dict[str, str], others: Sequence[str], *, quiesce: bool) -> bool:
    """Let the running guest go on in new qcow2 layers, on all disks at the same instant; libvirt keeps no record of it.

    :param layers: target of a disk -> path of its new layer; :param others: targets of all other disks, which are left alone.
    :param quiesce: let the guest agent freeze the filesystems for that instant; where it does not, they are not frozen.
    :returns: whether they were frozen.
    """
    root = ET.Element("domainsnapshot")
    disks = ET.SubElement(root, "disks")
    for target, path in layers.items():
        disk = ET.SubElement(disks, "disk", {"name": target, "snapshot": "external"})
        ET.SubElement(disk, "driver", {"type": "qcow2"})
        ET.SubElement(disk, "source", {"file": path})
    for target in others:
        ET.SubElement(disks, "disk", {"name": target, "snapshot": "no"})
    xml = ET.tostring(root, encoding="unicode")
    flags = libvirt.VIR_DOMAIN_SNAPSHOT_CREATE_DISK_ONLY | libvirt.VIR_DOMAIN_SNAPSHOT_CREATE_NO_METADATA | libvirt.VIR_DOMAIN_SNAPSHOT_CREATE_ATOMIC
    if quiesce and agent_answers(domain):
        # The guest writes out all that it holds in memory before it says that it is frozen.
        try:
            with patience():
                domain.snapshotCreateXML(xml, flags | libvirt.VIR_DOMAIN_SNAPSHOT_CREATE_QUIESCE)
            return True
        except LibvirtError:
            # Also where the layers are made and only the thaw has failed.
            made = _lies_on(domain, layers)
            if not thaw(domain) and made:
                raise _frozen(domain) from None
            if made:
                return True
    with patience():  # QEMU writes out what lies in the memory of the host
        domain.snapshotCreateXML(xml, flags)
    return False


def thaw(domain: Any) -> bool:
    """Let a guest write again whose filesystems were frozen by a request of ours, or libvirt's; False where its agent does not say that they are thawed."""
    for _attempt in range(_THAWS):
        with contextlib.suppress(KvmfleetError):  # it carries one of the commands not out
            status = agent_command(domain, {"execute": "guest-fsfreeze-status"})
            if status is not None and status.get("return") == "thawed":
                return True
            agent_command(domain, {"execute": "guest-fsfreeze-thaw"})
    return False


def require_thawed(domain: Any) -> None:
    """:raises KvmfleetError: `guest_frozen` where an agent says that the filesystems are, and does not thaw them. A guest without an agent is none."""
    status = None
    with contextlib.suppress(KvmfleetError):
        status = agent_command(domain, {"execute": "guest-fsfreeze-status"})
    if status is not None and status.get("return") == "frozen" and not thaw(domain):
        raise _frozen(domain)


def _frozen(domain: Any) -> KvmfleetError:
    return KvmfleetError(
        "guest_frozen",
        f"The filesystems of guest {domain.name()} were frozen for a moment, and its agent does not say that they are thawed: it may be unable to write. Thaw "
        f"them (virsh domfsthaw {domain.name()}), or from inside (fsfreeze -u), and run kvmfleet.compute.recover.",
        instance=domain.name(),
    )


def _lies_on(domain: Any, layers: dict[str, str]) -> bool:
    """Whether the guest that runs writes to these."""
    root = ET.fromstring(live_xml(domain))  # noqa: S314 - libvirt wrote it
    sources = {(disk.find("target").get("dev"), source.get("file")) for disk in root.findall("devices/disk") for source in disk.findall("source")}
    return sources.issuperset(layers.items())


class BlockJob(NamedTuple):
    """What works on a disk of a running guest.

    :param kind: libvirt's word; :param active_commit: it merges the image that the guest writes to.
    :param disk: that image; :param into: what the job writes to, as far as the definition of what runs tells.
    :param done: bytes; :param ready: the guest can go on in what it writes to.
    """

    kind: str
    active_commit: bool
    disk: str | None
    into: str | None
    done: int
    ready: bool

    def __str__(self) -> str:
        return f"{self.kind} to {self.into}" if self.into else self.kind


_JOBS = ("unknown", "pull", "copy", "commit", "active-commit", "backup")


def block_job(domain: Any, target: str) -> BlockJob | None:
    """The job on a disk of a running guest, whoever has begun it; None where there is none."""
    job = domain.blockJobInfo(target, 0)
    if not job:
        return None
    root = ET.fromstring(live_xml(domain))  # noqa: S314 - libvirt wrote it
    disk = next((disk for disk in root.findall("devices/disk") if (name := disk.find("target")) is not None and name.get("dev") == target), ET.Element("disk"))
    source, into = disk.find("source"), disk.find("mirror/source")
    mirror = disk.find("mirror")
    kind = _JOBS[job["type"]] if 0 <= job["type"] < len(_JOBS) else f"type {job['type']}"
    return BlockJob(
        kind=kind,
        active_commit=job["type"] == libvirt.VIR_DOMAIN_BLOCK_JOB_TYPE_ACTIVE_COMMIT and mirror is not None and mirror.get("job") == "active-commit",
        disk=None if source is None else source.get("file"),
        into=None if into is None else into.get("file"),
        done=job["cur"],
        ready=bool(job["end"]) and job["cur"] == job["end"],
    )


def block_jobs(domain: Any) -> list[str]:
    """What works on disks of a guest, whoever has begun it; nothing does for one that is off."""
    if not is_active(domain):
        return []
    root = ET.fromstring(live_xml(domain))  # noqa: S314 - libvirt wrote it
    targets = [
        target.get("dev", "") for disk in root.findall("devices/disk") if disk.find("source") is not None and (target := disk.find("target")) is not None
    ]
    found = [f"{job} on disk {target}" for target in targets if (job := supported(lambda target=target: block_job(domain, target), None)) is not None]
    return found + (["backup"] if not found and _backup_xml(domain) is not None else [])


def _backup_xml(domain: Any) -> str | None:
    return _unless(libvirt.VIR_ERR_NO_DOMAIN_BACKUP, lambda: supported(lambda: domain.backupGetXMLDesc(0), None))


def has_checkpoints(domain: Any) -> bool:
    """Whether libvirt knows checkpoints of incremental backups of the domain."""
    return bool(supported(domain.listAllCheckpoints, []))


def begin_commit(domain: Any, target: str, *, base: str, top: str) -> None:
    """Begin to merge the image that a running guest writes to into one below it."""
    domain.blockCommit(target, base, top, 0, libvirt.VIR_DOMAIN_BLOCK_COMMIT_ACTIVE)


def pivot(domain: Any, target: str) -> bool:
    """Let the guest go on in what the job on its disk writes to; False where the job is not that far after all."""
    try:
        with patience():
            domain.blockJobAbort(target, libvirt.VIR_DOMAIN_BLOCK_JOB_ABORT_PIVOT)
    except LibvirtError:
        return False
    return True


def writable_paths(connection: Any) -> set[str]:
    """Paths of the top layer of every disk of every domain, in one call."""
    return {str(value) for _domain, stats in all_domain_stats(connection) for key, value in stats.items() if key.startswith("block.") and key.endswith(".path")}


def live_xml_if_there(domain: Any) -> str | None:
    """What runs now, or None where the domain has gone since it was listed."""
    return _unless_gone(lambda: live_xml(domain))


def definitions_if_there(domain: Any) -> list[str]:
    """What runs now, if it runs, and the definition of the next boot; nothing where the domain has gone since it was listed."""
    return _unless_gone(lambda: [live_xml(domain), *([inactive_xml(domain, secure=False)] if is_active(domain) else [])]) or []


def all_domains(connection: Any) -> list[Any]:
    """Every domain of the host, running or not."""
    return [domain for domain in connection.listAllDomains(0) if not _is_trial(domain)]


class Document(NamedTuple):
    """What libvirt knows of a domain, without secrets, and what it is of it: `runs`, `defined`, `saved` (managed save), `snapshot`, `checkpoint`, `backup`."""

    kind: str
    name: str | None
    xml: str


def documents(connection: Any) -> Iterator[tuple[Any, list[Document]]]:
    """Every domain of the host with all that says what it needs, now or later; nothing of one that has gone since it was listed."""
    active = domain_uuids(connection, flags=libvirt.VIR_CONNECT_LIST_DOMAINS_ACTIVE)
    saved = domain_uuids(connection, flags=libvirt.VIR_CONNECT_LIST_DOMAINS_MANAGEDSAVE)
    with_snapshots = domain_uuids(connection, flags=libvirt.VIR_CONNECT_LIST_DOMAINS_HAS_SNAPSHOT)
    with_checkpoints = domain_uuids(connection, flags=libvirt.VIR_CONNECT_LIST_DOMAINS_HAS_CHECKPOINT)

    def read(domain: Any) -> Iterator[Document]:
        uuid = domain.UUIDString()
        if uuid in active:
            yield Document("runs", None, live_xml(domain))
            if (backup := _backup_xml(domain)) is not None:
                yield Document("backup", None, backup)
        yield Document("defined", None, inactive_xml(domain, secure=False))
        if uuid in saved and (text := supported(lambda: domain.managedSaveGetXMLDesc(0), None)) is not None:
            yield Document("saved", None, text)
        for snapshot in snapshots(domain, secure=False) if uuid in with_snapshots else ():
            yield Document("snapshot", snapshot["name"], snapshot["xml"])
        for checkpoint in supported(domain.listAllCheckpoints, []) if uuid in with_checkpoints else ():
            yield Document("checkpoint", checkpoint.getName(), checkpoint.getXMLDesc(0))

    for domain in all_domains(connection):
        yield domain, _unless_gone(lambda domain=domain: list(read(domain))) or []
