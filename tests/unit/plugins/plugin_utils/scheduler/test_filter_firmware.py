# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest

from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.filters.firmware import FirmwareFilter
from ansible_collections.kvmfleet.compute.tests.unit.plugins.plugin_utils.scheduler.fleet import host, rejection, request

CODE, VARS, SECURE = "/usr/share/OVMF/OVMF_CODE_4M.fd", "/usr/share/OVMF/OVMF_VARS_4M.fd", "/usr/share/OVMF/OVMF_CODE_4M.secboot.fd"
HOST = {"firmware": {"kinds": ["efi"], "loaders": [CODE], "secure_boot": False}, "files": {"/usr/share/OVMF": ["OVMF_CODE_4M.fd", "OVMF_VARS_4M.fd"]}}


@pytest.mark.parametrize(
    ("needed", "changes", "lacks"),
    [
        ({}, {}, None),
        ({"loader": CODE, "nvram_template": VARS}, {}, None),
        ({"loader": SECURE}, {}, f"no loader {SECURE}"),
        ({"loader": CODE, "nvram_template": "/usr/share/OVMF/OTHER.fd"}, {}, "no template of firmware variables /usr/share/OVMF/OTHER.fd"),
        ({"loader": "/opt/firmware.fd"}, {}, None),
        ({"firmware": "efi"}, {}, None),
        ({"firmware": "efi"}, {"firmware": {"kinds": []}}, "no efi firmware that libvirt could choose"),
        ({"firmware": "efi", "secure_boot": True}, {}, "no firmware with secure boot"),
        ({"firmware": "efi", "secure_boot": True}, {"firmware": {"kinds": ["efi"], "secure_boot": True}}, None),
        ({"loader": SECURE, "firmware": "efi", "secure_boot": True}, {"firmware": None, "files": None}, None),
    ],
)
def test_firmware(needed, changes, lacks):
    refused = rejection(FirmwareFilter, host(**{**HOST, **changes}), request(requirements=needed))
    assert (refused and refused["need"]) == lacks
