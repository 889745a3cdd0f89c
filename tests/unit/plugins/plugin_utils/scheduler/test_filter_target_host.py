# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest

from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.filters.target_host import TargetHostFilter
from ansible_collections.kvmfleet.compute.tests.unit.plugins.plugin_utils.scheduler.fleet import host, rejection, request


@pytest.mark.parametrize(("target", "passes"), [(None, True), ("", True), ("kvm1", True), ("kvm2", False), ("KVM1", False)])
def test_target_host(target, passes):
    refused = rejection(TargetHostFilter, host("kvm1"), request(target_host=target))
    assert (refused is None) is passes
    assert passes or (refused["code"], refused["need"]) == ("not_target_host", target)
