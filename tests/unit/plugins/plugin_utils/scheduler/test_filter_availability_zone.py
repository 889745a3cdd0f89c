# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest

from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.filters.availability_zone import AvailabilityZoneFilter
from ansible_collections.kvmfleet.compute.tests.unit.plugins.plugin_utils.scheduler.fleet import host, rejection, request

HERE = host("kvm1", "az1")
NEAR = host("kvm2", "az1")
FAR = host("kvm3", "az2")
ZONELESS = host("kvm4", None)


@pytest.mark.parametrize(
    ("state", "current", "zone", "code"),
    [
        pytest.param(NEAR, "kvm1", None, None, id="stays"),
        pytest.param(FAR, "kvm1", None, "other_zone", id="does not wander off"),
        pytest.param(FAR, "kvm1", "", "other_zone", id="an empty answer is no zone"),
        pytest.param(FAR, "kvm1", "any", None, id="any"),
        pytest.param(FAR, "kvm1", "az2", None, id="named zone"),
        pytest.param(NEAR, "kvm1", "az2", "other_zone", id="named zone leaves the current one"),
        pytest.param(ZONELESS, "kvm1", None, "other_zone", id="a host without zone is in nova"),
        pytest.param(ZONELESS, "kvm1", "nova", None, id="nova can be named"),
        pytest.param(FAR, None, None, None, id="a guest on no host has no zone to stay in"),
        pytest.param(NEAR, "gone", None, "zone_unknown", id="a guest on a host that is not among the hosts"),
        pytest.param(NEAR, "gone", "az1", None, id="unless the zone is named"),
    ],
)
def test_zone(state, current, zone, code):
    others = tuple(other for other in (HERE, NEAR, FAR, ZONELESS) if other is not state)
    refused = rejection(AvailabilityZoneFilter, state, request(current, availability_zone=zone), others)
    assert (refused and refused["code"]) == code


def test_a_guest_on_a_host_without_zone_stays_in_the_default_zone():
    asked = request("kvm4")
    assert rejection(AvailabilityZoneFilter, host("kvm5", None), asked, (ZONELESS,)) is None
    assert rejection(AvailabilityZoneFilter, NEAR, asked, (ZONELESS,))["need"] == "nova"
    assert rejection(AvailabilityZoneFilter, NEAR, asked, (ZONELESS,), default_availability_zone="az1") is None


def test_the_zone_of_creation_does_not_decide():
    asked = request("kvm1")
    asked["instance"]["availability_zone"] = "az2"
    assert rejection(AvailabilityZoneFilter, FAR, asked, (HERE,))["code"] == "other_zone"
    assert rejection(AvailabilityZoneFilter, NEAR, asked, (HERE,)) is None


def test_reason():
    refused = rejection(AvailabilityZoneFilter, FAR, request("kvm1"), (HERE,))
    assert refused["reason"] == "is in zone az2; the guest stays in zone az1 of its current host kvm1"
    assert (refused["need"], refused["have"]) == ("az1", "az2")
    assert rejection(AvailabilityZoneFilter, FAR, request("kvm1", availability_zone="az1"), (HERE,))["reason"] == "is in zone az2; zone az1 was requested"
