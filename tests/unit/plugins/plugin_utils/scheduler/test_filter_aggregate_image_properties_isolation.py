# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest

from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.filters.aggregate_image_properties_isolation import AggregateImagePropertiesIsolation
from ansible_collections.kvmfleet.compute.tests.unit.plugins.plugin_utils.scheduler.fleet import aggregate, host, rejection, request


@pytest.mark.parametrize(
    ("properties", "metadata", "passes"),
    [
        ({}, [{"os_distro": "windows"}], True),
        ({"os_distro": "windows"}, [], True),
        ({"os_distro": "windows"}, [{"os_distro": "windows"}], True),
        ({"os_distro": "debian"}, [{"os_distro": "windows"}], False),
        ({"os_distro": "debian"}, [{"os_distro": "windows,debian"}], True),
        ({"os_distro": "debian"}, [{"os_distro": "windows"}, {"os_distro": "debian"}], True),
        ({"os_distro": ""}, [{"os_distro": "windows"}], True),
        ({"hw_video_ram": 16}, [{"hw_video_ram": "16"}], True),
        ({"os_distro": "debian"}, [{"other": "windows"}], True),
    ],
)
def test_isolation(properties, metadata, passes):
    state = host(aggregates=[aggregate(**item) for item in metadata])
    assert (rejection(AggregateImagePropertiesIsolation, state, request(image={"properties": properties})) is None) is passes
