# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest

from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.filters.conflict import ConflictFilter
from ansible_collections.kvmfleet.compute.tests.unit.plugins.plugin_utils.scheduler.fleet import host, rejection, request


@pytest.mark.parametrize(
    ("domain", "code"),
    [
        ({"name": "db1", "uuid": "u-1"}, None),
        ({"name": "web1", "uuid": "u-1"}, "already_defined"),
        ({"name": "db1", "uuid": "me"}, "already_defined"),
    ],
)
def test_name_and_uuid(domain, code):
    asked = request("elsewhere")
    asked["instance"]["uuid"] = "me"
    refused = rejection(ConflictFilter, host(domains=[domain]), asked, others=(host("elsewhere"),))
    assert (refused and refused["code"]) == code


def test_the_current_host_has_the_guest():
    assert rejection(ConflictFilter, host("kvm1", domains=[{"name": "web1", "uuid": "me"}]), request("kvm1")) is None


def test_mac_where_the_facts_list_them():
    asked = request(requirements={"macs": ["52:54:00:00:00:01"]})
    assert rejection(ConflictFilter, host(macs=["52:54:00:00:00:01"]), asked)["code"] == "mac_in_use"
    assert rejection(ConflictFilter, host(macs=["52:54:00:00:00:02"]), asked) is None
    assert rejection(ConflictFilter, host(), asked) is None
