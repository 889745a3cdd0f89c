# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A host from which the charge of a guest was taken has nothing of it any more, so that the guest may come back."""

from __future__ import annotations

from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.loaded_fleet import LoadedFleet
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.options import Options
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.request import Flavor
from ansible_collections.kvmfleet.compute.tests.unit.plugins.plugin_utils.scheduler.fleet import host


def test_a_guest_that_was_released_holds_nothing_that_it_wants_to_itself() -> None:
    claims = [{"instance_uuid": uuid, "instance_name": uuid, "exclusive": {"log": [f"/var/log/{uuid}.log"]}} for uuid in ("u-1", "u-2")]
    held = {"log": {f"/var/log/{uuid}.log": f"{uuid}, whose sealed copy lies here" for uuid in ("u-1", "u-2")}, "port": {"5900": "a guest"}}
    fleet = LoadedFleet([host("kvm1", claims=claims, exclusive=held, instances=["u-1", "u-2"], num_instances=2)], Options.build({}))
    fleet.release("kvm1", "u-1", Flavor("small", 1, 64, 1, 0, 0, {}))
    facts = fleet.hosts["kvm1"].facts
    assert facts["exclusive"] == {"log": {"/var/log/u-2.log": "u-2, whose sealed copy lies here"}, "port": {"5900": "a guest"}}
    assert [claim["instance_uuid"] for claim in facts["claims"]] == facts["instances"] == ["u-2"]
