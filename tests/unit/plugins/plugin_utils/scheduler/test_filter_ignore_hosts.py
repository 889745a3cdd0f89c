# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest

from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.filters.ignore_hosts import IgnoreHostsFilter
from ansible_collections.kvmfleet.compute.tests.unit.plugins.plugin_utils.scheduler.fleet import host, rejection, request


@pytest.mark.parametrize(("ignored", "passes"), [(None, True), ([], True), (["kvm2"], True), (["kvm1"], False), (["kvm2", "KVM1"], False)])
def test_ignore_hosts(ignored, passes):
    refused = rejection(IgnoreHostsFilter, host("kvm1"), request(ignore_hosts=ignored))
    assert (refused is None) is passes
    assert passes or refused["code"] == "ignored_host"
