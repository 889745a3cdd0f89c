# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest

from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.filters.tpm import TpmFilter
from ansible_collections.kvmfleet.compute.tests.unit.plugins.plugin_utils.scheduler.fleet import host, rejection, request

SWTPM = {"models": ["tpm-tis", "tpm-crb"], "backends": ["passthrough", "emulator"], "versions": ["1.2", "2.0"]}


@pytest.mark.parametrize(
    ("needed", "offered", "reason"),
    [
        (None, None, None),
        ({"model": "tpm-crb", "version": "2.0"}, SWTPM, None),
        ({"model": "tpm-crb"}, None, None),
        ({"model": "tpm-spapr"}, SWTPM, "has no TPM of model tpm-spapr, only tpm-tis, tpm-crb"),
        ({"version": "3.0"}, SWTPM, "has no TPM of version 3.0, only 1.2, 2.0"),
        ({"version": "2.0"}, {**SWTPM, "versions": []}, None),
        ({"model": "tpm-crb"}, {"models": ["tpm-crb"], "backends": ["passthrough"]}, "cannot emulate a TPM (swtpm is not installed)"),
        ({}, {"backends": []}, "cannot emulate a TPM (swtpm is not installed)"),
    ],
)
def test_tpm(needed, offered, reason):
    refused = rejection(TpmFilter, host(tpm=offered), request(requirements={"tpm": needed}))
    assert (refused and refused["reason"]) == reason
