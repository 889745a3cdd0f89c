# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest

from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.filters.io_ops import IoOpsFilter
from ansible_collections.kvmfleet.compute.tests.unit.plugins.plugin_utils.scheduler.fleet import host, rejection


@pytest.mark.parametrize(("ops", "limit", "passes"), [(None, 8, True), (7, 8, True), (8, 8, False), (9, 8, False), (0, 1, True), (1, 1, False)])
def test_io_ops(ops, limit, passes):
    refused = rejection(IoOpsFilter, host(num_io_ops=ops), max_io_ops_per_host=limit)
    assert (refused is None) is passes


def test_reason():
    refused = rejection(IoOpsFilter, host(num_io_ops=9))
    assert tuple(refused.values()) == ("IoOpsFilter", "io_ops", "9 operations under way, fewer than 8 are allowed", "fewer than 8", 9)
