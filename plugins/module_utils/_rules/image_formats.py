# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Formats of images, and how many layers one may have."""

from __future__ import annotations

FORMATS = ("qcow2", "raw")
MAX_DEPTH = 16
