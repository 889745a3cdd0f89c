# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A claim holds a hard server group under the host's lock, whatever placement saw."""

from __future__ import annotations

import pytest

from ansible_collections.kvmfleet.compute.plugins.module_utils._operation import admission as _admission

RECORD = {"instance_uuid": "i-1"}


def group(policy, limit=1):
    return {"name": "web", "policy": policy, "members": ["i-1", "i-2", "i-3"], "max_server_per_host": limit}


@pytest.mark.parametrize(
    ("wanted", "instances", "said"),
    [
        (None, ["i-2"], None),
        (group("anti-affinity"), [], None),
        (group("anti-affinity"), ["i-9"], None),
        (group("anti-affinity"), ["i-1"], None),
        (group("anti-affinity"), ["i-9", "i-2"], "server group web (anti-affinity): 1 other members are here, fewer than 1 are allowed"),
        (group("anti-affinity", 2), ["i-2"], None),
        (group("anti-affinity", 2), ["i-2", "i-3"], "server group web (anti-affinity): 2 other members are here, fewer than 2 are allowed"),
        (group("affinity"), ["i-3"], None),
        (group("affinity"), ["i-9"], "server group web (affinity): no other member is here"),
        (group("soft-affinity"), [], None),
        (group("soft-anti-affinity"), ["i-2"], None),
    ],
)
def test_a_hard_group_is_judged_by_what_is_here_now(wanted, instances, said):
    reasons = _admission._group_reasons(instances, RECORD, wanted)
    assert [reason["reason"] for reason in reasons] == ([said] if said else [])


def test_a_guest_that_is_alone_in_its_affinity_group_may_go_anywhere():
    assert _admission._group_reasons([], RECORD, {**group("affinity"), "members": ["i-1"]}) == []
