# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest

from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.filters.machine_type import MachineTypeFilter
from ansible_collections.kvmfleet.compute.tests.unit.plugins.plugin_utils.scheduler.fleet import host, rejection, request


@pytest.mark.parametrize(
    ("machine", "known", "passes"),
    [(None, ["pc"], True), ("pc-q35-7.2", ["pc-q35-7.2"], True), ("pc-q35-8.2", ["pc-q35-7.2"], False), ("pc-q35-8.2", [], True), ("pc-q35-8.2", None, True)],
)
def test_machine_type(machine, known, passes):
    assert (rejection(MachineTypeFilter, host(machine_types=known), request(requirements={"machine": machine})) is None) is passes


def test_reason_names_what_is_alike():
    known = ["pc-i440fx-7.2", "pc-q35-7.1", "pc-q35-7.2"]
    refused = rejection(MachineTypeFilter, host(machine_types=known), request(requirements={"machine": "pc-q35-8.2"}))
    assert refused["reason"] == "does not know the machine type pc-q35-8.2; of its kind it knows pc-q35-7.1, pc-q35-7.2"
