# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is done with an open operation, for every combination of what the two journals and libvirt say."""

from __future__ import annotations

import itertools

import pytest

from ansible_collections.kvmfleet.compute.plugins.filter.locate_instance import locate_instance
from ansible_collections.kvmfleet.compute.plugins.module_utils._journal.records import CLOSED, TRANSITIONS
from ansible_collections.kvmfleet.compute.plugins.module_utils._rules.errors import KvmfleetError
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.planning.fleet import Fleet
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.planning.recovery import decide

UUID = "i-1"


def record(role, status, step, was_running=True, destination="kvm2"):
    return {
        "uuid": "m-1",
        "instance_uuid": UUID,
        "instance_name": "web1",
        "migration_type": "resize",
        "role": role,
        "status": status,
        "step": step,
        "source_host": "kvm1",
        "destination_host": destination,
        "was_running": was_running,
        "old_flavor": {},
        "new_flavor": {},
        "updated_at": 1000.0,
    }


def host(name, *records, state=None, up=True, has_run=None):
    """As `host_facts` tells it: of a copy that is complete, whether the guest has run on it."""
    if not up:
        return {"host": name, "up": False, "down_reason": "no route to host"}
    domains = [{"name": "web1", "uuid": UUID, "state": state}] if state else []
    why = has_run or ("it was started there" if any(record["step"] == "started" for record in records) else None)
    why = why or ("it is active there" if state not in (None, "shutoff") else None)
    complete = [record["role"] != "source" and (record["status"] == "post-migrating" or record["step"] == "defining") for record in records]
    return {"host": name, "up": True, "domains": domains, "migrations": [{**r, "has_run": why} if c else r for r, c in zip(records, complete)]}


def action(hosts, verb="recover", **meant):
    (decision,) = decide(hosts, verb, **meant)
    assert decision["reason"]
    return decision["action"]


S = {
    "begun": record("source", "pre-migrating", "begun", destination=None),
    "stopping": record("source", "migrating", "stopping"),
    "stopped": record("source", "migrating", "stopped"),
    "sealing": record("source", "migrating", "sealing"),
    "sealed": record("source", "migrating", "sealed"),
    "finished": record("source", "finished", "finished"),
    "confirming": record("source", "confirming", "confirming"),
    "reverting": record("source", "reverting", "reverting"),
}
D = {
    "admitted": record("destination", "pre-migrating", "admitted"),
    "receiving": record("destination", "migrating", "receiving"),
    "publishing": record("destination", "migrating", "publishing"),
    "defining": record("destination", "migrating", "defining"),
    "defined": record("destination", "post-migrating", "defined"),
    "starting": record("destination", "post-migrating", "starting"),
    "started": record("destination", "post-migrating", "started"),
    "finished": record("destination", "finished", "finished"),
    "confirming": record("destination", "confirming", "confirming"),
    "reverting": record("destination", "reverting", "reverting"),
}


@pytest.mark.parametrize(
    ("source", "destination", "state", "expected"),
    [
        ("begun", None, None, "back"),
        ("begun", "admitted", None, "back"),
        ("stopping", "admitted", None, "back"),
        ("stopped", "admitted", None, "back"),
        ("sealing", "admitted", None, "back"),
        ("sealed", "admitted", None, "back"),
        ("sealed", "receiving", None, "back"),
        ("sealed", "publishing", None, "back"),
        ("sealed", "defining", "shutoff", "back"),
        ("sealed", "defined", "shutoff", "back"),
        ("sealed", "defined", "running", "forward"),
        ("sealed", "defining", "running", "forward"),
        ("sealed", "starting", "shutoff", "back"),
        ("sealed", "starting", "running", "forward"),
        ("sealed", "finished", "running", "forward"),
        ("sealed", None, None, "back"),
        ("finished", "finished", "running", "none"),
        ("finished", "finished", "shutoff", "none"),
        ("finished", "confirming", "running", "confirm"),
        ("confirming", "confirming", "running", "confirm"),
        (None, "confirming", "running", "confirm"),
        ("finished", "reverting", None, "revert"),
        ("reverting", "reverting", None, "revert"),
        (None, "reverting", None, "revert"),
        (None, "admitted", None, "discard"),
        (None, "receiving", None, "discard"),
        (None, "defining", None, "discard"),
        (None, "finished", "running", "wait"),
        (None, "defined", "running", "wait"),
        (None, "defining", "running", "wait"),
        (None, "started", "shutoff", "wait"),
        ("finished", None, None, "wait"),
    ],
)
def test_both_hosts_answer(source, destination, state, expected):
    hosts = [host("kvm1", *([S[source]] if source else [])), host("kvm2", *([D[destination]] if destination else []), state=state)]
    assert action(hosts) == expected


@pytest.mark.parametrize("source", sorted(S))
def test_a_sealed_source_waits_for_a_destination_that_does_not_answer(source):
    expected = {"begun": "back", "stopping": "back", "stopped": "back", "reverting": "revert"}.get(source, "wait")
    assert action([host("kvm1", S[source]), host("kvm2", up=False)]) == expected


@pytest.mark.parametrize("destination", sorted(D))
def test_a_destination_without_its_source_never_starts_or_removes_anything(destination):
    assert action([host("kvm1", up=False), host("kvm2", D[destination], state="running")]) == "wait"


@pytest.mark.parametrize(("source", "destination"), list(itertools.product(sorted(S), sorted(D))))
def test_the_source_is_never_restored_while_the_guest_runs_at_the_destination(source, destination):
    """Invariant 1, over every pair, possible or not: going back with a running guest would stop it first, so it is never chosen."""
    chosen = action([host("kvm1", S[source]), host("kvm2", D[destination], state="running")])
    if D[destination]["status"] in ("post-migrating", "finished"):
        assert chosen not in ("back", "discard")


def test_a_guest_that_was_off_counts_as_arrived_once_it_is_defined():
    defined = record("destination", "post-migrating", "defined", was_running=False)
    assert action([host("kvm1", S["sealed"]), host("kvm2", defined, state="shutoff")]) == "forward"


@pytest.mark.parametrize(
    ("status", "step", "state", "expected"),
    [
        ("pre-migrating", "begun", "running", "back"),
        ("migrating", "layering", "shutoff", "back"),
        ("post-migrating", "defined", "shutoff", "back"),
        ("post-migrating", "defined", "running", "forward"),
        ("migrating", "defining", "shutoff", "back"),
        ("migrating", "defining", "running", "forward"),
        ("post-migrating", "starting", "shutoff", "back"),
        ("finished", "finished", "running", "none"),
        ("confirming", "confirming", "running", "confirm"),
        ("reverting", "reverting", "shutoff", "revert"),
    ],
)
def test_in_place(status, step, state, expected):
    assert action([host("kvm1", record("in_place", status, step, destination="kvm1"), state=state)]) == expected


@pytest.mark.parametrize("state", ["running", "paused", "shutoff", "crashed", "pmsuspended"])
@pytest.mark.parametrize("role", ["destination", "in_place"])
class TestAGuestThatWasStarted:
    """Nothing but a person's revert goes back, whatever it does since."""

    def decision(self, role, step, state, **facts):
        destination = "kvm1" if role == "in_place" else "kvm2"
        here = host(destination, record(role, "post-migrating", step, destination=destination), state=state, **facts)
        (decision,) = decide([here] if role == "in_place" else [host("kvm1", S["sealed"]), here], "recover")
        return decision

    def test_it_is_where_it_was_started(self, role, state):
        decision = self.decision(role, "started", state)
        assert decision["action"] == "forward"
        assert ("is not started again" in decision["reason"]) is (state != "running")

    @pytest.mark.parametrize("step", ["defined", "starting"])
    def test_what_has_been_written_to_counts_as_started(self, role, step, state):
        decision = self.decision(role, step, state, has_run="/images/web1.qcow2 was written to since it was complete")
        assert (decision["action"], "web1.qcow2" in decision["reason"]) == ("forward", True)

    def test_a_record_of_an_older_version_does_not_tell_so_that_it_counts_as_started(self, role, state):
        destination = "kvm1" if role == "in_place" else "kvm2"
        here = host(destination, state=state)
        here["migrations"] = [record(role, "post-migrating", "defined", destination=destination)]
        assert action([here] if role == "in_place" else [host("kvm1", S["sealed"]), here]) == "forward"


def test_a_copy_that_is_being_withdrawn_goes_although_its_files_have_changed():
    withdrawing = {**record("destination", "post-migrating", "defined"), "withdrawing": True}
    assert action([host("kvm1", S["sealed"]), host("kvm2", withdrawing, state="shutoff", has_run=None)]) == "back"


def test_every_open_status_of_the_journal_has_an_answer():
    for status in set(TRANSITIONS) - CLOSED:
        assert action([host("kvm1", record("in_place", status, "x", destination="kvm1"), state="running")])
        assert action([host("kvm1", record("source", status, "x")), host("kvm2")])
        assert action([host("kvm1"), host("kvm2", record("destination", status, "x"))])


@pytest.mark.parametrize("verb", ["confirm", "revert"])
class TestConfirmAndRevert:
    def test_finished(self, verb):
        hosts = [host("kvm1", S["finished"]), host("kvm2", D["finished"], state="running")]
        (decision,) = decide(hosts, verb, "web1")
        assert (decision["action"], decision["settled"]) == (verb, True)

    def test_nothing_open(self, verb):
        assert decide([host("kvm1", state="running"), host("kvm2")], verb, "web1") == []

    def test_unknown_instance(self, verb):
        with pytest.raises(KvmfleetError) as caught:
            decide([host("kvm1"), host("kvm2")], verb, "web1")
        assert caught.value.code == "unknown_instance"

    def test_not_finished(self, verb):
        with pytest.raises(KvmfleetError) as caught:
            decide([host("kvm1", S["sealed"]), host("kvm2", D["receiving"])], verb, "web1")
        assert caught.value.code == "not_finished"
        assert "kvmfleet.compute.recover" in caught.value.message

    def test_source_unreachable(self, verb):
        with pytest.raises(KvmfleetError) as caught:
            decide([host("kvm1", up=False), host("kvm2", D["finished"], state="running")], verb, "web1")
        assert caught.value.code == "host_unreachable"
        assert "no route to host" in caught.value.message


def test_a_confirm_cannot_become_a_revert():
    with pytest.raises(KvmfleetError):
        decide([host("kvm1", S["finished"]), host("kvm2", D["confirming"], state="running")], "revert", "web1")


@pytest.mark.parametrize("verb", ["confirm", "revert"])
def test_an_operation_that_a_host_may_have_which_does_not_answer_is_not_taken_for_closed(verb: str) -> None:
    """Resized in place on a host that reboots: an approval or a denial of that must not end as if all was well."""
    with pytest.raises(KvmfleetError) as caught:
        decide([host("kvm1", up=False), host("kvm2")], verb, instance="web1", migration_uuid="m-1")
    assert (caught.value.code, caught.value.details["hosts"]) == ("host_unreachable", ["kvm1"])
    assert "kvm1 (no route to host) cannot be asked" in caught.value.message
    nothing = "00000000-0000-0000-0000-000000000000"
    assert decide([host("kvm1", up=False), host("kvm2")], verb, instance="web1", migration_uuid=nothing) == []
    assert decide([host("kvm1"), host("kvm2")], verb, instance="web1", migration_uuid="m-1") == []


STRANGE = {**record("source", "confirming", "confirming"), "source_host": "kvm7", "destination_host": "kvm2"}


def test_a_record_whose_host_is_no_party_is_not_acted_on() -> None:
    """By its own words it is somebody else's: what the parties say decides, and recover says that it is there."""
    parties = [host("kvm1", S["sealed"]), host("kvm2", record("destination", "migrating", "receiving"))]
    heard = decide(parties, "recover")
    decisions = decide([*parties, host("kvm9", STRANGE)], "recover")
    assert decisions[:1] == heard
    assert [(decision["action"], decision["source"], decision["destination"]) for decision in decisions[1:]] == [("wait", "kvm9", None)]
    assert "A renamed host, or two inventories" in decisions[1]["reason"]
    with pytest.raises(KvmfleetError) as caught:
        decide([host("kvm9", STRANGE)], "confirm", instance="web1", migration_uuid="m-1")
    assert caught.value.code == "not_a_party"


def test_two_hosts_that_say_to_be_the_source_are_looked_at_by_a_person() -> None:
    liar = {**S["finished"], "source_host": "kvm9"}
    destination = record("destination", "finished", "finished")
    hosts = [host("kvm1", S["finished"]), host("kvm2", destination), host("kvm9", liar)]
    (decision,) = decide(hosts, "recover")
    assert decision["action"] == "wait"
    assert "kvm1 and kvm9 each say that they are its source" in decision["reason"]
    for verb in ("confirm", "revert"):
        with pytest.raises(KvmfleetError) as caught:
            decide(hosts, verb, instance="web1")
        assert caught.value.code == "not_finished"


def test_a_destination_of_another_source_is_not_acted_on() -> None:
    liar = {**record("destination", "finished", "finished", destination="kvm9"), "source_host": "kvm8"}
    parties = [host("kvm1", record("source", "migrating", "precopying", destination=None))]
    decisions = decide([*parties, host("kvm9", liar)], "recover")
    assert decisions[:1] == decide(parties, "recover")
    assert [decision["action"] for decision in decisions] == ["back", "wait"]


@pytest.mark.parametrize("status", ["post-migrating", "finished", "confirming"])
@pytest.mark.parametrize("step", ["begun", "precopying", "stopping", "stopped"])
def test_no_destination_has_the_guest_of_a_source_that_was_never_sealed(status: str, step: str) -> None:
    """Else a host that lies gets the source told that it is finished, and its files deleted by confirm."""
    source = record("source", "migrating", step, destination=None)
    hosts = [host("kvm1", source, state="running"), host("kvm2", record("destination", status, status), state="running")]
    (decision,) = decide(hosts, "recover")
    assert decision["action"] == "wait"
    assert "never sealed" in decision["reason"]


@pytest.mark.parametrize("status", ["confirming", "reverting"])
def test_nothing_is_delegated_to_a_host_that_is_not_in_the_inventory(status: str) -> None:
    source = record("source", status, status, destination="evil.example")
    (decision,) = decide([host("kvm1", source), host("kvm2")], "recover")
    assert decision["action"] == "wait"
    assert "evil.example" in decision["reason"]
    assert "a renamed host, or two inventories?" in decision["reason"]


NOW = 5000.0


def at_work(role, status, step, **more):
    return {**record(role, status, step), "owner": "run-1", "updated_at": NOW - 5, "lease_until": NOW + 25, **more}


def told(*records):
    (decision,) = decide([{**host(name, each), "now": NOW} for name, each in zip(("kvm1", "kvm2"), records)], "recover")
    return decision["worked_on"], decision["gone"]


def test_whoever_has_to_be_waited_for_is_named_with_how_far_that_is():
    who = {"requested_by": {"user": "alice", "job": "35"}}
    progress = {"percent": 3.0, "bytes_total": 61 * 2**20, "rate": 200 * 2**10, "eta": 303.0}
    source, destination = at_work("source", "migrating", "sealed", **who), at_work("destination", "migrating", "receiving", **who)
    assert told(source, destination) == ("the run that works on it (alice, job 35)", None)
    copies = {**destination, "lease_until": NOW - 60, "progress": progress}
    assert told({**source, "lease_until": NOW - 60}, copies) == (
        "the run that works on it (alice, job 35), which copies: 3 % of 61 MiB, 200 KiB/s, 303 s left",
        None,
    )
    taken = {**source, "taken_over_by": {"by": {"schedule": "hourly"}}, "updated_at": NOW - 1}
    assert told(taken, destination) == ("the run that works on it (schedule hourly)", None)


def test_nobody_waits_for_a_run_that_was_seen_to_go_or_whose_lease_is_over():
    source, destination = at_work("source", "migrating", "sealed"), at_work("destination", "migrating", "receiving", abandoned=True, lease_until=NOW - 5)
    assert told(source, destination) == (None, "run-1")
    over = {"lease_until": NOW - 1}
    assert told({**source, **over}, {**destination, **over, "abandoned": False}) == (None, None)
    assert told(at_work("source", "finished", "finished"), at_work("destination", "finished", "finished")) == (None, None)


def test_no_guest_waits_for_the_copy_of_another_one():
    copied = [at_work("source", "migrating", "sealed"), at_work("destination", "migrating", "receiving")]
    left = {**record("source", "migrating", "stopped"), "uuid": "m-2", "instance_uuid": "i-2", "instance_name": "web2", "source_host": "kvm3", "lease_until": 0}
    hosts = [{**host(name, each), "now": NOW} for name, each in zip(("kvm1", "kvm2", "kvm3"), (*copied, left))]
    assert [(decision["migration_uuid"], decision["worked_on"] is None) for decision in decide(hosts, "recover")] == [("m-2", True), ("m-1", False)]


def test_an_open_operation_with_a_host_that_the_inventory_lacks_is_noticed_before_anything_is_placed():
    """The inventory may be a part of the fleet, such as a slice of a job."""
    seen, other = host("kvm1", S["finished"]), host("kvm3")
    with pytest.raises(KvmfleetError) as caught:
        Fleet([seen, other]).require_parties()
    assert (caught.value.code, caught.value.details) == ("hosts_missing", {"hosts": ["kvm2"]})
    assert "kvm2 (migration m-1 of web1 on kvm1)" in caught.value.message
    assert locate_instance([seen, other], {"instance": "another"})["error"]["code"] == "hosts_missing"
    Fleet([seen, host("kvm2", D["finished"]), other]).require_parties()
    Fleet([host("kvm1", S["begun"]), other]).require_parties()
    (decision,) = decide([seen, other], "recover")
    assert (decision["action"], "not in this inventory" in decision["reason"]) == ("wait", True)
