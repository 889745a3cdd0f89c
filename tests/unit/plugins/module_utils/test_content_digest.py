# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The digest says the same for the same content however holes are stored, and another for any other content."""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ansible_collections.kvmfleet.compute.plugins.module_utils._content_digest import BLOCK, content_digest, data_bytes

BLOCKS = st.lists(st.sampled_from([b"\0", b"a", b"b"]), min_size=1, max_size=40)


def write(path, blocks, tail, sparse):
    with open(path, "wb") as stream:
        for block in blocks:
            if sparse and block == b"\0":
                stream.seek(BLOCK, os.SEEK_CUR)
            else:
                stream.write(block * BLOCK)
        stream.write(tail)
        stream.truncate(len(blocks) * BLOCK + len(tail))


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(blocks=BLOCKS, tail=st.binary(max_size=700))
def test_holes_and_zeros_are_the_same(tmp_path, blocks, tail):
    write(tmp_path / "sparse", blocks, tail, sparse=True)
    write(tmp_path / "full", blocks, tail, sparse=False)
    assert content_digest(str(tmp_path / "sparse")) == content_digest(str(tmp_path / "full"))
    assert data_bytes(str(tmp_path / "sparse")) <= data_bytes(str(tmp_path / "full"))


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(blocks=BLOCKS, position=st.integers(min_value=0), bit=st.integers(min_value=0, max_value=7))
def test_one_flipped_bit_shows(tmp_path, blocks, position, bit):
    path = tmp_path / "image"
    write(path, blocks, b"", sparse=True)
    before = content_digest(str(path))
    offset = position % (len(blocks) * BLOCK)
    with open(path, "r+b") as stream:
        stream.seek(offset)
        byte = stream.read(1)[0]
        stream.seek(offset)
        stream.write(bytes([byte ^ (1 << bit)]))
    assert content_digest(str(path)) != before


def test_swapped_blocks_show(tmp_path):
    write(tmp_path / "one", [b"a", b"b"], b"", sparse=False)
    write(tmp_path / "two", [b"b", b"a"], b"", sparse=False)
    assert content_digest(str(tmp_path / "one")) != content_digest(str(tmp_path / "two"))


def test_length_shows(tmp_path):
    write(tmp_path / "one", [b"a", b"\0"], b"", sparse=True)
    write(tmp_path / "two", [b"a"], b"", sparse=True)
    assert content_digest(str(tmp_path / "one")) != content_digest(str(tmp_path / "two"))


def test_symbolic_link_is_not_followed(tmp_path):
    (tmp_path / "target").write_bytes(b"secret")
    (tmp_path / "link").symlink_to(tmp_path / "target")
    with pytest.raises(OSError, match="symbolic links"):
        content_digest(str(tmp_path / "link"))
