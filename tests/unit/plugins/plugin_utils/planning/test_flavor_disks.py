# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a flavor's ephemeral and swap come to, alone and in a whole plan."""

from __future__ import annotations

import copy

import pytest
from hypothesis import given, strategies as st

from ansible_collections.kvmfleet.compute.plugins.filter.locate_instance import locate_instance
from ansible_collections.kvmfleet.compute.plugins.filter.plan_migration import plan_migration
from ansible_collections.kvmfleet.compute.plugins.module_utils._rules.errors import KvmfleetError
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.planning import flavor_disks

from .test_migration import DOMAIN, FLAVORS, GIB, domain, fleet

MIB = 1024**2
IMAGES = "/var/lib/libvirt/images"


def disk(target, role, size, **more):
    path = f"{IMAGES}/{target}.qcow2"
    layers = [{"path": path, "format": "qcow2", "virtual_size": size, "snapshots": []}]
    found = {"target": target, "device": "disk", "readonly": False, "root": False, "role": role, "path": path, "format": "qcow2", "bus": "virtio"}
    return {**found, "virtual_size": size, "allocated_bytes": 1000, "chain": layers, **more}


def guest(ephemeral=0, swap=0, **more):
    """With disks of so many GiB and MiB."""
    found = domain(free_targets=["vdy", "vdz"], snapshots=[], **more)
    found["disks"][0]["role"] = None
    found["disks"] += [disk("vdb", "ephemeral", int(ephemeral * GIB))] if ephemeral else []
    found["disks"] += [disk("vdc", "swap", swap * MIB)] if swap else []
    found["flavor"].update(ephemeral=-(-int(ephemeral * GIB) // GIB), swap=swap)
    return found


def flavor(ephemeral=0, swap=0, **more):
    return {"name": "f", "vcpus": 1, "ram": 256, "disk": 1, "ephemeral": ephemeral, "swap": swap, "extra_specs": {}, **more}


def changes(have, want, moving=True):
    return flavor_disks.changes("web1", guest(*have), flavor(*want), moving=moving)


def made(found):
    return [(new["role"], new["target"], new["path"].rpartition("/")[2], new["size"]) for new in found.new]


def answered(found, want, in_place=False, hosts=None, **more):
    """Of a whole plan; a cold migration where no flavor is wanted."""
    asked = {"instance": "web1", "zone": None, "target_host": None, "ignore_hosts": [], "allow_downsize": False}
    return plan_migration(hosts or fleet(), found, {**asked, "allow_resize_to_same_host": in_place, "flavor": want, **more})


def planned(*args, **kwargs):
    answer = answered(*args, **kwargs)
    assert answer["error"] is None, answer["error"]
    return answer["plan"]


class TestChanges:
    @pytest.mark.parametrize(
        ("have", "want", "moving", "expected"),
        [
            ((0, 0), (0, 0), True, ({}, (), [], [])),
            ((0, 0), (1, 0), True, ({}, (), [("ephemeral", "vdy", "web1-ephemeral0.qcow2", GIB)], [])),
            ((0, 0), (0, 64), False, ({}, (), [("swap", "vdy", "web1-swap.qcow2", 64 * MIB)], [])),
            ((0, 0), (1, 64), True, ({}, (), [("ephemeral", "vdy", "web1-ephemeral0.qcow2", GIB), ("swap", "vdz", "web1-swap.qcow2", 64 * MIB)], [])),
            ((1, 0), (1, 0), True, ({}, (), [], [])),
            ((1, 0), (2, 0), True, ({"vdb": 2 * GIB}, (), [], [])),
            ((0.5, 0), (1, 0), False, ({"vdb": GIB}, (), [], [])),
            ((1, 64), (1, 128), True, ({}, ("vdc",), [("swap", "vdc", "web1-swap.qcow2", 128 * MIB)], [])),
            ((1, 128), (1, 64), False, ({}, ("vdc",), [("swap", "vdc", "web1-swap.qcow2", 64 * MIB)], [])),
            ((0, 64), (0, 64), True, ({}, ("vdc",), [("swap", "vdc", "web1-swap.qcow2", 64 * MIB)], [])),
            ((0, 64), (0, 64), False, ({}, (), [], [])),
            ((0, 64), (0, 0), True, ({}, ("vdc",), [], ["vdc"])),
            ((0, 64), (0, 0), False, ({}, ("vdc",), [], ["vdc"])),
        ],
    )
    def test_by_novas_rules(self, have, want, moving, expected):
        found = changes(have, want, moving)
        assert (found.grown, found.left_behind, made(found), found.dropped) == expected

    def test_a_new_disk_lies_and_is_named_after_the_root_disk(self):
        (new,) = changes((0, 0), (0, 64)).new
        assert new == {
            "role": "swap",
            "target": "vdy",
            "path": f"{IMAGES}/web1-swap.qcow2",
            "format": "qcow2",
            "size": 64 * MIB,
            "pool": None,
            "volume": None,
            "beside": "vda",
        }

    def test_beside_a_volume_it_is_one(self):
        found = guest()
        found["disks"][0].update(pool="vms", volume="web1.qcow2")
        (new,) = flavor_disks.changes("web1", found, flavor(swap=64), moving=True).new
        assert (new["pool"], new["volume"]) == ("vms", "web1-swap.qcow2")

    def test_what_is_left_behind_keeps_its_name(self):
        found = guest(swap=64)
        found["disks"][-1]["path"] = f"{IMAGES}/web1-swap.qcow2"
        (new,) = flavor_disks.changes("web1", found, flavor(swap=128), moving=False).new
        assert new["path"] == f"{IMAGES}/web1-swap-2.qcow2"

    def test_what_the_definition_says_of_them(self):
        assert changes((1, 64), (2, 128)).known == {
            "ephemeral": {"target": "vdb", "name": "vdb.qcow2"},
            "swap": {"target": "vdc", "name": "web1-swap.qcow2"},
        }
        assert changes((1, 64), (1, 64), moving=False).known["swap"] == {"target": "vdc", "name": "vdc.qcow2"}
        assert changes((0, 64), (0, 0)).known == {}

    def test_a_volume_goes_by_its_own_name(self):
        found = guest(ephemeral=1)
        found["disks"][-1].update(pool="vms", volume="v1")
        assert flavor_disks.changes("web1", found, flavor(ephemeral=1), moving=True).known == {"ephemeral": {"target": "vdb", "name": "v1"}}

    @pytest.mark.parametrize(("have", "want"), [(2, 1), (1, 0), (1.5, 1)])
    def test_an_ephemeral_disk_never_shrinks(self, have, want):
        with pytest.raises(KvmfleetError) as caught:
            changes((have, 0), (want, 0))
        assert (caught.value.code, caught.value.details) == ("downsize", {"field": "ephemeral", "need": int(have * GIB), "have": want * GIB})
        assert "that the ephemeral disk vdb of web1 has; a disk never shrinks." in str(caught.value)

    def test_a_root_disk_in_network_storage_has_no_directory(self):
        found = guest()
        found["disks"][0].update(path=None, network={"protocol": "rbd"})
        assert flavor_disks.changes("web1", found, flavor(), moving=True).new == ()
        with pytest.raises(KvmfleetError, match="flavor.swap: 64 MiB; the disk would be made beside the root disk vda of web1, which lies in no directory"):
            flavor_disks.changes("web1", found, flavor(swap=64), moving=True)

    def test_a_bus_may_be_full(self):
        full = {**guest(), "free_targets": ["hdd"]}
        full["disks"][0]["bus"] = "ide"
        with pytest.raises(KvmfleetError, match=r"flavor.swap: 64 MiB; web1 has no target left for another disk on the bus of its root disk vda \(ide\)"):
            flavor_disks.changes("web1", full, flavor(1, 64), moving=True)

    @given(
        have=st.tuples(st.integers(0, 3), st.integers(0, 3)),
        wants=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3), st.booleans()), max_size=5),
    )
    def test_the_guest_has_what_the_flavor_says(self, have, wants):
        """Whatever flavors follow each other: one disk of each kind, of the size of the flavor, and an ephemeral one keeps its file."""
        now = guest(*have)
        for ephemeral, swap, moving in wants:
            kept = next((one["path"] for one in now["disks"] if one["role"] == "ephemeral"), None)
            if ephemeral * GIB < sum(one["virtual_size"] for one in now["disks"] if one["role"] == "ephemeral"):
                with pytest.raises(KvmfleetError):
                    flavor_disks.changes("web1", now, flavor(ephemeral, swap), moving=moving)
                continue
            found = flavor_disks.changes("web1", now, flavor(ephemeral, swap), moving=moving)
            staying = [one for one in now["disks"] if one["target"] not in found.left_behind]
            for one in staying:
                one["virtual_size"] = found.grown.get(one["target"], one["virtual_size"])
            for new in found.new:
                staying.append(disk(new["target"], new["role"], new["size"], path=new["path"]))
            now = {**now, "disks": staying, "free_targets": [target for target in ("vdb", "vdc", "vdy", "vdz") if target not in {d["target"] for d in staying}]}
            sizes = {one["role"]: one["virtual_size"] for one in now["disks"][1:]}
            assert sizes == {role: size for role, size in (("ephemeral", ephemeral * GIB), ("swap", swap * MIB)) if size}
            assert kept in (None, *(one["path"] for one in now["disks"]))
            assert {role: entry["target"] for role, entry in found.known.items()} == {one["role"]: one["target"] for one in now["disks"][1:]}
            assert len({one["path"] for one in now["disks"]}) == len(now["disks"])


class TestBytes:
    @pytest.mark.parametrize(
        ("have", "want", "expected"),
        [
            ((0, 0), (0, 0), 0),
            ((0, 0), (1, 64), GIB + 64 * MIB),
            ((1, 64), (3, 128), 2 * GIB + 128 * MIB),
            ((1, 64), (1, 64), 0),
            ((0, 64), (0, 0), 0),
        ],
    )
    def test_what_may_come(self, have, want, expected):
        assert flavor_disks.bytes_to_come(guest(*have), flavor(*want)) == expected


class TestPlan:
    def plan(self, have, want, in_place=False, **more):
        return planned(guest(*have), flavor(*want), in_place, **more)

    def test_what_both_journals_hold(self):
        record = self.plan((1, 64), (2, 128))["record"]
        assert [(one["target"], one["grow_to"], one.get("left_behind")) for one in record["disks"]] == [
            ("vda", None, None),
            ("vdb", 2 * GIB, None),
            ("vdc", None, True),
        ]
        assert [one["target"] for one in record["new_disks"]] == ["vdc"]
        assert record["dropped_disks"] == []
        assert record["flavor_disks"]["swap"]["name"] == "web1-swap.qcow2"

    def test_each_disk_has_its_line(self):
        assert [line["text"] for line in self.plan((1, 64), (2, 128))["for"]["kvm2"]["storage"]] == [
            f"vda: copied from {IMAGES}/web1.qcow2 to {IMAGES}/web1.qcow2 (a directory that has no name in kvmfleet_disk_directories, so the path stays)",
            f"vdb: copied from {IMAGES}/vdb.qcow2 to {IMAGES}/vdb.qcow2, and grown to 2 GiB "
            "(a directory that has no name in kvmfleet_disk_directories, so the path stays)",
            f"vdc: re-created at {IMAGES}/web1-swap.qcow2 (the flavor has 128 MiB of swap; what it is now, {IMAGES}/vdc.qcow2, stays until confirm)",
        ]
        assert [line["text"] for line in self.plan((0, 64), (1, 0), in_place=True)["for"]["kvm1"]["storage"]][1:] == [
            f"vdc: removed (the flavor has no swap; what it is now, {IMAGES}/vdc.qcow2, stays until confirm)",
            f"vdy: created at {IMAGES}/web1-ephemeral0.qcow2 (the flavor has 1 GiB of ephemeral)",
        ]

    def test_a_new_disk_comes_to_lie_beside_the_root_disk(self):
        hosts = fleet(images_path=IMAGES)
        hosts[1]["images_path"] = "/srv/images"
        (line,) = self.plan((0, 0), (0, 64), hosts=hosts)["for"]["kvm2"]["storage"][1:]
        assert (line["what"], line["path"]) == ("created", "/srv/images/web1-swap.qcow2")

    def test_message_and_diff(self):
        found = self.plan((0, 0), (1, 64))
        assert "to flavor f (1 vCPU, 256 MiB, 1 GiB, 1 GiB ephemeral, 64 MiB swap) on kvm2" in found["message"]
        assert (found["diff"]["before"]["ephemeral_gib"], found["diff"]["after"]["swap_mib"]) == (0, 64)
        assert "swap_mib" not in planned(guest(), flavor(disk=2))["diff"]["after"]

    def test_placement_counts_them(self):
        asked = self.plan((0, 64), (1, 128))["placement"]["request"]
        assert asked["requirements"]["growth_bytes"] == GIB + 128 * MIB
        assert asked["requirements"]["overlay_bytes"] == 5000000
        full = fleet()
        for host in full:
            host["local_gb"] = 2
        assert "DiskFilter" in answered(guest(), flavor(2), hosts=full)["error"]["message"]

    def test_what_is_left_behind_is_not_copied_ahead(self):
        found = guest(swap=64)
        for one in found["disks"]:
            one["source_type"] = "file"
        found["disks"][-1]["allocated_bytes"] = 100 * GIB
        answer = answered(found, flavor(swap=128), precopy={"mode": "auto", "threshold": 5, "bandwidth_limit": 0})
        assert (answer["plan"]["for"]["kvm2"]["precopy"]["wanted"], answer["plan"]["for"]["kvm2"]["precopy"]["reason"][:13]) == (False, "copying 5 MiB")

    def test_a_base_of_what_is_left_behind_is_not_fetched(self):
        found = guest(swap=64)
        found["disks"][-1]["chain"].append({"path": f"{IMAGES}/b", "format": "raw", "virtual_size": 1, "identity": {"sha256": "cd", "size_bytes": 7}})
        answer = planned(found, flavor(swap=128))
        assert [base["sha256"] for one in answer["record"]["disks"] for base in one["bases"]] == ["ab"]
        assert [base["sha256"] for base in answer["placement"]["request"]["requirements"]["bases"]] == ["ab"]

    def test_the_same_sizes_are_nothing_to_do(self):
        found = self.plan((1, 64), (1, 64))
        assert (found["action"], found["record"]) == ("none", None)

    def test_a_cold_migration_takes_every_disk_along(self):
        found = planned(guest(1, 64), None)
        assert [(one["target"], one.get("left_behind")) for one in found["record"]["disks"]] == [("vda", None), ("vdb", None), ("vdc", None)]
        assert (found["record"]["new_disks"], found["record"]["dropped_disks"], found["record"]["flavor_disks"]) == ([], [], None)

    def test_snapshots_need_the_swap_disk_as_it_is(self):
        found = guest(swap=64, refusals=[])
        found["snapshots"] = [{"name": "before-upgrade", "current": True, "external": False}]
        error = answered(copy.deepcopy(found), flavor(swap=128), in_place=True)["error"]
        assert (error["code"], error["details"]["have"]) == ("disk_has_snapshots", ["before-upgrade"])
        bigger = flavor(swap=64, disk=2)
        assert planned(copy.deepcopy(found), bigger, in_place=True)["action"] == "in_place"
        assert answered(found, bigger)["error"]["code"] == "disk_has_snapshots"

    def test_a_guest_without_them_is_planned_as_ever(self):
        """But for keys of the record that say so."""
        found = planned(domain(), flavor(disk=2))["record"]
        assert (found["new_disks"], found["dropped_disks"], found["flavor_disks"]) == ([], [], {})
        assert set(found["disks"][0]) == {
            "target", "kind", "pool", "volume", "path", "format", "chain", "allocated_bytes", "virtual_size", "encrypted", "base", "bases",
            "grow_to",
        }  # fmt: skip

    def test_flavors_with_them_are_resolved(self):
        answer = locate_instance(fleet(), {"instance": DOMAIN["name"], "flavor": "x", "flavors": {**FLAVORS, "x": {**FLAVORS["small"], "swap": 64}}})
        assert (answer["error"], answer["request"]["flavor"]["swap"]) == (None, 64)
