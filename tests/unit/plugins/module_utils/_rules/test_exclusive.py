# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Of which a host can have one, nobody gets a second one: one table, read by facts, placement, the claim and whoever defines the guest."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import libvirt
import pytest

from ansible_collections.kvmfleet.compute.plugins.module_utils._domain import definition as _definition
from ansible_collections.kvmfleet.compute.plugins.module_utils._guest import handed_definition as _handed_definition
from ansible_collections.kvmfleet.compute.plugins.module_utils._host import bindings as _bindings, state as _state, taken as _taken
from ansible_collections.kvmfleet.compute.plugins.module_utils._host.state import Reserved
from ansible_collections.kvmfleet.compute.plugins.module_utils._journal import claims as _claims
from ansible_collections.kvmfleet.compute.plugins.module_utils._journal.records import Journal
from ansible_collections.kvmfleet.compute.plugins.module_utils._journal.state_dir import StateDir
from ansible_collections.kvmfleet.compute.plugins.module_utils._operation import admission as _admission
from ansible_collections.kvmfleet.compute.plugins.module_utils._rules import exclusive as _exclusive, handed_plan as _handed_plan, values as _values
from ansible_collections.kvmfleet.compute.plugins.module_utils._rules.errors import KvmfleetError
from ansible_collections.kvmfleet.compute.plugins.module_utils._rules.exclusive import Thing
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.filters.conflict import ConflictFilter
from ansible_collections.kvmfleet.compute.tests.unit.plugins.plugin_utils.scheduler.fleet import host, rejection, request

GUEST = (
    "<domain type='qemu' xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'><name>{name}</name><uuid>{uuid}</uuid><memory>65536</memory>"
    "<os><type arch='x86_64' machine='q35'>hvm</type></os><devices>{devices}</devices></domain>"
)
UUIDS = {name: f"0f5d8f9c-2c1e-4f0a-9d35-00000000000{number}" for number, name in enumerate(("web1", "web2", "db1"))}
SAMPLES = {
    "mac": ("<interface type='user'><mac address='52:54:00:AB:cd:01'/></interface>", "52:54:00:ab:cd:01"),
    "tcp_port": ("<graphics type='vnc' port='5911' autoport='no' listen='127.0.0.1'/>", "5911@127.0.0.1"),
    "udp_port": ("<serial type='udp'><source mode='bind' host='127.0.0.1' service='4555'/><source mode='connect' service='4556'/></serial>", "4555@127.0.0.1"),
    "vsock_cid": ("<vsock model='virtio'><cid auto='no' address='77'/></vsock>", "77"),
    "device": ("<interface type='bridge'><source bridge='br0'/><target dev='web-lan'/></interface>", "web-lan"),
    "socket": (
        "<channel type='unix'><source mode='bind' path='/var/lib/libvirt/qemu/web.sock'/><target type='virtio' name='org.x.0'/></channel>",
        "/var/lib/libvirt/qemu/web.sock",
    ),
    "log": ("<serial type='pty'><log file='/var/log/libvirt/web.log' append='on'/></serial>", "/var/log/libvirt/web.log"),
}
"""Of each kind a device, and what is told of it."""


def definition(devices: str, name: str = "web1") -> str:
    return GUEST.format(name=name, uuid=UUIDS[name], devices=devices)


def things(xml: str, lasting: bool = True) -> dict[str, list[str]]:
    return _exclusive.by_kind(_exclusive.things(_definition.parse(xml), lasting=lasting))


def requirements(exclusive: dict[str, list[str]]) -> dict[str, Any]:
    none = dict.fromkeys(("machine", "emulator", "loader", "nvram_template"))
    macs = exclusive.get("mac", [])
    return {**none, "networks": [], "bridges": ["br0"], "arch": "x86_64", "virt_type": "qemu", "macs": macs, "exclusive": exclusive}


def record_of(name: str, number: int = 1) -> dict[str, Any]:
    flavor = {"name": "m1", "vcpus": 1, "ram": 64, "disk": 0, "ephemeral": 0, "swap": 0, "extra_specs": {}}
    parties = {"source_host": "kvm1", "destination_host": "kvm2", "instance_uuid": UUIDS[name], "instance_name": name}
    return {"uuid": f"m-{number}", "owner": "run-1", "role": "destination", "disks": [], "nvram": None, "new_flavor": flavor, "old_flavor": flavor, **parties}


def admit(qemu: Any, state: StateDir, images: Path, record: dict[str, Any], exclusive: dict[str, list[str]]) -> dict[str, Any]:
    given = {**requirements(exclusive), "bridges": []}
    return _admission.admit(
        qemu, Journal(state), record, requirements=given, images_path=str(images), reserved=Reserved(0, 0, 0),
        ratios={"cpu": 1600.0, "ram": 150.0, "disk": 100.0}, proofs={}, key=None,
    )  # fmt: skip


def test_each_kind_has_a_sample() -> None:
    """A new kind goes through all of this."""
    assert set(SAMPLES) == set(_exclusive.KINDS)


@pytest.mark.parametrize("kind", SAMPLES)
class TestEachKind:
    def test_the_guest_tells_it(self, kind: str) -> None:
        devices, text = SAMPLES[kind]
        assert things(definition(devices))[kind] == [text]

    def test_a_plan_may_hand_it_over(self, kind: str) -> None:
        _values.require("requirements", {**requirements({kind: [SAMPLES[kind][1]]}), "macs": []}, _handed_plan.REQUIREMENTS)

    def test_placement_refuses_a_host_that_has_it(self, kind: str) -> None:
        text = SAMPLES[kind][1]
        asked = request(requirements={"exclusive": {kind: [text]}} if kind != "mac" else {"macs": [text]})
        held = {"macs": [text]} if kind == "mac" else {"exclusive": {kind: {text.partition("@")[0]: "db1"}}}
        refused = rejection(ConflictFilter, host(**held), asked)
        assert refused["code"] == _exclusive.KINDS[kind].code
        assert text.partition("@")[0] in refused["reason"]
        assert rejection(ConflictFilter, host(exclusive={kind: {"other": "db1"}}), asked) is None

    def test_the_claim_refuses_a_host_whose_guest_has_it(self, kind: str, qemu: libvirt.virConnect, state: StateDir) -> None:
        """One that is off too: it wants it back. The message numbers the ways out."""
        devices, text = SAMPLES[kind]
        qemu.defineXML(definition(devices, "db1"))
        found = _admission._conflicts(qemu, state, record_of("web1"), requirements({kind: [text]}))
        assert [reason["code"] for reason in found] == [_exclusive.KINDS[kind].code]
        assert "belongs to db1" in found[0]["reason"]
        with pytest.raises(KvmfleetError, match=r"What can be done: 1\. name a host .*; 2\. .*; 3\. move away") as caught:
            _admission._refuse_for(record_of("web1"), found)
        assert caught.value.code == "claim_refused"

    def test_a_claim_of_somebody_else_counts_but_not_its_own(self, kind: str, qemu: libvirt.virConnect, state: StateDir) -> None:
        text = SAMPLES[kind][1]
        for role, told in (("destination", "on its way here"), ("source", "sealed copy lies here")):
            other = record_of("web2")
            _claims.write(state, other, role, other["new_flavor"], 0, (), _exclusive.read({kind: [text]}))
            found = _admission._conflicts(qemu, state, record_of("web1"), requirements({kind: [text]}))
            assert [reason["code"] for reason in found] == [_exclusive.KINDS[kind].code]
            assert told in found[0]["reason"]
            assert _admission._conflicts(qemu, state, record_of("web2"), requirements({kind: [text]})) == []

    def test_the_facts_of_a_host_tell_it(self, kind: str, qemu: libvirt.virConnect, state: StateDir, images: Path) -> None:
        devices, text = SAMPLES[kind]
        qemu.defineXML(definition(devices, "db1"))
        facts = _state.host_state(qemu, state, reserved=Reserved(), images_path=str(images))
        if kind == "mac":
            assert facts["macs"] == [text]
        else:
            assert facts["exclusive"][kind][text.partition("@")[0]] == "db1"

    def test_a_definition_that_has_it_beside_the_plan_is_not_taken(self, kind: str) -> None:
        devices, text = SAMPLES[kind]
        root = _definition.parse(definition(devices))
        told = [reason for reason in _handed_definition._around(root, {"requirements": requirements({})}) if "none of the plan" in reason]
        assert _exclusive.KINDS[kind].what in "".join(told)
        reasons = _handed_definition._around(root, {"requirements": requirements({kind: [text]})})
        assert not [reason for reason in reasons if _exclusive.KINDS[kind].what in reason]


@pytest.mark.parametrize(
    ("devices", "expected"),
    [
        ("<graphics type='vnc' port='-1' autoport='yes'/>", {}),
        ("<graphics type='vnc' port='5900' autoport='yes'/>", {}),
        ("<graphics type='vnc' port='5911' autoport='no' websocket='5711'/>", {"tcp_port": ["5911", "5711"]}),
        ("<graphics type='spice' port='5930' tlsPort='5931' autoport='no'><listen type='address' address='::'/></graphics>", {"tcp_port": ["5930", "5931"]}),
        ("<graphics type='rdp' port='3390' autoport='no'/>", {"tcp_port": ["3390"]}),
        ("<console type='tcp'><source mode='bind' host='0.0.0.0' service='4444'/></console>", {"tcp_port": ["4444"]}),
        ("<parallel type='tcp'><source mode='connect' host='10.0.0.9' service='4444'/></parallel>", {}),
        ("<vsock><cid auto='yes' address='3'/></vsock>", {}),
        ("<interface type='network'><source network='default'/><target dev='vnet4'/></interface>", {}),
        ("<channel type='unix'><source mode='bind' path='/var/lib/libvirt/qemu/channel/target/domain-1-web1/org.qemu.guest_agent.0'/></channel>", {}),
        (
            "<interface type='user'><backend type='passt'/><portForward proto='tcp' address='10.0.0.1'><range start='2022' to='22'/>"
            "<range start='8000' end='8002'/><range start='8001' exclude='yes'/></portForward><portForward proto='udp'><range start='53'/></portForward>"
            "</interface>",
            {"tcp_port": ["2022@10.0.0.1", "8000@10.0.0.1", "8001@10.0.0.1", "8002@10.0.0.1"], "udp_port": ["53"]},
        ),
    ],
)
def test_what_a_definition_wants_to_itself(devices: str, expected: dict[str, list[str]]) -> None:
    """Not what libvirt chooses at each start."""
    assert things(definition(devices)) == expected


def test_what_libvirt_has_chosen_is_taken_while_the_guest_runs() -> None:
    xml = definition("<graphics type='vnc' port='5900' autoport='yes'/><vsock><cid auto='yes' address='3'/></vsock>")
    assert things(xml, lasting=False) == {"tcp_port": ["5900"], "vsock_cid": ["3"]}


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["-gdb", "tcp::1234"], {"tcp_port": ["1234"]}),
        (["-gdb", "tcp:127.0.0.1:1235"], {"tcp_port": ["1235@127.0.0.1"]}),
        (["--gdb", "tcp:[::1]:1236"], {"tcp_port": ["1236@::1"]}),
        (["-s", "-S"], {"tcp_port": ["1234"]}),
        (["-vnc", "127.0.0.1:3,share=force-shared"], {"tcp_port": ["5903@127.0.0.1"]}),
        (["-monitor", "telnet:127.0.0.1:4440,server,nowait"], {"tcp_port": ["4440@127.0.0.1"]}),
        (["-serial", "tcp:10.0.0.9:4441"], {}),
        (["-qmp", "unix:/run/qmp.sock,server=on,wait=off"], {"socket": ["/run/qmp.sock"]}),
        (["-chardev", "socket,id=c0,host=127.0.0.1,port=4442,server=on,wait=off"], {"tcp_port": ["4442@127.0.0.1"]}),
        (["-chardev", "socket,id=c0,host=10.0.0.9,port=4443"], {}),
        (["-netdev", "user,id=n0,hostfwd=tcp::2222-:22,hostfwd=udp:127.0.0.1:5353-:53"], {"tcp_port": ["2222"], "udp_port": ["5353@127.0.0.1"]}),
        (["-cpu", "host", "-device", "vmgenid,guid=auto"], {}),
    ],
)
def test_what_arguments_for_qemu_listen_at(arguments: list[str], expected: dict[str, list[str]]) -> None:
    passed = "".join(f"<qemu:arg value='{argument}'/>" for argument in arguments)
    assert things(definition(f"</devices><qemu:commandline>{passed}</qemu:commandline><devices>")) == expected


@pytest.mark.parametrize(
    ("wanted", "held", "conflict"),
    [
        ("5911", "5911", True),
        ("5911@127.0.0.1", "5911", True),
        ("5911", "5911@10.0.0.1", True),
        ("5911@10.0.0.1", "5911@10.0.0.1", True),
        ("5911@127.0.0.1", "5911@10.0.0.1", False),
        ("5911", "59110", False),
    ],
)
def test_a_port_at_another_address_is_another_one(wanted: str, held: str, conflict: bool) -> None:
    """For processes of the host; a guest that fixes a port has it at all addresses, as libvirt gives it."""
    found = _exclusive.conflicts(_exclusive.read({"tcp_port": [wanted]}), {"tcp_port": {held: "a process of this host"}})
    assert bool(found) == conflict


def test_a_port_at_which_a_process_of_the_host_listens_is_refused(qemu: libvirt.virConnect, state: StateDir) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = str(listener.getsockname()[1])
        found = _admission._conflicts(qemu, state, record_of("web1"), requirements({"tcp_port": [f"{port}@127.0.0.1"]}))
    assert [reason["reason"] for reason in found] == [f"on this host, the TCP port {port} belongs to a process of this host"]


def test_sockets_and_devices_of_the_host_are_taken(tmp_path: Path) -> None:
    """What libvirt names by itself is left out: no guest can want it."""
    path = str(tmp_path / "s")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        held = _taken.held({"device": {"web-lan": "db1"}}, [])
    assert held["socket"][path] == "a process of this host"
    assert held["device"]["lo"] == "this host itself"
    assert held["device"]["web-lan"] == "db1"
    assert not _exclusive.things(_definition.parse(definition("<interface type='user'><target dev='vnet0'/></interface>")), lasting=False)


def test_of_two_guests_with_the_same_port_one_gets_the_claim(qemu: libvirt.virConnect, state: StateDir, images: Path) -> None:
    """Both were planned when nobody had it."""
    claim = admit(qemu, state, images, record_of("web1", 1), {"tcp_port": ["5911"]})
    assert claim["exclusive"] == {"tcp_port": ["5911"]}
    with pytest.raises(KvmfleetError, match=r"the TCP port 5911 belongs to web1, which is on its way here") as caught:
        admit(qemu, state, images, record_of("web2", 2), {"tcp_port": ["5911"]})
    assert [reason["code"] for reason in caught.value.details["reasons"]] == ["port_in_use"]
    _claims.remove(state, "m-1")
    Journal(state).close(Journal(state).get("m-1"), "error")
    assert admit(qemu, state, images, record_of("web2", 2), {"tcp_port": ["5911"]})["exclusive"] == {"tcp_port": ["5911"]}


def test_claims_and_facts_of_an_older_release_are_read(state: StateDir) -> None:
    other = record_of("web2")
    claim = _claims.write(state, other, "destination", other["new_flavor"], 0)
    del claim["exclusive"]
    assert _taken.held({}, [claim])
    assert rejection(ConflictFilter, host(), request(requirements={"exclusive": {"tcp_port": ["5911"]}})) is None
    assert _exclusive.read({"tcp_port": ["5911@::1"], "of_a_later_release": ["x"]}) == [Thing("tcp_port", "5911", "::1")]


def test_what_a_guest_starts_with_next_counts_while_it_runs_otherwise() -> None:
    """Somebody has given it another port, for its next start."""
    runs, next_start = (_definition.parse(definition(f"<graphics type='vnc' port='{port}' autoport='no'/>")) for port in (5911, 5912))
    assert _bindings.of_definitions([[runs, next_start]]).held == {"tcp_port": {"5911": "web1", "5912": "web1"}}
