# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest

from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.filters.pci_passthrough import PciPassthroughFilter
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.validation import ValidationError
from ansible_collections.kvmfleet.compute.tests.unit.plugins.plugin_utils.scheduler.fleet import flavor, host, rejection, request

ALIASES = {"gpu": {"vendor_id": "10DE", "product_id": "20b0"}, "nvidia": {"vendor_id": "10de"}}
GPUS = [{"vendor_id": "10de", "product_id": "20b0", "count": 1}, {"vendor_id": "10de", "product_id": "1db4", "count": 1}]


@pytest.mark.parametrize(
    ("alias", "devices", "passes"),
    [
        (None, None, True),
        ("gpu", GPUS, True),
        ("gpu:1", GPUS, True),
        ("gpu:2", GPUS, False),
        ("nvidia:2", GPUS, True),
        ("gpu:1,nvidia:1", GPUS, True),
        ("gpu:1,nvidia:2", GPUS, False),
        ("gpu:1", None, False),
    ],
)
def test_devices(alias, devices, passes):
    specs = {} if alias is None else {"pci_passthrough:alias": alias}
    asked = request(flavor=flavor(extra_specs=specs))
    assert (rejection(PciPassthroughFilter, host(pci_devices=devices), asked, pci_alias=ALIASES) is None) is passes


@pytest.mark.parametrize("alias", ["fpga:1", "gpu:0", "gpu:x"])
def test_unknown_alias_or_count(alias):
    with pytest.raises(ValidationError, match="pci_passthrough:alias"):
        rejection(PciPassthroughFilter, host(), request(flavor=flavor(extra_specs={"pci_passthrough:alias": alias})), pci_alias=ALIASES)
