# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whether the disks of a guest are copied ahead, and what is said about it."""

from __future__ import annotations

import pytest

from ansible_collections.kvmfleet.compute.plugins.module_utils._rules.errors import KvmfleetError
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.planning.precopy import check, decide
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.validation import ValidationError

MIB = 2**20


def domain(mib=1000, state="running", not_layered=(), **disk):
    entry = {"target": "vda", "device": "disk", "readonly": False, "source_type": "file", "path": "/images/web.qcow2", "allocated_bytes": mib * MIB, **disk}
    return {"name": "web1", "state": state, "not_layered": list(not_layered), "disks": [entry]}


def answer(mode="auto", guest=None, measured=None, threshold=10, bandwidth_limit=0):
    return decide(check({"mode": mode, "threshold": threshold, "bandwidth_limit": bandwidth_limit}), guest or domain(), measured)


@pytest.mark.parametrize(
    ("options", "wanted", "said"),
    [
        ({"guest": domain(953)}, False, "953 MiB takes about 10.0 s at 95 MiB/s (assumed, nothing was measured"),
        ({"guest": domain(955)}, True, "longer than 10 s"),
        ({"measured": 200 * MIB}, False, "5.0 s at 200 MiB/s (as measured in the latest copy"),
        ({"measured": 50 * MIB}, True, "20.0 s at 50 MiB/s"),
        ({"measured": 200 * MIB, "bandwidth_limit": 10 * MIB}, True, "100.0 s at 10 MiB/s"),
        ({"measured": 5 * MIB, "bandwidth_limit": 10 * MIB}, True, "200.0 s at 5 MiB/s"),
        ({"measured": 5 * MIB, "bandwidth_limit": 500 * 1024}, True, "2048.0 s at 500 KiB/s (the limit of bandwidth)"),
        ({"guest": domain(state="shutoff")}, False, "shutoff"),
        ({"guest": domain(source_type="volume")}, False, "disk vda is of the type volume"),
        ({"guest": domain(not_layered=["it has snapshots (1), which a layer would hide"])}, False, "it has snapshots (1), which a layer would hide"),
        ({"mode": "never", "measured": 1}, False, "precopy: never"),
        ({"mode": "always", "guest": domain(1)}, True, "precopy: always"),
        ({"mode": "always", "guest": domain(1, state="shutoff")}, False, "shutoff"),
    ],
)
def test_the_decision_and_its_reason(options, wanted, said):
    found = answer(**options)
    assert found["wanted"] is wanted
    assert said in found["reason"]


def test_what_must_be_and_cannot_is_refused():
    with pytest.raises(KvmfleetError) as caught:
        answer("always", domain(source_type="block"))
    assert caught.value.code == "precopy_impossible"
    assert answer("always", domain(source_type="block", readonly=True))["wanted"]
    assert answer("always", domain(source_type="network", network={"protocol": "nbd"}))["wanted"]


@pytest.mark.parametrize(
    ("field", "options"),
    [("precopy", {"mode": "sometimes"}), ("precopy_threshold", {"threshold": "soon"}), ("bandwidth_limit", {"bandwidth_limit": -1})],
)
def test_a_word_that_is_none_is_named(field, options):
    with pytest.raises(ValidationError, match=field):
        check(options)


def test_without_a_word_nothing_is_copied_ahead():
    assert not decide(check(None), domain(10**6), None)["wanted"]
