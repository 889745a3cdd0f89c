# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Checkpoints of domains, as libvirt reads and writes them."""

from __future__ import annotations

from typing import Any

from .binding import libvirt, supported


def checkpoints(domain: Any, *, sized: bool = False) -> list[str]:
    """The definition of each, parents first, without that of the domain.

    :param sized: with how much each disk has changed since, for a domain that runs; it is missing where that cannot be told, as of a bitmap that is broken.
        None of those of which this libvirt never tells it.
    """
    flags = libvirt.VIR_DOMAIN_CHECKPOINT_XML_NO_DOMAIN | (libvirt.VIR_DOMAIN_CHECKPOINT_XML_SIZE if sized else 0)
    found: list[Any] = supported(lambda: domain.listAllCheckpoints(libvirt.VIR_DOMAIN_CHECKPOINT_LIST_TOPOLOGICAL), [])

    def told(checkpoint: Any) -> str | None:
        return supported(lambda: checkpoint.getXMLDesc(flags), None)

    return [xml for xml in map(told, found) if xml is not None]


def redefine_checkpoint(domain: Any, xml: str) -> None:
    """Let libvirt know of a checkpoint again, whose bitmaps are in the images."""
    domain.checkpointCreateXML(xml, libvirt.VIR_DOMAIN_CHECKPOINT_CREATE_REDEFINE)
