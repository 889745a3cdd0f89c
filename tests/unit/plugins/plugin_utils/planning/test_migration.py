# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a request comes to, and everything that is refused before a guest is touched."""

from __future__ import annotations

import copy

import pytest

from ansible_collections.kvmfleet.compute.plugins.filter.locate_instance import locate_instance
from ansible_collections.kvmfleet.compute.plugins.filter.plan_migration import plan_migration

GIB = 1024**3
FLAVORS = {"small": {"vcpus": 1, "ram": 256, "disk": 1}, "large": {"vcpus": 2, "ram": 512, "disk": 3}, "huge": {"vcpus": 4, "ram": 1048576, "disk": 10}}
DOMAIN = {"name": "web1", "uuid": "i-1", "state": "running"}


def host(name, zone="north", memory_mb=8192, used=512, domains=(), **more):
    return {
        "host": name,
        "up": True,
        "enabled": True,
        "availability_zone": zone,
        "aggregates": [],
        "vcpus": 4,
        "vcpus_used": 0,
        "memory_mb": memory_mb,
        "memory_mb_used": used,
        "local_gb": 100,
        "local_gb_used": 0,
        "disk_available_least": None,
        "num_instances": len(domains),
        "num_io_ops": 0,
        "instances": [],
        "hypervisor_type": "QEMU",
        "hypervisor_version": 7002022,
        "supported_instances": [["x86_64", "kvm", "hvm"]],
        "domains": list(domains),
        "migrations": [],
        **more,
    }


def fleet(**source):
    return [host("kvm1", domains=[DOMAIN], used=768, **source), host("kvm2"), host("kvm3", "south", memory_mb=65536), host("kvm4", "south")]


def domain(**changes):
    return {
        "name": "web1",
        "uuid": "i-1",
        "state": "running",
        "persistent": True,
        "flavor": {"name": "small", "vcpus": 1, "ram": 256, "disk": 1},
        "machine": "pc-q35-7.2",
        "arch": "x86_64",
        "virt_type": "kvm",
        "emulator": "/usr/bin/qemu-system-x86_64",
        "disks": [
            {
                "target": "vda",
                "device": "disk",
                "readonly": False,
                "root": True,
                "path": "/var/lib/libvirt/images/web1.qcow2",
                "format": "qcow2",
                "virtual_size": GIB,
                "allocated_bytes": 5000000,
                "chain": [
                    {"path": "/var/lib/libvirt/images/web1.qcow2", "format": "qcow2", "virtual_size": GIB},
                    {
                        "path": "/var/lib/libvirt/images/base.qcow2",
                        "format": "qcow2",
                        "virtual_size": GIB // 2,
                        "identity": {"sha256": "ab", "format": "qcow2", "virtual_size": GIB // 2, "size_bytes": 9},
                    },
                ],
            }
        ],
        "interfaces": [{"type": "bridge", "source": "br0", "mac": "52:54:00:00:00:01"}],
        "firmware": {"nvram": None, "loader": None, "nvram_template": None},
        "refusals": [],
        "agent": {"connected": True},
        "xml_digest": "cd",
        **changes,
    }


def plan(flavor="large", hosts=None, guest=None, scheduler=None, migrate=False, **request):
    asked = {
        "instance": "web1",
        "zone": None,
        "target_host": None,
        "ignore_hosts": [],
        "allow_resize_to_same_host": True,
        "allow_downsize": False,
        "flavor": None if migrate else {**FLAVORS[flavor], "name": flavor, "ephemeral": 0, "swap": 0, "extra_specs": {}},
        **request,
    }
    return plan_migration(hosts or fleet(), guest or domain(), asked, scheduler)


def planned(*args, **kwargs):
    answer = plan(*args, **kwargs)
    assert answer["error"] is None, answer["error"]
    return answer["plan"]


def refused(*args, **kwargs):
    answer = plan(*args, **kwargs)
    assert answer["plan"] is None
    return answer["error"]


class TestPlan:
    def test_in_place_where_it_fits(self):
        found = planned()
        assert (found["action"], found["candidates"]) == ("in_place", ["kvm1"])

    def test_elsewhere_in_the_zone_when_asked_to_move(self):
        found = planned(allow_resize_to_same_host=False)
        assert (found["action"], found["candidates"]) == ("move", ["kvm2"])
        assert found["record"]["disks"][0]["grow_to"] == 3 * GIB
        assert found["record"]["disks"][0]["base"] == {
            "sha256": "ab",
            "format": "qcow2",
            "virtual_size": GIB // 2,
            "size_bytes": 9,
            "path": "/var/lib/libvirt/images/base.qcow2",
            "backing": None,
        }
        assert {name: there["ratios"] for name, there in found["for"].items()} == {"kvm2": {"cpu": 16.0, "ram": 1.5, "disk": 1.0}}
        assert found["for"]["kvm2"]["requirements"]["bridges"] == ["br0"]
        assert found["diff"]["before"]["host"] == "kvm1"
        assert found["diff"]["after"] == {"host": "kvm2", "flavor": "large", "vcpus": 2, "ram_mib": 512, "disk_gib": 3}

    def test_what_the_guest_refers_to_is_told_where_it_moves(self):
        bridge = {"kind": "bridge", "name": "br0", "answer": "keep", "reason": "the destination must have this bridge"}
        guest = domain(references=[{**bridge, "element": "devices/interface[@type='bridge']/source/@bridge"}])
        found = planned(guest=guest, allow_resize_to_same_host=False)
        assert found["references"] == [bridge]
        assert found["references_text"] == ["keep bridge br0 (the destination must have this bridge)"]
        for stays in (planned(guest=guest), planned(guest=guest, migrate=True, target_host="kvm1")):
            assert (stays["references"], stays["references_text"]) == ([], [])

    @pytest.mark.parametrize("migrate", [True, False])
    def test_what_a_restart_would_take_away_is_refused_until_the_caller_says_what_becomes_of_it(self, migrate):
        guest = domain(live_differences=[{"what": "disk vdb", "text": "disk vdb: /x.qcow2 now, not there by the definition"}])
        error = refused(guest=guest, migrate=migrate)
        assert error["code"] == "live_differences"
        assert "disk vdb: /x.qcow2 now" in error["message"]
        assert "2. repeat with live_differences=keep" in error["message"]
        assert "Nothing was changed" in error["message"]
        for answer, told in (("keep", "becomes part of the definition"), ("drop", "as the definition says")):
            found = planned(guest=guest, migrate=migrate, live_differences=answer)
            assert found["record"]["live_differences"] == found["live_differences"] == {"answer": answer, "found": [guest["live_differences"][0]["text"]]}
            assert "disk vdb: /x.qcow2 now" in found["message"]
            assert told in found["message"]

    def test_a_guest_that_is_what_its_definition_says_needs_no_answer(self):
        for answer in (None, "", "keep"):
            found = planned(live_differences=answer)
            assert (found["live_differences"]["found"], "ifferences" in found["message"]) == ([], False)

    def test_a_host_that_has_what_the_guest_wants_to_itself_is_no_destination(self):
        """Of all ways out, each once, and numbered."""
        guest = domain(exclusive={"tcp_port": ["5911@127.0.0.1"], "mac": ["52:54:00:00:00:01"]})
        hosts = [{**known, "exclusive": {"tcp_port": {"5911": "db1"}}} for known in fleet()]
        error = refused(hosts=hosts, guest=guest, migrate=True)
        assert "kvm2: ConflictFilter: the TCP port 5911 belongs to db1" in error["message"]
        assert "1. name a host that has none of this (target_host)\n  2. give one of both another port" in error["message"]
        found = planned(guest=guest, migrate=True)
        assert found["for"]["kvm2"]["requirements"]["exclusive"] == guest["exclusive"]

    def test_any_zone_takes_the_roomiest_host(self):
        assert planned(allow_resize_to_same_host=False, zone="any")["candidates"] == ["kvm3", "kvm2", "kvm4"]

    def test_a_target_has_no_alternates(self):
        assert planned(migrate=True, zone="any", target_host="kvm4")["candidates"] == ["kvm4"]

    def test_a_cold_migration_never_stays_and_never_grows(self):
        found = planned(migrate=True)
        assert (found["action"], found["candidates"]) == ("move", ["kvm2"])
        assert found["record"]["disks"][0]["grow_to"] is None
        assert found["record"]["migration_type"] == "migration"

    def test_the_flavor_in_force_is_nothing_to_do(self):
        found = planned("small")
        assert found["action"] == "none"
        assert "already has flavor small" in found["message"]

    def test_the_filesystem_of_the_root_disk_grows_only_when_asked(self):
        for flavor, request in (("large", {}), ("large", {"allow_resize_to_same_host": False}), ("small", {})):
            assert planned(flavor, **request)["grow_filesystem"] is None
            assert planned(flavor, **request, grow_filesystem=False)["grow_filesystem"] is None
            assert planned(flavor, **request, grow_filesystem="yes")["grow_filesystem"] == "vda"
        assert planned(migrate=True, grow_filesystem=True)["grow_filesystem"] is None
        assert planned("small", guest=domain(disks=[]), grow_filesystem=True)["grow_filesystem"] is None
        assert refused(grow_filesystem="perhaps")["message"] == "grow_filesystem: expected true or false, got 'perhaps'"

    def test_already_on_the_target(self):
        assert planned(migrate=True, target_host="kvm1")["action"] == "none"

    def test_a_disabled_host_may_be_left(self):
        assert planned(migrate=True, hosts=fleet(enabled=False))["candidates"] == ["kvm2"]

    def test_nothing_given_is_changed(self):
        hosts, guest = fleet(), domain()
        before = copy.deepcopy((hosts, guest))
        plan(hosts=hosts, guest=guest)
        assert (hosts, guest) == before


def places(value, way=()):
    """Each key and index within a document."""
    for key, inner in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield (*way, key)
        yield from places(inner, (*way, key))


def told(guest):
    """All that a host may tell of a guest which planning reads, with a network disk, a boot file and a reference of each kind."""
    file = {**guest["disks"][0], "source_type": "file", "bus": "virtio", "pool": None, "volume": None, "role": None, "encrypted": False}
    drive = {"source_type": "file", "target": "sda", "device": "cdrom", "readonly": True, "root": False, "path": None}
    rbd = {"target": "vdb", "protocol": "rbd", "name": "p/web1", "hosts": [{"name": "mon", "port": 6789}], "files": ["/etc/ceph/ceph.conf"]}
    return {
        **guest,
        "disks": [file, {**drive, "bus": "sata"}, {**drive, "target": "vdb", "device": "disk", "readonly": False, "network": rbd, "virtual_size": GIB}],
        "boot_files": [{**file, "target": "kernel", "root": False, "format": "raw", "chain": file["chain"][:1]}],
        "interfaces": [{**guest["interfaces"][0], "mtu": 1500}, {"type": "network", "source": "default", "mac": "52:54:00:00:00:02", "mtu": None}],
        "console_logs": [{"path": "/var/log/libvirt/qemu/web1.log", "append": True}],
        "snapshots": [{"name": "one", "current": True, "external": False}],
        "not_layered": ["it has snapshots (1), which a layer would hide"],
        "not_in_place": [],
        "secrets": [{"uuid": "s-1", "usage_type": "ceph", "usage": "web", "by": "uuid", "needed_by": ["disk vdb"], "missing": None, "withheld": None}],
        "references": [{"kind": "bridge", "name": "br0", "answer": "keep", "reason": "it must be there", "element": "x"}],
        "owners": {
            "vda": {"uid": 0, "gid": 0, "mode": 384, "user": "root", "group": "root", "label": None, "given": True, "relabel": True, "of_qemu": [False, False]}
        },
        "cpu": {"mode": "custom", "model": "Haswell", "features": ["aes"]},
        "cpu_shares": 1024,
        "host_cpus": {"cpus": [0], "nodes": [0]},
        "pinned_cpus": [1],
        "huge_pages": None,
        "tpm": {"model": "tpm-crb", "version": "2.0"},
        "secure_boot": False,
        "free_targets": ["vdc", "vdd"],
    }


@pytest.mark.parametrize("scheduler", [None, {"default_availability_zone": "cloud"}])
def test_hosts_without_a_zone_are_in_the_one_of_all_that_have_none(scheduler):
    """Most inventories give none."""
    hosts = fleet()
    for facts in hosts:
        del facts["availability_zone"]
    found = planned(hosts=hosts, scheduler=scheduler, allow_resize_to_same_host=False)
    assert f"zone {(scheduler or {}).get('default_availability_zone', 'nova')}" in found["message"]


class TestWhatAHostTellsOfItsGuest:
    """A host may lie, be of another release, or have a broken disk: whatever it tells is an answer or a refusal that names it, never an exception."""

    @pytest.mark.parametrize("request_", [{"migrate": True, "target_host": "kvm2"}, {"allow_resize_to_same_host": False, "grow_filesystem": True}, {}])
    def test_every_value_that_cannot_be_is_refused(self, request_):
        true = told(domain())
        planned(guest=copy.deepcopy(true), precopy={"mode": "auto"}, **request_)
        for place in places(true):
            for lie in (None, "x", [], {}, -1, True, ["x"], {"x": 1}, ...):
                guest = copy.deepcopy(true)
                *way, last = place
                inner = guest
                for key in way:
                    inner = inner[key]
                if lie is ...:
                    del inner[last]
                else:
                    inner[last] = lie
                try:
                    plan(guest=guest, precopy={"mode": "auto"}, **request_)
                except Exception as exc:
                    pytest.fail(f"{place} = {lie!r}: {exc!r}")

    def test_the_field_is_named(self):
        guest = domain()
        guest["disks"][0]["virtual_size"] = "large"
        error = refused(guest=guest)
        assert error["code"] == "handed_value"
        assert "kvm1 tells of 'web1' what cannot be; nothing was changed. domain.disks[0].virtual_size: expected a number >= 0" in error["message"]


def of_two_gib(guest):
    guest["disks"][0]["virtual_size"] = 2 * 2**30
    guest["disks"][0]["chain"][0]["virtual_size"] = 2 * 2**30
    return guest


class TestAFlavorWithoutADisk:
    """The root disk stays as it is: with disk 0 as Nova means it for guests that boot from a volume, or since the caller says so."""

    @pytest.mark.invariant(9)
    @pytest.mark.parametrize(("disk", "keep"), [(0, False), (0, True), (1, True), (9, True)])
    @pytest.mark.parametrize("size", [2 * 2**30, 2 * 2**30 - 2**20])
    def test_it_changes_vcpus_and_memory_alone(self, disk, keep, size):
        guest = of_two_gib(domain(flavor={"name": None, "vcpus": 1, "ram": 256, "disk": 2}))
        guest["disks"][0]["virtual_size"] = size
        found = plan_migration(fleet(), guest, request_with({"vcpus": 2, "ram": 512, "disk": disk}, keep_disk=keep), None)["plan"]
        assert found["record"]["new_flavor"] == {"name": "f", "vcpus": 2, "ram": 512, "disk": 2, "ephemeral": 0, "swap": 0, "extra_specs": {}}
        assert [disk["grow_to"] for disk in found["record"]["disks"]] == [None] * len(guest["disks"])
        assert found["placement"]["request"]["requirements"]["growth_bytes"] == 0

    def test_a_guest_that_has_it_has_nothing_to_do(self):
        guest = of_two_gib(domain(flavor={"name": "f", "vcpus": 2, "ram": 512, "disk": 2}))
        found = plan_migration(fleet(), guest, request_with({"vcpus": 2, "ram": 512, "disk": 0}), None)["plan"]
        assert found["action"] == "none"

    def test_what_has_no_meaning_here_is_named_once(self):
        wanted = request_with({"vcpus": 2, "ram": 512, "disk": 0}, ignored_flavor_keys=["id", "rxtx_factor"])
        message = plan_migration(fleet(), domain(), wanted, None)["plan"]["message"]
        assert message.endswith(" id, rxtx_factor of kvmfleet_flavors.f have no meaning here.")


class TestRefusals:
    @pytest.mark.invariant(9)
    @pytest.mark.parametrize(
        ("flavor", "field"),
        [({"vcpus": 1, "ram": 512, "disk": 9}, "vcpus"), ({"vcpus": 2, "ram": 255, "disk": 9}, "ram"), ({"vcpus": 2, "ram": 512, "disk": 1}, "disk")],
    )
    def test_guests_only_grow(self, flavor, field):
        guest = of_two_gib(domain(flavor={"name": None, "vcpus": 2, "ram": 512, "disk": 2}))
        error = plan_migration(fleet(), guest, request_with(flavor), None)["error"]
        assert (error["code"], error["details"]["field"]) == ("downsize", field)
        assert f"flavor.{field}" in error["message"]
        assert ("keep_disk" in error["message"]) == (field == "disk")

    @pytest.mark.parametrize("field", ["vcpus", "ram"])
    def test_downsizing_may_be_allowed_but_never_for_disks(self, field):
        guest = of_two_gib(domain(flavor={"name": None, "vcpus": 2, "ram": 512, "disk": 2}))
        smaller = {"vcpus": 2, "ram": 512, "disk": 2, field: 1}
        assert plan_migration(fleet(), guest, request_with(smaller, allow_downsize=True), None)["error"] is None
        shrunk = {**smaller, "disk": 1}
        assert plan_migration(fleet(), guest, request_with(shrunk, allow_downsize=True), None)["error"]["details"]["field"] == "disk"

    @pytest.mark.invariant(11)
    def test_no_host_fits_and_every_host_is_named_with_numbers(self):
        error = refused("huge")
        assert error["code"] == "no_valid_host"
        for name in ("kvm1", "kvm2", "kvm3", "kvm4"):
            assert name in error["message"]
        assert "1048576" in error["message"]

    def test_a_host_that_is_down_is_named_with_its_reason(self):
        down = {"host": "kvm2", "availability_zone": "north", "up": False, "down_reason": "no route to host"}
        error = refused(migrate=True, hosts=[fleet()[0], down])
        assert "kvm2 was not asked: no route to host" in error["message"]

    @pytest.mark.parametrize(
        ("state", "way_out"),
        [
            ("paused", "virsh resume"),
            ("pmsuspended", "virsh dompmwakeup"),
            ("crashed", "virsh reset"),
            ("shutdown", "wait until it is off"),
            ("blocked", "Start or stop it first"),
        ],
    )
    def test_states(self, state, way_out):
        error = refused(guest=domain(state=state))
        assert (error["code"], error["details"]["have"]) == ("unsupported_state", state)
        assert f"is {state}; it must be running or shut off. " in error["message"]
        assert way_out in error["message"]

    def test_transient(self):
        assert refused(guest=domain(persistent=False))["code"] == "not_persistent"

    def test_what_the_host_refuses(self):
        error = refused(guest=domain(refusals=[{"code": "unsupported_hostdev", "reason": "a PCI device"}]))
        assert error["code"] == "not_movable"
        assert "a PCI device [unsupported_hostdev]" in error["message"]

    def test_waiting_for_confirm(self):
        waiting = {"uuid": "m", "instance_uuid": "i-1", "instance_name": "web1", "source_host": "kvm9", "migration_type": "resize", "status": "finished"}
        waiting.update(role="destination", destination_host="kvm1", step="finished", updated_at=1.0)
        error = refused(hosts=[host("kvm1", domains=[DOMAIN], migrations=[waiting]), host("kvm2")])
        assert error["code"] == "unconfirmed_migration"

    @pytest.mark.parametrize(
        ("facts", "guest", "code"),
        [
            ({"machine_types": ["pc-q35-6.2"]}, {}, "machine_type"),
            ({"bridges": ["br1"]}, {}, "network"),
            ({"disk_free_mb": 4}, {}, "disk_space"),
            ({"cgroup_version": 2}, {"cpu_shares": 10240}, "cpu_shares"),
            (
                {"numa_cells": [{"id": 0, "cpus": 4, "cpu_list": "0-3", "memory_mb": 8192}]},
                {"host_cpus": {"cpus": [3, 4], "nodes": []}},
                "host_cpus",
            ),
            ({"numa_cells": []}, {"huge_pages": {"page_kib": 2048, "memory_mb": 512, "nodes": None}}, "huge_pages"),
            ({"nwfilters": []}, {"references": [{"kind": "nwfilter", "name": "clean-traffic", "answer": "keep", "reason": "it must be there"}]}, "network"),
            ({"tpm": {"backends": []}}, {"tpm": {"model": "tpm-crb", "version": "2.0"}}, "tpm"),
            (
                {"cpu": {"virt_type": "kvm", "model": "Nehalem", "models": ["Nehalem"], "features": ["sse4.2"]}},
                {"cpu": {"mode": "custom", "model": "EPYC", "features": ["avx"]}},
                "cpu_features",
            ),
            ({"firmware": {"kinds": []}}, {"firmware": {"kind": "uefi", "loader": None, "nvram": None, "nvram_template": None}}, "firmware"),
            ({"maintenance": "new disks"}, {}, "maintenance"),
            ({"pools": []}, {"disks": [{**domain()["disks"][0], "pool": "vms", "volume": "web1.qcow2"}]}, "storage"),
        ],
    )
    def test_what_the_definition_needs_is_asked_of_every_host(self, facts, guest, code):
        hosts = [host("kvm1", domains=[DOMAIN]), host("kvm2", **facts)]
        error = refused(hosts=hosts, guest=domain(**guest), allow_resize_to_same_host=False)
        assert code in [reason["code"] for reason in error["details"]["placement"]["rejected"]["kvm2"]]

    def test_a_base_that_a_host_holds_draws_the_guest(self):
        hosts = [host("kvm1", domains=[DOMAIN]), host("kvm2"), host("kvm5", used=600, bases=["ab"])]
        assert planned(hosts=hosts, allow_resize_to_same_host=False)["candidates"] == ["kvm5", "kvm2"]
        assert planned(hosts=hosts, allow_resize_to_same_host=False, scheduler={"weighers": {"RAMWeigher": 1}})["candidates"] == ["kvm2", "kvm5"]

    @pytest.mark.parametrize(("rule", "ram"), [("ram_filter", 1.5), ("placement", 1.5 - 1024 * 0.5 / 8192)])
    def test_the_claim_is_judged_by_the_same_rule_for_reserved_memory(self, rule, ram):
        hosts = [host("kvm1", domains=[DOMAIN]), host("kvm2", used=1024, reserved={"memory_mb": 1024, "vcpus": 0, "disk_mb": 0})]
        found = planned(hosts=hosts, allow_resize_to_same_host=False, scheduler={"reserved_rule": rule})
        assert found["for"]["kvm2"]["ratios"] == {"cpu": 16.0, "ram": ram, "disk": 1.0}

    def test_a_scheduler_option_that_does_not_exist(self):
        error = refused(scheduler={"ram_alocation_ratio": 2})
        assert error["code"] == "invalid_value"
        assert "ram_allocation_ratio" in error["message"]


class TestExtraSpecs:
    SHARES = {"quota:cpu_shares": "512", "capabilities:x": "y"}

    def asked(self, specs, guest=None, hosts=None, filters=(), **flavor):
        wanted = request_with({**FLAVORS["small"], "extra_specs": specs, **flavor})
        return plan_migration(hosts or fleet(), guest or domain(), wanted, {"enabled_filters": list(filters)})

    def test_they_are_in_the_record_and_in_the_diff(self):
        found = self.asked(self.SHARES)["plan"]
        assert found["action"] == "in_place"
        assert found["record"]["tuning"]["cputune"] == {"shares": 512}
        assert found["record"]["new_flavor"]["extra_specs"] == self.SHARES
        assert (found["diff"]["before"]["extra_specs"], found["diff"]["after"]["extra_specs"]) == ({}, {"quota:cpu_shares": "512"})

    def test_those_in_force_are_nothing_to_do(self):
        guest = domain(flavor={"name": "f", **FLAVORS["small"], "extra_specs": {**self.SHARES, "capabilities:x": "z"}})
        assert self.asked(self.SHARES, guest)["plan"]["action"] == "none"
        assert self.asked({}, guest)["plan"]["action"] == "in_place"

    def test_a_cold_migration_leaves_them_alone_and_looks_for_a_host_that_has_what_they_ask_for(self):
        guest = domain(flavor={"name": "f", **FLAVORS["small"], "extra_specs": self.SHARES})
        error = refused(migrate=True, guest=guest)
        assert "capabilities:x" in error["message"]
        found = planned(migrate=True, guest=guest, hosts=[*fleet()[:1], host("kvm2", capabilities={"x": "y"})])
        assert (found["record"]["tuning"], found["record"]["new_flavor"]["extra_specs"]) == (None, self.SHARES)

    def test_cpus_of_its_own(self):
        def asked(guest, here):
            hosts = [{**fleet()[0], "numa_cells": cells, "cpu_dedicated_set": here}, host("kvm2", numa_cells=cells, cpu_dedicated_set="")]
            return self.asked({"hw:cpu_policy": "dedicated"}, guest, hosts, ["NUMATopologyFilter"])

        cells = [{"id": 0, "cpus": 4, "cpu_list": "0-3", "pinned_cpu_list": "2", "pinned_cpus": 1, "memory_mb": 9999, "free_pages": {}}]
        found = asked(domain(pinned_cpus=[]), "2-3")["plan"]
        assert (found["action"], found["for"]["kvm1"]["requirements"]["dedicated"]) == ("in_place", [[0]])
        refusal = asked(domain(pinned_cpus=[]), "2")["error"]
        assert refusal["code"] == "no_valid_host"
        assert "cell 0: 0 CPUs" in refusal["message"]
        assert asked(domain(pinned_cpus=[2]), "2")["plan"]["action"] == "in_place"

    def test_a_cold_migration_gives_cpus_of_its_own_there_too(self):
        guest = domain(flavor={"name": "f", **FLAVORS["small"], "extra_specs": {"hw:cpu_policy": "dedicated"}})
        cells = [{"id": 0, "cpus": 4, "cpu_list": "0-3", "pinned_cpu_list": "", "pinned_cpus": 0, "memory_mb": 9999, "free_pages": {}}]
        found = planned(migrate=True, guest=guest, hosts=[*fleet()[:1], host("kvm2", numa_cells=cells, cpu_dedicated_set="3")])
        assert (found["record"]["tuning"], found["for"]["kvm2"]["requirements"]["dedicated"]) == (None, [[0]])

    def test_refused_by_name(self):
        answer = self.asked({"hw:cpu_policy": "mixed"})
        assert answer["error"]["code"] == "unsupported_extra_specs"
        assert "kvmfleet_flavors.f.extra_specs" in answer["error"]["message"]

    def test_an_interface_that_cannot_be_limited(self):
        guest = domain(interfaces=[*domain()["interfaces"], {"type": "user", "source": None, "mac": "52:54:00:00:00:02"}])
        error = self.asked({"quota:vif_inbound_average": "10"}, guest)["error"]
        assert (error["code"], error["details"]["have"]) == ("unsupported_extra_specs", ["user"])
        assert "52:54:00:00:00:02 (user)" in error["message"]
        assert self.asked({"quota:cpu_shares": "10"}, guest)["error"] is None


class TestNetworkStorage:
    NETWORK = {"target": "vda", "protocol": "rbd", "name": "p/web1", "hosts": [], "files": []}

    def guest(self, size):
        disk = {"target": "vda", "device": "disk", "readonly": False, "root": True, "path": None, "network": self.NETWORK, "virtual_size": size}
        return domain(disks=[disk], flavor={"name": None, "vcpus": 1, "ram": 256, "disk": -(-(size or 0) // GIB)})

    def test_it_is_left_alone_and_asked_for_at_the_destination(self):
        found = planned(migrate=True, guest=self.guest(None))
        assert (found["record"]["disks"], found["for"]["kvm2"]["requirements"]["network_disks"]) == ([], [self.NETWORK])
        assert [answer["what"] for answer in found["for"]["kvm2"]["storage"]] == ["left"]

    def test_it_is_never_resized(self):
        assert planned("large", guest=self.guest(3 * GIB - 5))["action"] == "in_place"
        error = refused("large", guest=self.guest(GIB))
        assert (error["code"], error["details"]["need"], error["details"]["have"]) == ("network_disk_size", 3 * GIB, GIB)
        assert refused("large", guest=self.guest(4 * GIB))["code"] == "network_disk_size"
        assert refused("large", guest=self.guest(None))["code"] == "disk_size_unknown"


def request_with(flavor, **more):
    return {
        "instance": "web1",
        "zone": None,
        "target_host": None,
        "ignore_hosts": [],
        "allow_resize_to_same_host": True,
        "allow_downsize": False,
        "flavor": {"name": "f", "ephemeral": 0, "swap": 0, "extra_specs": {}, **flavor},
        **more,
    }


class TestEncryption:
    """Of a file: the copy has its bytes, but what would be laid over it holds in the clear what the guest writes."""

    GUEST = domain(disks=[{**domain()["disks"][0], "encrypted": True, "chain": domain()["disks"][0]["chain"][:1]}])

    def test_it_moves_and_grows(self):
        record = planned(guest=self.GUEST, allow_resize_to_same_host=False)["record"]
        assert (record["disks"][0]["encrypted"], record["disks"][0]["grow_to"]) == (True, 3 * GIB)
        assert not planned(migrate=True)["record"]["disks"][0]["encrypted"]

    def test_not_in_place(self):
        error = refused(guest=self.GUEST)
        assert error["code"] == "encrypted_in_place"
        assert "encrypted disks vda of web1" in error["message"]

    def test_not_ahead(self):
        copied = planned(migrate=True, guest=domain(**{**self.GUEST, "not_layered": []}), precopy={"mode": "auto"})["for"]["kvm2"]["precopy"]
        assert (copied["wanted"], "vda is encrypted" in copied["reason"]) == (False, True)


class TestSecrets:
    SECRET = {"uuid": "s-1", "usage_type": "ceph", "usage": "client", "by": "uuid", "needed_by": ["disk vda"], "withheld": None}

    def test_the_record_names_them(self):
        assert planned(guest=domain(secrets=[{**self.SECRET, "missing": None}]))["record"]["secrets"] == [self.SECRET]
        assert planned(guest=domain())["record"]["secrets"] == []


class TestLocate:
    def locate(self, hosts=None, **request):
        return locate_instance(fleet() if hosts is None else hosts, {"instance": "web1", **request})

    def test_by_a_name_that_only_a_domain_may_have(self):
        assert self.locate([host("kvm1", domains=[{**DOMAIN, "name": "web 1 (R&D)"}])], instance="web 1 (R&D)")["host"] == "kvm1"

    def test_by_name_and_by_uuid(self):
        assert self.locate()["host"] == "kvm1"
        assert self.locate(instance="i-1")["host"] == "kvm1"

    @pytest.mark.parametrize("name", ["web 1 ", "web1;reboot", "web1\n", "../web1", "a/b", "$(id)", "-web1", "", None, 7, "x" * 200])
    @pytest.mark.parametrize("field", ["instance", "flavor", "zone", "target_host"])
    def test_names(self, field, name):
        answer = self.locate(**{"flavors": FLAVORS, field: name})
        if name in ("", None) and field in ("zone", "target_host"):
            assert answer["error"] is None
            return
        assert answer["error"]["code"] == "invalid_value"
        assert answer["error"]["message"].startswith(field + ": expected a name")

    @pytest.mark.parametrize(
        ("flavor", "named"),
        [
            ({"vcpus": "two", "ram": 1, "disk": 1}, "kvmfleet_flavors.x.vcpus"),
            ({"vcpus": 1.5, "ram": 1, "disk": 1}, "kvmfleet_flavors.x.vcpus"),
            ({"vcpus": True, "ram": 1, "disk": 1}, "kvmfleet_flavors.x.vcpus"),
            ({"vcpus": 0, "ram": 1, "disk": 1}, "kvmfleet_flavors.x.vcpus"),
            ({"vcpus": 1, "ram": -512, "disk": 1}, "kvmfleet_flavors.x.ram"),
            ({"vcpus": 1, "disk": 1}, "kvmfleet_flavors.x.ram"),
            ({"vcpus": 1, "ram": 1, "disk": 1, "cores": 2}, "kvmfleet_flavors.x.cores"),
            ([1, 2], "kvmfleet_flavors.x"),
        ],
    )
    def test_flavors(self, flavor, named):
        error = self.locate(flavor="x", flavors={"x": flavor})["error"]
        assert error["code"] == "invalid_value"
        assert error["message"].startswith(named + ":")

    def test_extra_specs(self):
        flavor = {**FLAVORS["small"], "extra_specs": {"quota:cpu_shares": "7"}}
        assert self.locate(flavor="x", flavors={"x": flavor})["request"]["tuning"]["cputune"] == {"shares": 7}
        assert self.locate()["request"]["tuning"] is None
        error = self.locate(flavor="x", flavors={"x": {**flavor, "extra_specs": {"quota:cpu_shares": "many"}}})["error"]
        assert (error["code"], error["details"]["field"]) == ("invalid_value", "kvmfleet_flavors.x.extra_specs.quota:cpu_shares")
        assert self.locate(flavor="x", flavors={"x": {**flavor, "extra_specs": {"hw:x": "1"}}})["error"]["code"] == "unsupported_extra_specs"

    @pytest.mark.parametrize("flavors", [{}, None, [], "small"])
    def test_no_flavors(self, flavors):
        assert self.locate(flavor="small", flavors=flavors)["error"]["message"].startswith("kvmfleet_flavors: expected a mapping")

    def test_unknown_flavor(self):
        error = self.locate(flavor="tiny", flavors=FLAVORS)["error"]
        assert error["code"] == "unknown_flavor"
        assert "huge, large, small" in error["message"]

    def test_unknown_instance_names_what_was_searched(self):
        down = {"host": "kvm9", "up": False, "down_reason": "no route to host"}
        error = self.locate(hosts=[*fleet(), down], instance="web2")["error"]
        assert error["code"] == "unknown_instance"
        assert "4 hosts were searched" in error["message"]
        assert "kvm9 (no route to host)" in error["message"]

    @pytest.mark.parametrize("twin", [{"name": "web1", "uuid": "i-2", "state": "shutoff"}, {"name": "other", "uuid": "i-1", "state": "shutoff"}])
    def test_on_two_hosts(self, twin):
        error = self.locate(hosts=[*fleet(), host("kvm5", domains=[twin])])["error"]
        assert error["code"] == "instance_on_several_hosts"
        assert "kvm1" in error["message"]
        assert "kvm5" in error["message"]

    def test_no_compute_group(self):
        assert self.locate(hosts=[])["error"]["code"] == "no_compute_hosts"

    @pytest.mark.parametrize("field", ["target_host", "ignore_hosts"])
    def test_hosts_outside_the_inventory(self, field):
        error = self.locate(**{field: "kvm99" if field == "target_host" else ["kvm99"]})["error"]
        assert error["code"] == "unknown_host"
        assert "kvm1, kvm2, kvm3, kvm4" in error["message"]

    def test_an_interrupted_operation_has_no_host_yet(self):
        sealed = {"uuid": "m", "instance_uuid": "i-1", "instance_name": "web1", "status": "migrating"}
        hosts = [host("kvm1", migrations=[sealed]), host("kvm2")]
        assert self.locate(hosts=hosts)["host"] is None
