# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The secrets that libvirt keeps."""

from __future__ import annotations

from typing import Any

from .binding import libvirt, supported, unless

SECRET_USAGES = ("none", "volume", "ceph", "iscsi", "tls", "vtpm")
"""What secrets are for, by libvirt's numbers."""


def find_secret(connection: Any, *, uuid: str | None, usage: tuple[str | None, str | None]) -> Any | None:
    """The secret of the UUID, or where that is None of the usage, a type and a name; None where there is none, or the driver does not know secrets."""

    def lookup() -> Any | None:
        if uuid is not None:
            return supported(lambda: connection.secretLookupByUUIDString(uuid), None)
        if usage[0] in SECRET_USAGES and usage[1] is not None:
            return supported(lambda: connection.secretLookupByUsage(SECRET_USAGES.index(usage[0]), usage[1]), None)
        return None

    return unless(libvirt.VIR_ERR_NO_SECRET, lookup)


def secret_usage(secret: Any) -> tuple[str, str]:
    """Type and name of what a secret is for; the name is empty where the type is none."""
    number = secret.usageType()
    return (SECRET_USAGES[number] if number < len(SECRET_USAGES) else f"unknown-{number}"), secret.usageID()


def secret_xml(secret: Any) -> str:
    """Its definition, in which the value is not."""
    return secret.XMLDesc(0)


def secret_value(secret: Any) -> bytes | None:
    """Its value; None where it has none. libvirt tells that of a private secret to nobody, which is an error here."""
    return unless(libvirt.VIR_ERR_NO_SECRET, secret.value)


def define_secret(connection: Any, xml: str) -> Any:
    """Define a secret, which has no value then."""
    return connection.secretDefineXML(xml, 0)


def undefine_secret(secret: Any) -> None:
    """Remove a secret with its value; one that has gone meanwhile is fine."""
    unless(libvirt.VIR_ERR_NO_SECRET, secret.undefine)
