# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The exceptions of the lab."""

from __future__ import annotations


class LabError(Exception):
    """An expected failure, shown to the user as one line."""


class LabFault(LabError):
    """What the lab is made of has failed, not what is tried on it: the emulation of a processor, QEMU itself, a daemon. Raised on proof alone."""
