# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest

from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.filters.resize_to_same_host import ResizeToSameHostFilter
from ansible_collections.kvmfleet.compute.tests.unit.plugins.plugin_utils.scheduler.fleet import host, rejection, request


@pytest.mark.parametrize(
    ("current", "allow", "passes"),
    [("kvm1", None, True), ("kvm1", True, True), ("kvm1", False, False), ("kvm1", "false", False), ("kvm2", False, True), (None, False, True)],
)
def test_resize_to_same_host(current, allow, passes):
    refused = rejection(ResizeToSameHostFilter, host("kvm1"), request(current, allow_resize_to_same_host=allow))
    assert (refused is None) is passes
    assert passes or refused["code"] == "same_host"
