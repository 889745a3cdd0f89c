# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest

from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.filters.maintenance import MaintenanceFilter
from ansible_collections.kvmfleet.compute.tests.unit.plugins.plugin_utils.scheduler.fleet import host, rejection, request


@pytest.mark.parametrize(
    ("state", "reason"),
    [
        (None, None),
        (False, None),
        ("", None),
        (True, "is in maintenance"),
        ("new disks", "is in maintenance: new disks"),
        ({"state": "draining", "by": "ann", "reason": "new disks"}, "is draining by ann: new disks"),
        ({"state": "evacuated"}, "is evacuated: no reason is noted"),
        ({"state": "restoring", "reason": "new disks"}, None),
    ],
)
def test_maintenance(state, reason):
    refused = rejection(MaintenanceFilter, host(maintenance=state))
    assert (refused and refused["reason"]) == reason


def test_a_guest_does_not_stay_either():
    assert rejection(MaintenanceFilter, host("kvm1", maintenance="new disks"), request("kvm1")) is not None
