# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest

from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.options import Options
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.presets import PRESETS
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.registry import ALWAYS, FILTERS, WEIGHERS
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.select import select_destinations
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.validation import ValidationError
from ansible_collections.kvmfleet.compute.tests.unit.plugins.plugin_utils.scheduler.fleet import flavor, host, request


def test_presets_name_filters_and_weighers_that_exist():
    for preset in PRESETS.values():
        assert set(preset["enabled_filters"]) <= set(FILTERS)
        assert set(preset["weighers"]) <= set(WEIGHERS)


def test_fleet_is_the_default_and_keeps_the_article():
    assert Options.build(None) == Options.build({"preset": "fleet"})
    assert set(PRESETS["article"]["enabled_filters"]) < set(PRESETS["fleet"]["enabled_filters"])
    for key in ("cpu_allocation_ratio", "ram_allocation_ratio", "disk_allocation_ratio", "reserved_rule"):
        assert PRESETS["article"][key] == PRESETS["fleet"][key]


def test_a_single_option_changes_a_preset():
    options = Options.build({"preset": "nova", "ram_allocation_ratio": 1.2, "cpu_allocation_ratio": None})
    assert (options.ram_allocation_ratio, options.cpu_allocation_ratio) == (1.2, 4.0)


def test_an_unknown_preset():
    with pytest.raises(ValidationError, match=r"^scheduler\.preset: expected one of article, nova, fleet \(did you mean 'nova'\?\), got 'novae'"):
        Options.build({"preset": "novae"})


@pytest.mark.parametrize(("preset", "passes"), [("article", True), ("nova", False), ("fleet", False)])
def test_the_article_did_not_look_at_vcpus(preset, passes):
    result = select_destinations([host(vcpus_used=999)], request(), {"preset": preset})
    assert (result["selected"] is not None) is passes


@pytest.mark.parametrize(("preset", "selected"), [("article", "kvm2"), ("nova", "kvm2"), ("fleet", "kvm1")])
def test_only_the_fleet_grows_in_place(preset, selected):
    fleet = [host("kvm1", memory_mb_used=4096), host("kvm2")]
    assert select_destinations(fleet, request("kvm1"), {"preset": preset})["selected"] == selected


@pytest.mark.parametrize(
    ("options", "selected"), [({}, "kvm2"), ({"weighers": {"RAMWeigher": 1, "SameHostWeigher": 2}}, "kvm1"), ({"prefer_same_host": True}, "kvm1")]
)
def test_what_staying_is_worth(options, selected):
    fleet = [host("kvm1", memory_mb_used=4096), host("kvm2")]
    asked = request("kvm1", allow_resize_to_same_host=True)
    assert select_destinations(fleet, asked, {"preset": "article", **options})["selected"] == selected


@pytest.mark.parametrize(
    ("rule", "ram", "passes"),
    [
        # 8192 MiB, 512 reserved, 6144 used by guests: 8192 x 1.5 - 512 - 6144 = 5632, (8192 - 512) x 1.5 - 6144 = 5376
        ("ram_filter", 5632, True),
        ("ram_filter", 5633, False),
        ("placement", 5376, True),
        ("placement", 5377, False),
    ],
)
def test_reserved_memory(rule, ram, passes):
    state = host(memory_mb_used=512 + 6144, reserved={"memory_mb": 512, "vcpus": 0, "disk_mb": 0})
    result = select_destinations([state], request(flavor=flavor(ram=ram)), {"reserved_rule": rule})
    assert (result["selected"] is not None) is passes


def test_placement_says_what_it_withholds():
    state = host(memory_mb_used=6656, reserved={"memory_mb": 512})
    result = select_destinations([state], request(flavor=flavor(ram=6000)), {"reserved_rule": "placement"})
    reason = result["rejected"]["kvm1"][0]["reason"]
    assert reason == "needs 6000 MB, 5376 MB left of 12288 MB (8192 MB x 1.5), 6656 MB used, 256 MB withheld for what is reserved"


def test_a_host_that_is_down_has_one_reason():
    asked = request(requirements={"machine": "q35", "networks": ["a"]}, image={"properties": {"hw_architecture": "x86_64"}})
    result = select_destinations([{"host": "kvm1", "up": False}], asked)
    assert [reason["code"] for reason in result["rejected"]["kvm1"]] == ["down"]


@pytest.mark.parametrize("name", sorted({cls.__name__ for cls in ALWAYS}))
def test_no_list_turns_off_what_is_always_on(name):
    state = host("kvm1", enabled=False, maintenance=True, pools=[])
    asked = request("kvm1", target_host="kvm9", ignore_hosts=["KVM1"], allow_resize_to_same_host=False, requirements={"pools": ["vms"]})
    result = select_destinations([state], asked, {"enabled_filters": []})
    assert name in [reason["filter"] for reason in result["rejected"]["kvm1"]]


@pytest.mark.parametrize(("used", "selected"), [(512, "kvm2"), (1024, "kvm1")])
def test_a_base_decides_among_hosts_that_are_about_as_free(used, selected):
    asked = request(requirements={"bases": [{"sha256": "aa", "size_bytes": 1}]})
    assert select_destinations([host("kvm1"), host("kvm2", memory_mb_used=used, bases=["aa"])], asked)["selected"] == selected
