# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a qcow2 layer contains, apart from the name of the file below it: that differs from host to host."""

from __future__ import annotations

import os
from typing import Any

from .._rules.errors import KvmfleetError

_HEADER = 112
_MAGIC = b"QFI\xfb"
_BITMAPS = 1 << 0
_CLUSTER_BITS = range(9, 22)
_V2_REFCOUNT_ORDER = 4


def feed_header(stream: Any, hasher: Any, path: str) -> int:
    """Feed what the header says of the content into a hash; the offset from which on every byte of the file is content.

    The first cluster holds nothing but the header, which `qemu-img rebase -u` writes anew. Left out of it are the name and the format of the backing file,
    the names of features, and what a program may clear (the format is docs/interop/qcow2.rst in QEMU).

    :raises KvmfleetError: `image_corrupt` for no qcow2 image, `image_has_bitmaps` since opening it to write the name would change them.
    """
    header = os.pread(stream.fileno(), _HEADER, 0).ljust(_HEADER, b"\0")
    version, cluster_bits = _number(header, 4, 4), _number(header, 20, 4)
    if header[:4] != _MAGIC or version not in (2, 3) or cluster_bits not in _CLUSTER_BITS:
        raise KvmfleetError("image_corrupt", f"{path} stands on another image, but its header is not that of a qcow2 image.", path=path)
    incompatible, autoclear, refcount_order, compression = 0, 0, _V2_REFCOUNT_ORDER, 0
    if version == 3:
        incompatible, autoclear, refcount_order = _number(header, 72, 8), _number(header, 88, 8), _number(header, 96, 4)
        compression = header[104] if _number(header, 100, 4) > 104 else 0
    if autoclear & _BITMAPS:
        raise KvmfleetError(
            "image_has_bitmaps",
            f"{path} is a layer with persistent bitmaps, which cannot be kept where it is put on another base: remove them (qemu-img bitmap --remove).",
            path=path,
        )
    # From the cluster size to the place of the snapshots: where everything lies in the file.
    hasher.update(b"kvmfleet layer 1\n" + header[20:72])
    hasher.update(b"\n%d %d %d" % (incompatible, refcount_order, compression))
    return 1 << cluster_bits


def _number(header: bytes, offset: int, length: int) -> int:
    return int.from_bytes(header[offset : offset + length], "big")
