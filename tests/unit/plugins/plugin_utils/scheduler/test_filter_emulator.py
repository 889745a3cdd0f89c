# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest

from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.filters.emulator import EmulatorFilter
from ansible_collections.kvmfleet.compute.tests.unit.plugins.plugin_utils.scheduler.fleet import host, rejection, request

HOST = {
    "supported_instances": [["x86_64", "kvm", "hvm"], ["x86_64", "qemu", "hvm"]],
    "emulators": {"x86_64": "/usr/bin/qemu-system-x86_64"},
    "files": {"/usr/bin": ["kvm", "qemu-system-x86_64"], "/usr/libexec": []},
}


@pytest.mark.parametrize(
    ("needed", "code"),
    [
        ({}, None),
        ({"arch": "x86_64", "virt_type": "kvm", "emulator": "/usr/bin/qemu-system-x86_64"}, None),
        ({"arch": "x86_64"}, None),
        ({"arch": "aarch64"}, "virt_type"),
        ({"arch": "x86_64", "virt_type": "hvf"}, "virt_type"),
        ({"emulator": "/usr/bin/kvm"}, None),
        ({"emulator": "/usr/libexec/qemu-kvm"}, "emulator"),
        ({"emulator": "/opt/qemu/bin/qemu-system-x86_64"}, None),
    ],
)
def test_emulator(needed, code):
    refused = rejection(EmulatorFilter, host(**HOST), request(requirements=needed))
    assert (refused and refused["code"]) == code


def test_what_a_host_does_not_report_is_left_to_the_claim():
    assert rejection(EmulatorFilter, host(), request(requirements={"arch": "x86_64", "virt_type": "kvm", "emulator": "/usr/bin/kvm"})) is None
