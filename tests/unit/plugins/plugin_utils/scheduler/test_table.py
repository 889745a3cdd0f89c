# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest

from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.select import select_destinations
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.table import placement_table
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.validation import ValidationError
from ansible_collections.kvmfleet.compute.tests.unit.plugins.plugin_utils.scheduler.fleet import flavor, host, request

FLEET = [
    host("kvm1", "az1", memory_mb_used=4096),
    host("kvm2", "az1", memory_mb_used=2048),
    host("kvm10", None, vcpus_used=128, memory_mb_used=12288),
    host("kvm4", "az1", memory_mb_used=6144),
    host("kvm5", "az1", memory_mb_used=7168),
]


def test_table_with_zones():
    result = select_destinations(FLEET, request(availability_zone="az1"))
    assert placement_table(result, FLEET).splitlines() == [
        "host   zone  verdict",
        "kvm2   az1   selected weight 1.00",
        "kvm1   az1   alternate weight 0.67",
        "kvm4   az1   alternate weight 0.33",
        "kvm5   az1   fits weight 0.17",
        "kvm10  -     AvailabilityZoneFilter: is in zone nova; zone az1 was requested",
        "             RamFilter: needs 1024 MB, 0 MB left of 12288 MB (8192 MB x 1.5), 12288 MB used",
        "             CoreFilter: needs 1 vCPUs, 0 vCPUs left of 128 vCPUs (8 vCPUs x 16), 128 vCPUs used",
    ]


def test_table_without_zones():
    result = select_destinations(FLEET[:1], request(flavor=flavor(ram=9000)))
    assert placement_table(result).splitlines() == [
        "host  verdict",
        "kvm1  RamFilter: needs 9000 MB, the whole host has 8192 MB (no guest overcommits against itself)",
    ]


@pytest.mark.parametrize("result", [None, "text", {}, {"selected": None}])
def test_something_else_is_refused(result):
    with pytest.raises(ValidationError, match="^result: expected the result of select_destinations, got "):
        placement_table(result)
