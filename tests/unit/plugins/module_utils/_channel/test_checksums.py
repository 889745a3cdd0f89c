# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The checksum says the same for the same content however holes are stored, and another for any other content."""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from ansible_collections.kvmfleet.compute.plugins.module_utils._channel.checksums import BLOCK, data_bytes, differing, segment_for, tree

SEGMENT = 4 * BLOCK
BLOCKS = st.lists(st.sampled_from([b"\0", b"a", b"b"]), min_size=1, max_size=40)


def checksum(path, mode="extents"):
    return tree(path, mode, segment_size=SEGMENT)


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
    assert checksum(str(tmp_path / "sparse")) == checksum(str(tmp_path / "full")) == checksum(str(tmp_path / "sparse"), "full")
    assert data_bytes(str(tmp_path / "sparse")) <= data_bytes(str(tmp_path / "full"))


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(blocks=BLOCKS, position=st.integers(min_value=0), bit=st.integers(min_value=0, max_value=7))
def test_one_flipped_bit_shows(tmp_path, blocks, position, bit):
    path = tmp_path / "image"
    write(path, blocks, b"", sparse=True)
    before = checksum(str(path))
    offset = position % (len(blocks) * BLOCK)
    with open(path, "r+b") as stream:
        stream.seek(offset)
        byte = stream.read(1)[0]
        stream.seek(offset)
        stream.write(bytes([byte ^ (1 << bit)]))
    after = checksum(str(path))
    assert after["sha256"] != before["sha256"]
    start = offset - offset % SEGMENT
    assert differing(after, before) == [(start, min(start + SEGMENT, len(blocks) * BLOCK))]


def test_a_shorter_file_lacks_its_end(tmp_path):
    write(tmp_path / "whole", [b"a"] * 9, b"xyz", sparse=False)
    write(tmp_path / "begun", [b"a"] * 5, b"", sparse=False)
    (tmp_path / "empty").touch()
    whole = checksum(str(tmp_path / "whole"))
    assert differing(checksum(str(tmp_path / "begun")), whole) == [(SEGMENT, 9 * BLOCK + 3)]
    assert differing(checksum(str(tmp_path / "empty")), whole) == [(0, 9 * BLOCK + 3)]
    assert differing(whole, whole) == []


def test_small_gaps_between_ranges_are_taken_along(tmp_path):
    write(tmp_path / "whole", [b"a"] * 28, b"", sparse=False)
    write(tmp_path / "begun", [b"b"] * 4 + [b"a"] * 4 + [b"b"] * 4 + [b"a"] * 8 + [b"b"] * 8, b"", sparse=False)
    have, want = (checksum(str(tmp_path / name)) for name in ("begun", "whole"))
    assert differing(have, want) == [(0, SEGMENT), (2 * SEGMENT, 3 * SEGMENT), (5 * SEGMENT, 7 * SEGMENT)]
    assert differing(have, want, gap=SEGMENT) == [(0, 3 * SEGMENT), (5 * SEGMENT, 7 * SEGMENT)]


@pytest.mark.parametrize(("gib", "mib"), [(0, 1), (16, 1), (17, 2), (1024, 64)])
def test_the_digests_of_a_large_file_fit_into_a_document(gib, mib):
    assert segment_for(gib * 2**30) == mib * 2**20


def test_all_of_the_file_is_counted(tmp_path):
    write(tmp_path / "image", [b"a", b"\0"] * 9, b"xyz", sparse=True)
    done = []
    tree(str(tmp_path / "image"), segment_size=SEGMENT, on_progress=done.append)
    assert sum(done) == 18 * BLOCK + 3


def test_swapped_blocks_show(tmp_path):
    write(tmp_path / "one", [b"a", b"b"], b"", sparse=False)
    write(tmp_path / "two", [b"b", b"a"], b"", sparse=False)
    assert checksum(str(tmp_path / "one")) != checksum(str(tmp_path / "two"))


def test_length_shows(tmp_path):
    write(tmp_path / "one", [b"a", b"\0"], b"", sparse=True)
    write(tmp_path / "two", [b"a"], b"", sparse=True)
    assert checksum(str(tmp_path / "one")) != checksum(str(tmp_path / "two"))


def test_symbolic_link_is_not_followed(tmp_path):
    (tmp_path / "target").write_bytes(b"secret")
    (tmp_path / "link").symlink_to(tmp_path / "target")
    with pytest.raises(OSError, match="symbolic links"):
        checksum(str(tmp_path / "link"))
