# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the documentation of select_destinations says is there, is there, and nothing else."""

from __future__ import annotations

from dataclasses import fields

import yaml

from ansible_collections.kvmfleet.compute.plugins.filter import select_destinations
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.options import Options
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.presets import DEFAULT_PRESET, PRESETS
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.registry import FILTERS, WEIGHERS
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.request import Request
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.requirements import Requirements

OPTIONS = yaml.safe_load(select_destinations.DOCUMENTATION)["options"]
SCHEDULER = OPTIONS["scheduler"]["suboptions"]


def test_scheduler_options():
    assert set(SCHEDULER) == {field.name for field in fields(Options)}


def test_defaults_and_presets():
    options = Options.build(None)
    assert {name: getattr(options, name) for name, option in SCHEDULER.items() if "default" in option} == {
        name: option["default"] for name, option in SCHEDULER.items() if "default" in option
    }
    assert (SCHEDULER["preset"]["choices"], SCHEDULER["preset"]["default"]) == (list(PRESETS), DEFAULT_PRESET)


def test_request():
    assert set(OPTIONS["request"]["suboptions"]) == {field.name for field in fields(Request)} - {"image_id"}
    text = " ".join(OPTIONS["request"]["suboptions"]["requirements"]["description"])
    assert all(f"C({field.name})" in text for field in fields(Requirements))


def test_every_filter_and_weigher_is_named():
    assert [name for name in (*FILTERS, *WEIGHERS) if name not in select_destinations.DOCUMENTATION] == []
