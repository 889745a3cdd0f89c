# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The guest images: built from Debian packages, cached."""

from __future__ import annotations

from .build import ensure_image, remove_unfinished
from .debian import ensure_debian_image

__all__ = ["ensure_debian_image", "ensure_image", "remove_unfinished"]
