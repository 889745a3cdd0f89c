# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The binding, and what to do where libvirt or its driver cannot tell. Only files of this room import libvirt."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

try:
    import libvirt
except ImportError:
    libvirt, HAS_LIBVIRT = None, False

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

__all__ = ("HAS_LIBVIRT", "LibvirtError", "libvirt", "libvirt_qemu", "lookup", "supported", "unless", "unless_gone")  # the binding is for the room

T = TypeVar("T")


def supported(call: Callable[[], T], default: T) -> T:
    """`call()`, or the default where the driver does not implement it."""
    try:
        return call()
    except LibvirtError as exc:
        if exc.get_error_code() in (libvirt.VIR_ERR_NO_SUPPORT, libvirt.VIR_ERR_OPERATION_UNSUPPORTED):
            return default
        raise


def lookup(call: Callable[[str], Any], key: str) -> Any | None:
    return unless_gone(lambda: call(key))


def unless_gone(call: Callable[[], T]) -> T | None:
    return unless(libvirt.VIR_ERR_NO_DOMAIN, call)


def unless(code: int, call: Callable[[], T]) -> T | None:
    """`call()`, or None where it fails with this code of libvirt's."""
    try:
        return call()
    except LibvirtError as exc:
        if exc.get_error_code() == code:
            return None
        raise
