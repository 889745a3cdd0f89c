# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A disk in anything else (a block device, a directory, NVMe): the table of references refuses it, and others may want to know where it is."""

from __future__ import annotations

from .kind import Kind


class Other(Kind):
    """All that is told of it stands in the definition."""
