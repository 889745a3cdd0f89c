# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest

from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.filters.compute import ComputeFilter
from ansible_collections.kvmfleet.compute.tests.unit.plugins.plugin_utils.scheduler.fleet import host, rejection


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({}, None),
        ({"enabled": True, "up": True}, None),
        ({"enabled": "yes", "up": "true"}, None),
        ({"enabled": False}, "disabled"),
        ({"enabled": "false"}, "disabled"),
        ({"up": False}, "down"),
        ({"up": False, "enabled": False}, "disabled"),
    ],
)
def test_compute(changes, code):
    refused = rejection(ComputeFilter, host(**changes))
    assert (refused and refused["code"]) == code


def test_both_are_said():
    assert rejection(ComputeFilter, host(up=False, enabled=False))["reason"] == "is disabled and down"
