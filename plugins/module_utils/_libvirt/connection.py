# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The connection to libvirt, and what it says about the host."""

from __future__ import annotations

import contextlib
import operator
import sys
import urllib.parse
from collections.abc import Iterator
from typing import Any

from .._rules.errors import KvmfleetError
from .binding import HAS_LIBVIRT, LibvirtError, libvirt, supported


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
    # Nothing written in Python: a signal would be handled in there, and what it raises would come out of libvirt as a SystemError.
    libvirt.registerErrorHandler(operator.is_, None)
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


def network_bridge(connection: Any, name: str) -> str | None:
    """The bridge of a libvirt network; None for one that has none, or is not there."""
    try:
        return connection.networkLookupByName(name).bridgeName()
    except LibvirtError:
        return None
