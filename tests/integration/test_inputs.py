# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What people give, in the forms in which they give it, on real hosts."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.fleet import Fleet
from support.guest import Guests
from support.lab import Lab

BLANK = {
    "zone": "",
    "target_host": " ",
    "allow_resize_to_same_host": "",
    "allow_downsize": None,
    "root_disk": "",
    "ephemeral_disk": "",
    "swap_disk": None,
    "grow_filesystem": "",
    "on_shutdown_timeout": "",
    "facts_max_age": "",
    "lost_host": "",
    "migrate_settle_time": "",
    "migrate_shutdown_modes": "",
    "migrate_image_directories": None,
}
"""A survey of AWX whose questions nobody answered."""


def as_ini(fleet: Fleet) -> None:
    """What an inventory in INI would hand over: text, and a list that is none."""
    fleet.vars.update(
        kvmfleet_image_directories="/var/lib/libvirt/images/",
        kvmfleet_history_days="90",
        kvmfleet_become="true",
        kvmfleet_migration_bandwidth_limit="500M",
    )
    fleet.vars["kvmfleet_flavors"] = {name: {key: str(value) for key, value in flavor.items()} for name, flavor in fleet.flavors.items()}
    for host in fleet.hosts.values():
        host.update(kvmfleet_enabled="True", kvmfleet_maintenance="false")
        host["kvmfleet_reserved_host_memory_mb"] = str(host.get("kvmfleet_reserved_host_memory_mb", 512))
    fleet.hosts["kvm1"]["kvmfleet_enabled"] = "false"


def test_text_and_blanks_mean_what_they_say(lab: Lab, fleet: Fleet, guests: Guests) -> None:
    """The host that is closed in INI gets no guest, blank answers are the defaults, and the result names what is confirmed."""
    guest = guests.create("web", "kvm1", start=False)
    flavor = fleet.flavors["medium"]
    as_ini(fleet)
    planned = fleet.play("plan", instance="web", flavor="medium", **BLANK).ok()
    assert "ComputeFilter" in planned.verdicts["kvm1"]

    moved = fleet.play("resize", instance="web", flavor="medium", reason="", **BLANK).ok().migration
    assert (moved["destination"], guest.hosts) == ("kvm2", ["kvm2"])
    fleet.play("confirm", instance="", kvmfleet_migration=moved, **BLANK).ok()
    assert guest.defined == flavor
    assert lab["kvm1"].files() == []


def test_what_nobody_can_have_meant_is_refused_before_anything_is_done(lab: Lab, fleet: Fleet, guests: Guests) -> None:
    guest = guests.create("web", "kvm1", start=False)
    before = [lab[host].records() for host in lab.hosts]
    for wrong, said in (
        ({"allow_downsize": "perhaps"}, "allow_downsize: expected true or false, got 'perhaps'"),
        ({"migrate_image_directories": "/"}, "migrate_image_directories[0]: expected the absolute path of a directory other than /"),
        ({"migrate_image_directories": "images"}, "(did you mean '/images'?), got 'images'"),
        ({"migrate_settle_time": "soon"}, "migrate_settle_time: expected a number >= 0, got 'soon'"),
        ({"zone": "north", "kvmfleet_zone_wanted": "south"}, "zone: expected the same as kvmfleet_zone_wanted ('south')"),
    ):
        assert said in fleet.play("resize", instance="web", flavor="medium", **wrong).refused()
    assert (guest.hosts, [lab[host].records() for host in lab.hosts]) == (["kvm1"], before)


def test_words_of_the_inventory_are_not_what_was_asked_for(fleet: Fleet, guests: Guests) -> None:
    """A zone of the DNS, and whatever else."""
    guests.create("web", "kvm1", start=False)
    words = fleet.directory / "group_vars"
    words.mkdir()
    (words / "all.yml").write_text("zone: example.net\nflavor: vanilla\nreason: dns\ninstance: netbox\ntarget_host: kvm9\n")
    planned = fleet.play("plan", kvmfleet_instance="web", kvmfleet_flavor="medium").ok()
    assert "resize web" in planned.said
    error = fleet.play("resize", instance="web").refused()
    assert "flavor" in error
    assert "example.net" not in error


@pytest.mark.parametrize("playbook", ["migrate", "recover"])
def test_what_a_fact_cache_remembers_decides_nothing_under_a_limit(lab: Lab, fleet: Fleet, guests: Guests, playbook: str) -> None:
    """The facts are young, and of another run."""
    guest = guests.create("web", "kvm1", start=False)
    (fleet.directory / "ansible.cfg").write_text(f"[defaults]\nfact_caching = jsonfile\nfact_caching_connection = {fleet.directory / 'facts'}\n")
    fleet.play("status").ok()
    before = lab["kvm1"].records()
    inventory = Path(fleet.inventory())
    inventory.write_text(inventory.read_text() + "local: {hosts: {localhost: {ansible_connection: local}}}\n")
    fleet.inventory = lambda: inventory  # type: ignore[method-assign]
    error = fleet.play(playbook, "--limit", "localhost", instance="web").refused()
    assert "The limit 'localhost' of this run leaves out kvm1, kvm2" in error
    assert "target_host" in error
    assert (guest.hosts, lab["kvm1"].records()) == (["kvm1"], before)
