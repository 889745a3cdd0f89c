# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest

from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.filters.huge_pages import HugePagesFilter
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.validation import ValidationError
from ansible_collections.kvmfleet.compute.tests.unit.plugins.plugin_utils.scheduler.fleet import host, rejection, request


def cells(*pages):
    return [{"cpus": 4, "memory_mb": 8192, "free_pages": free} for free in pages]


def need(memory_mb=1024, page_kib=2048, nodes=None):
    return {"page_kib": page_kib, "memory_mb": memory_mb, "nodes": nodes}


def judged(needed, offered):
    return rejection(HugePagesFilter, host(numa_cells=offered), request(requirements={"huge_pages": needed}))


@pytest.mark.parametrize(
    ("needed", "offered", "passes"),
    [
        pytest.param(None, None, True, id="none needed"),
        pytest.param(need(), None, False, id="host without cells"),
        pytest.param(need(), cells({"2048": 512}), True, id="enough"),
        pytest.param(need(), cells({"2048": 511}), False, id="one short"),
        pytest.param(need(), cells({"2048": 256}, {"2048": 256}), True, id="of several nodes together"),
        pytest.param(need(nodes=[1]), cells({"2048": 512}, {"2048": 256}), False, id="not on the node it is bound to"),
        pytest.param(need(nodes=[0, 1]), cells({"2048": 256}, {"2048": 256}), True, id="on the nodes it is bound to"),
        pytest.param(need(nodes=[1]), [{**cells({"2048": 512})[0], "id": 1}], True, id="nodes have numbers of their own"),
        pytest.param(need(page_kib=1048576), cells({"2048": 512}), False, id="another size"),
        pytest.param(need(page_kib=None), cells({"4": 999999, "2048": 512}), True, id="any huge page"),
        pytest.param(need(page_kib=None), cells({"4": 999999}), False, id="small pages are not huge"),
        pytest.param(need(2048, page_kib=None), cells({"2048": 512, "1048576": 1}), False, id="of one size"),
    ],
)
def test_free_pages(needed, offered, passes):
    assert (judged(needed, offered) is None) is passes


def test_reason():
    refused = judged(need(nodes=[0]), cells({"2048": 10}))
    assert (refused["code"], refused["need"], refused["have"]) == ("huge_pages", 1024, 20)
    assert refused["reason"] == "needs 1024 MB in huge pages of 2048 KiB on NUMA node 0, 20 MB are free"


@pytest.mark.parametrize("needed", [{"memory_mb": "much"}, {"memory_mb": 1, "page_kib": 0}, {"memory_mb": 1, "nodes": "0-1"}, {"memory_mb": 1, "size": 4}])
def test_malformed(needed):
    with pytest.raises(ValidationError, match=r"^request\.requirements\.huge_pages\."):
        judged(needed, None)
