# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the playbook check says of hosts and guests, by the plan that a move would have."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from ansible_collections.kvmfleet.compute.plugins.filter.check_fleet import check_fleet
from ansible_collections.kvmfleet.compute.plugins.plugin_utils import run

from .test_migration import domain, host, plan

GIB = 1024**3
REQUEST = {"instance": "", "zone": "", "target_host": "kvm9", "ignore_hosts": [], "allow_resize_to_same_host": False, "allow_downsize": False}
UUID = "00000000-0000-0000-0000-00000000000"


def guest(name: str, number: int, **changes: Any) -> dict[str, Any]:
    """As the module domain_info describes it among all of a host."""
    return {"name": name, "uuid": f"{UUID}{number}", "domain": domain(name=name, uuid=f"{UUID}{number}", **changes), "error": None}


def fact(name: str, guests: list[dict[str, Any]], zone: str = "north", **more: Any) -> dict[str, Any]:
    domains = [{"name": one["name"], "uuid": one["uuid"], "state": "running"} for one in guests]
    return {**host(name, zone, domains=domains), "run": run.this().name, "gathered_at": time.time(), "now": time.time(), **more}


def looked(name: str, guests: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
    return {"host": name, "summary": "libvirt 9.0.0", "problems": [], "to_do": [], "hints": [], "guests": guests, **more}


def check(guests: list[dict[str, Any]], others: list[dict[str, Any]] | None = None, only: str = "", **more: Any) -> Any:
    """The verdict of a fleet of which kvm1 has the guests."""
    others = [fact("kvm2", [])] if others is None else others
    hosts = [fact("kvm1", guests, **more), *others]
    names = [str(each["host"]) for each in hosts]
    told = check_fleet(hosts, names, [looked("kvm1", guests), *(looked(str(each["host"]), []) for each in others)], REQUEST, {}, only)
    assert json.loads(json.dumps(told)) == told
    return told


def cannot(told: Any, name: str = "kvm1") -> dict[str, str]:
    return {guest: entry["code"] for guest, entry in told["artifact"]["hosts"][name]["cannot_move"].items()}


def test_all_is_well() -> None:
    told = check([guest("web1", 1), guest("web2", 2)])
    assert told["lines"] == [
        "kvm1 is ready: libvirt 9.0.0.",
        "kvm1: 2 of 2 guests can move.",
        "kvm2 is ready: libvirt 9.0.0.",
        "kvm2: no guests.",
        "2 of 2 hosts are ready, 2 of 2 guests can move.",
    ]
    assert (told["complete"], told["artifact"]["can_move"], told["error"]) == (True, 2, None)


@pytest.mark.parametrize(
    ("changes", "code", "said"),
    [
        ({"state": "paused"}, "unsupported_state", "resume it (virsh resume)"),
        ({"persistent": False}, "not_persistent", "virsh define"),
        ({"refusals": [{"code": "disk_in_use_by", "reason": "/a is used by guest b."}]}, "not_movable", "/a is used by guest b. [disk_in_use_by]"),
        ({"live_differences": [{"text": "disk vdb is plugged in"}]}, "live_differences", "disk vdb is plugged in"),
        ({"flavor": {"name": None, "vcpus": 1, "ram": 999999, "disk": 1}}, "no_valid_host", "no other host would take it: kvm2: needs 999999 MB"),
        ({"machine": 7}, "handed_value", "machine"),
    ],
)
def test_check_refuses_what_the_plan_refuses_and_says_why_in_one_line(changes: dict[str, Any], code: str, said: str) -> None:
    told = check([guest("web1", 1), guest("db2", 2, **changes)])
    assert cannot(told) == {"db2": code}
    assert len([line for line in told["lines"] if line.startswith("  db2 cannot, since ")]) == 1
    assert said in " ".join(" ".join(told["lines"]).split())
    assert "kvm1: 1 of 2 guests can move:" in told["lines"]
    assert not [line for line in told["lines"] if "\n" in line]
    answer = plan(guest=domain(**changes), hosts=[host("kvm1", domains=[{"name": "web1", "uuid": "i-1", "state": "running"}]), host("kvm2")], migrate=True)
    assert answer["error"]["code"] == code


def test_a_guest_that_could_not_be_described_is_told_and_keeps_no_other() -> None:
    broken = {"name": "odd", "uuid": f"{UUID}3", "domain": None, "error": {"code": "invalid_domain_xml", "message": "kvm1: a definition\nthat is none"}}
    told = check([guest("web1", 1), broken])
    assert cannot(told) == {"odd": "invalid_domain_xml"}
    assert "  odd cannot, since kvm1: a definition that is none [invalid_domain_xml]" in told["lines"]


def test_a_host_that_is_not_ready_takes_nothing_and_its_guests_stay() -> None:
    guests = [guest("web1", 1), guest("web2", 2)]
    hosts = [fact("kvm1", guests), fact("kvm2", [guest("db", 3)])]
    found = [looked("kvm1", guests), looked("kvm2", [guest("db", 3)], problems=["no port is free"], to_do=["install nbdkit"])]
    told = check_fleet(hosts, ["kvm1", "kvm2"], found, REQUEST, {})
    assert told["lines"] == [
        "kvm1 is ready: libvirt 9.0.0.",
        "kvm1: 0 of 2 guests can move:",
        "  web1 and web2 cannot, since no other host would take it: kvm2: it is not ready [no_valid_host]",
        "kvm2 is not ready:",
        "  no port is free",
        "  prepare_host would install nbdkit",
        "kvm2: 0 of 1 guest can move:",
        "  db cannot, since kvm2 itself is not ready [host_not_ready]",
        "1 of 2 hosts are ready, 0 of 3 guests can move.",
    ]
    assert not told["complete"]


def test_a_host_that_does_not_answer_is_named_and_the_rest_is_told() -> None:
    down = {"host": "kvm3", "up": False, "reachable": False, "run": run.this().name, "down_reason": "ssh: no route\n to host"}
    told = check([guest("web1", 1)], [fact("kvm2", []), down])
    assert told["lines"][-3:] == [
        "kvm3 cannot be asked, so its guests are not known:",
        "  ssh: no route to host",
        "2 of 3 hosts are ready, 1 of 1 guest can move. The guests of kvm3 are not known.",
    ]
    assert (told["complete"], told["artifact"]["hosts"]["kvm3"]["answers"]) == (False, False)


def test_a_host_that_was_never_prepared_is_told_what_would_be_done() -> None:
    """Whether libvirt is missing there, or its inventory was not right, so that nobody asked."""
    down = {"host": "kvm1", "up": False, "run": run.this().name, "down_reason": "vm: libvirt does not answer"}
    found = [
        looked("kvm1", [], summary="", problems=["libvirt: vm: libvirt does not answer"], to_do=["install nbdkit"]),
        {"host": "kvm2", "problems": ["kvmfleet_zone: expected a name"]},
    ]
    assert check_fleet([down], ["kvm1", "kvm2"], found, REQUEST, {})["lines"] == [
        "kvm1 cannot be asked, so its guests are not known:",
        "  libvirt: vm: libvirt does not answer",
        "  prepare_host would install nbdkit",
        "kvm2 cannot be asked, so its guests are not known:",
        "  kvmfleet_zone: expected a name",
        "0 of 2 hosts are ready, no guests. The guests of kvm1 and kvm2 are not known.",
    ]


def test_facts_that_a_cache_remembers_say_nothing_about_tonight() -> None:
    told = check([guest("web1", 1)], [{**fact("kvm2", []), "run": "another one"}])
    assert "  it was not asked in this run" in told["lines"]
    assert cannot(told) == {"web1": "no_valid_host"}


def test_one_host_is_told_of_by_what_all_have() -> None:
    told = check([guest("web1", 1)], only="kvm1")
    assert told["lines"] == ["kvm1 is ready: libvirt 9.0.0.", "kvm1: 1 of 1 guest can move.", "1 of 1 host is ready, 1 of 1 guest can move."]
    assert check([guest("web1", 1)], only="kvm2")["artifact"]["guests"] == 0
    assert check([], only="kvm7")["error"]["code"] == "unknown_host"


def test_what_waits_for_somebody_cannot_move() -> None:
    record = {
        "uuid": "11111111-0000-0000-0000-000000000001", "instance_uuid": f"{UUID}1", "instance_name": "web1", "migration_type": "migration",
        "role": "destination", "source_host": "kvm2", "destination_host": "kvm1", "step": "finished", "status": "finished", "updated_at": 1,
    }  # fmt: skip
    told = check([guest("web1", 1)], migrations=[record])
    assert cannot(told) == {"web1": "unconfirmed_migration"}
    told = check([guest("web1", 1)], migrations=[{**record, "status": "migrating", "step": "copying"}])
    assert cannot(told) == {"web1": "interrupted_operation"}
    told = check([guest("web1", 1)], migrations=[{**record, "source_host": "gone"}])
    assert cannot(told) == {"web1": "hosts_missing"}
    assert any("gone" in line for line in told["lines"][-4:])


def test_a_base_image_that_nobody_has_read_is_none_that_another_host_has() -> None:
    """There has to be room for it, and the host is told what the first plan does."""
    known, unread = guest("web1", 1), guest("web2", 2)
    layer = unread["domain"]["disks"][0]["chain"][1]
    del layer["identity"]
    layer["file_bytes"] = 50 * GIB
    known["domain"]["disks"][0]["chain"][1]["identity"]["size_bytes"] = 50 * GIB
    there = fact("kvm2", [], bases=["ab"], disk_free_mb=10 * 1024)
    told = check([known, unread], [there])
    assert cannot(told) == {"web2": "no_valid_host"}
    assert any(line.startswith("  look after: 1 base image was never read on kvm1") for line in told["lines"])


@pytest.mark.parametrize(("ahead", "said"), [(0, False), (100, False), (-100, True), (3600, True)])
def test_a_clock_that_is_wrong_is_told(ahead: int, said: bool) -> None:
    told = check([], now=time.time() + ahead)
    assert any("its clock is" in line for line in told["lines"]) == said


@pytest.mark.parametrize(("tunnel", "said"), [("auto", "travel through the controller's ssh connections"), ("never", "are refused"), ("always", None)])
def test_a_way_that_is_closed_is_told_unless_nobody_takes_it(tunnel: str, said: str | None) -> None:
    down = {"host": "kvm3", "up": False, "reachable": False, "run": run.this().name, "down_reason": "gone"}
    ways = {"kvm1": {"no_way": "nothing gets to port 49215 of 192.0.2.1 (timed out)"}, "kvm3": {"no_way": "gone"}}
    found = [looked("kvm1", [], ways={"kvm2": {"no_way": None}}), looked("kvm2", [], ways=ways)]
    told = check_fleet([fact("kvm1", []), fact("kvm2", []), down], ["kvm1", "kvm2", "kvm3"], found, REQUEST, {}, "", tunnel)
    hints = " ".join(told["lines"]).split("look after: ")[1:]
    assert [hint[: len(f"copies from kvm1 {said}, since here nothing gets to port 49215")] for hint in hints] == (
        [f"copies from kvm1 {said}, since here nothing gets to port 49215"] if said else []
    )
    assert told["artifact"]["hosts"]["kvm2"]["ready"]


def test_an_artifact_of_a_large_fleet_has_no_sentences() -> None:
    guests = [guest(f"web{number}", number % 10, state="paused") for number in range(150)]
    for number, one in enumerate(guests):
        one["uuid"] = one["domain"]["uuid"] = f"00000000-0000-0000-0000-{number:012}"
    told = check(guests)
    assert told["artifact"]["hosts"]["kvm1"]["cannot_move"]["web149"] == {"code": "unsupported_state"}
    assert len(json.dumps(told["artifact"])) < 20_000


def test_a_hundred_guests_on_fifty_hosts_are_planned_in_seconds() -> None:
    """From the same facts: nothing is asked for one guest alone."""
    guests = [guest(f"web{number}", 0) for number in range(100)]
    for number, one in enumerate(guests):
        one["uuid"] = one["domain"]["uuid"] = f"00000000-0000-0000-0000-{number:012}"
    started = time.process_time()
    told = check(guests, [fact(f"kvm{number}", []) for number in range(2, 51)])
    assert told["artifact"]["can_move"] == 100
    assert time.process_time() - started < 20
