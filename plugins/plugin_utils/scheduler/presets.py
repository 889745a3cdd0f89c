# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Sets of options that belong together: whose scheduler to be."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_SERVER_GROUPS = ("ServerGroupAntiAffinityFilter", "ServerGroupAffinityFilter")

# Nova as of 2014: nothing looked at vCPUs, disk and load unless the operator asked for it.
_ARTICLE_FILTERS = (
    "RetryFilter",
    "AvailabilityZoneFilter",
    "RamFilter",
    "ComputeFilter",
    "ComputeCapabilitiesFilter",
    "ImagePropertiesFilter",
    *_SERVER_GROUPS,
)

PRESETS: Mapping[str, Mapping[str, Any]] = {
    "article": {
        "enabled_filters": _ARTICLE_FILTERS,
        "weighers": {"RAMWeigher": 1.0},
        "cpu_allocation_ratio": 16.0,
        "ram_allocation_ratio": 1.5,
        "disk_allocation_ratio": 1.0,
        "reserved_rule": "ram_filter",
        "allow_resize_to_same_host": False,
        "prefer_same_host": False,
    },
    # Today's Nova; the three capacity filters and the zone do what Placement does before its filters run.
    "nova": {
        "enabled_filters": (
            "AvailabilityZoneFilter",
            "RamFilter",
            "CoreFilter",
            "DiskFilter",
            "ComputeFilter",
            "ComputeCapabilitiesFilter",
            "ImagePropertiesFilter",
            *_SERVER_GROUPS,
        ),
        "weighers": {
            "RAMWeigher": 1.0,
            "CPUWeigher": 1.0,
            "DiskWeigher": 1.0,
            "IoOpsWeigher": -1.0,
            "NumInstancesWeigher": 0.0,
            "HypervisorVersionWeigher": 1.0,
            "BuildFailureWeigher": 1000000.0,
            "PCIWeigher": 1.0,
            "ServerGroupSoftAffinityWeigher": 1.0,
            "ServerGroupSoftAntiAffinityWeigher": 1.0,
            "MetricsWeigher": 1.0,
            "ImagePropertiesWeigher": 0.0,
        },
        "cpu_allocation_ratio": 4.0,
        "ram_allocation_ratio": 1.0,
        "disk_allocation_ratio": 1.0,
        "reserved_rule": "placement",
        "allow_resize_to_same_host": False,
        "prefer_same_host": False,
    },
    "fleet": {
        "enabled_filters": (
            *_ARTICLE_FILTERS,
            "CoreFilter",
            "DiskFilter",
            "IoOpsFilter",
            "DifferentHostFilter",
            "SameHostFilter",
            "NUMATopologyFilter",
            "PciPassthroughFilter",
            "EmulatorFilter",
            "MachineTypeFilter",
            "CpuCompatibilityFilter",
            "CpuSharesFilter",
            "HostCpusFilter",
            "HugePagesFilter",
            "FirmwareFilter",
            "TpmFilter",
            "NetworkFilter",
            "DiskSpaceFilter",
            "ConflictFilter",
        ),
        "weighers": {
            "RAMWeigher": 1.0,
            "BaseImageWeigher": 0.1,  # decides among hosts that are about as free as each other
            "ServerGroupSoftAffinityWeigher": 1.0,
            "ServerGroupSoftAntiAffinityWeigher": 1.0,
        },
        "cpu_allocation_ratio": 16.0,
        "ram_allocation_ratio": 1.5,
        "disk_allocation_ratio": 1.0,
        "reserved_rule": "ram_filter",
        "allow_resize_to_same_host": True,
        "prefer_same_host": True,
    },
}
DEFAULT_PRESET = "fleet"
