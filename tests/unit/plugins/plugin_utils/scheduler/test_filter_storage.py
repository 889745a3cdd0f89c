# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest

from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.filters.storage import StorageFilter
from ansible_collections.kvmfleet.compute.tests.unit.plugins.plugin_utils.scheduler.fleet import host, rejection, request

POOL = {"name": "vms", "active": True, "type": "dir", "path": "/vms"}
FAST = {"name": "fast", "path": "/fast", "exists": True}


@pytest.mark.parametrize(
    ("needed", "facts", "reason"),
    [
        ({}, {"pools": []}, None),
        ({"pools": ["vms"]}, {}, None),
        ({"pools": ["vms"]}, {"pools": [POOL]}, None),
        ({"pools": ["vms"]}, {"pools": [{**POOL, "name": "default"}]}, "has no storage pool vms (it has default)"),
        ({"pools": ["vms"]}, {"pools": []}, "has no storage pool vms (it has none)"),
        ({"pools": ["vms"]}, {"pools": [{**POOL, "active": False}]}, "its storage pool vms is not active"),
        ({"pools": ["vms"]}, {"pools": [{**POOL, "type": "logical"}]}, "its storage pool vms is of the type logical, which is no directory"),
        ({"directories": ["fast"]}, {"disk_directories": [FAST]}, None),
        ({"directories": ["fast"]}, {"disk_directories": []}, "has no directory fast in kvmfleet_disk_directories (it has none)"),
        ({"directories": ["fast"]}, {}, "has no directory fast in kvmfleet_disk_directories (it has none)"),
        ({"directories": ["fast"]}, {"disk_directories": [{**FAST, "exists": False}]}, "its directory fast, /fast, does not exist"),
        (
            {"pools": ["vms"], "directories": ["fast"]},
            {"pools": [], "disk_directories": []},
            "has no storage pool vms (it has none); has no directory fast in kvmfleet_disk_directories (it has none)",
        ),
    ],
)
def test_storage(needed, facts, reason):
    refused = rejection(StorageFilter, host(**facts), request(requirements=needed))
    assert (refused and refused["reason"]) == reason
