# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest

from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.filters.network import NetworkFilter
from ansible_collections.kvmfleet.compute.tests.unit.plugins.plugin_utils.scheduler.fleet import host, rejection, request


@pytest.mark.parametrize(
    ("needed", "changes", "lacks"),
    [
        ({}, {}, None),
        ({"networks": ["default"]}, {"networks": ["default"]}, None),
        ({"networks": ["default"]}, {"networks": []}, "libvirt network default"),
        ({"networks": ["default"]}, {}, None),
        ({"bridges": ["br0", "br1"]}, {"bridges": ["br0"]}, "bridge br1"),
        ({"nwfilters": ["clean-traffic"]}, {"nwfilters": []}, "network filter clean-traffic"),
        ({"networks": ["a", "b"], "bridges": ["c"]}, {"networks": [], "bridges": []}, "libvirt network a, libvirt network b, bridge c"),
    ],
)
def test_networks(needed, changes, lacks):
    refused = rejection(NetworkFilter, host(**changes), request(requirements=needed))
    assert (refused and refused["need"]) == lacks
