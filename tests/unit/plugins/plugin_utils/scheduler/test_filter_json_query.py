# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest

from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.filters.json_query import JsonFilter
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.validation import ValidationError
from ansible_collections.kvmfleet.compute.tests.unit.plugins.plugin_utils.scheduler.fleet import host, rejection, request


def judged(query, **changes):
    return rejection(JsonFilter, host(**changes), request(scheduler_hints={"query": query}))


@pytest.mark.parametrize(
    ("query", "passes"),
    [
        (None, True),
        ([], True),
        ("", True),
        ([">=", "$free_ram_mb", 8192], True),
        ('[">=", "$free_ram_mb", 8193]', False),
        (["<", "$vcpus_used", 1], True),
        (["=", "$host", "kvm1"], True),
        (["=", "$host"], False),
        (["in", "$host", "kvm2", "kvm1"], True),
        (["in", "$host", "kvm2"], False),
        (["and", [">=", "$free_disk_mb", 100 * 1024], ["<=", "$vcpus_total", 8]], True),
        (["or", ["=", "$host", "kvm9"], ["=", "$arch", "x86_64"]], True),
        (["not", ["=", "$host", "kvm1"]], False),
        (["not", ["=", "$host", "kvm9"]], True),
        (["=", "$capabilities.cpu_info.vendor", "AMD"], True),
        (["=", "$capabilities.cpu_info.nothing", "AMD"], False),
        (["=", "$nothing", 1], False),
        (["and"], True),
        (["or"], False),
    ],
)
def test_query(query, passes):
    assert (judged(query, arch="x86_64", capabilities={"cpu_info": {"vendor": "AMD"}}) is None) is passes


@pytest.mark.parametrize("query", ["{", "7", 7, ["=>", 1, 1], ["and", ["nor", 1]], ["<", "$host", 1], ["in", ["xor"]]])
def test_malformed_query(query):
    with pytest.raises(ValidationError, match=r"^request\.scheduler_hints\.query"):
        judged(query)
