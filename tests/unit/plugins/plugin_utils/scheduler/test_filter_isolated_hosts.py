# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest

from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.filters.isolated_hosts import IsolatedHostsFilter
from ansible_collections.kvmfleet.compute.tests.unit.plugins.plugin_utils.scheduler.fleet import host, rejection, request


@pytest.mark.parametrize(
    ("name", "image", "restrict", "passes"),
    [
        ("kept", "secret", True, True),
        ("kept", "other", True, False),
        ("kept", None, True, False),
        ("open", "secret", True, False),
        ("open", "other", True, True),
        ("kept", "other", False, True),
        ("open", "secret", False, False),
        ("open", "other", False, True),
    ],
)
def test_isolation(name, image, restrict, passes):
    options = {"isolated_hosts": ["kept"], "isolated_images": ["secret"], "restrict_isolated_hosts_to_isolated_images": restrict}
    assert (rejection(IsolatedHostsFilter, host(name), request(image={"id": image}), **options) is None) is passes


@pytest.mark.parametrize(("restrict", "passes"), [(True, False), (False, True)])
def test_without_isolated_images(restrict, passes):
    options = {"isolated_hosts": ["kept"], "restrict_isolated_hosts_to_isolated_images": restrict}
    assert (rejection(IsolatedHostsFilter, host("kept"), request(), **options) is None) is passes
    assert rejection(IsolatedHostsFilter, host("open"), request(), **options) is None
