# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""By what a base image is known: what it contains, whatever a host calls it and wherever it lies there. `_storage.identity` finds it out."""

from __future__ import annotations

from typing import TypedDict


class ContentId(TypedDict):
    """Of one image that nobody writes to."""

    sha256: str
    """Over the bytes of the file; of a layer over what it holds itself and the ContentId of the one below, so that it says what a guest reads through it."""
    format: str
    virtual_size: int
    """Bytes that a guest sees."""
    size_bytes: int
    """Length of the file."""
