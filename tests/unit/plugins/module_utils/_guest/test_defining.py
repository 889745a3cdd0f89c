# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import libvirt
import pytest

from ansible_collections.kvmfleet.compute.plugins.module_utils._domain import definition as _definition
from ansible_collections.kvmfleet.compute.plugins.module_utils._guest import defining as _defining
from ansible_collections.kvmfleet.compute.plugins.module_utils._libvirt import definitions as _definitions, domains as _domains
from ansible_collections.kvmfleet.compute.plugins.module_utils._rules.errors import KvmfleetError

GUEST = "<domain type='qemu'><name>g</name><memory unit='KiB'>65536</memory><vcpu>1</vcpu><os><type>hvm</type></os>{}</domain>"
ODD = "<resource><partition>kubevirt</partition></resource>"  # libvirt takes it; its schema wants an absolute path


def test_the_schema_is_narrower_than_libvirt(qemu: libvirt.virConnect) -> None:
    assert _definitions.define_checked(qemu, GUEST.format(ODD)) is None
    assert _domains.find_domain(qemu, "g") is None


@pytest.mark.parametrize("more", ["", ODD, "<metadata><note>no namespace</note></metadata>"])
def test_what_libvirt_writes_it_takes_back(qemu: libvirt.virConnect, more: str) -> None:
    written = _definitions.inactive_xml(_definitions.define(qemu, GUEST.format(more)))
    assert _definitions.inactive_xml(_defining.define(qemu, written)) == written


@pytest.mark.parametrize(
    ("more", "missing"),
    [
        ("<quantum><link path='x'>y</link></quantum>", ["quantum", "quantum/link y", "quantum/link/@path x"]),
        ("<devices><memballoon model='virtio' colour='red'/></devices>", ["devices/memballoon/@colour red"]),
    ],
)
def test_what_libvirt_would_drop_is_an_error(qemu: libvirt.virConnect, more: str, missing: list[str]) -> None:
    with pytest.raises(KvmfleetError) as caught:
        _defining.define(qemu, GUEST.format(more))
    assert (caught.value.code, caught.value.details) == ("definition_not_taken", {"missing": missing})
    assert missing[0] in caught.value.message


def test_an_error_that_is_not_about_the_schema_stays_one(qemu: libvirt.virConnect) -> None:
    with pytest.raises(libvirt.libvirtError, match="machine"):
        _defining.define(qemu, GUEST.replace("<type>", "<type machine='pc-q35-0.1'>").format(""))


@pytest.mark.parametrize(
    ("given", "taken", "missing"),
    [
        ("<a b='1'>x</a>", "<a b='1'>x</a>", []),
        ("<a/><c/>", "<c/><a/>", []),
        ("<a> x </a><!-- c -->", "<a>x</a>", []),
        ("<a/><a/>", "<a/>", ["a"]),
        ("<a b='1'/>", "<a b='2'/>", ["a/@b 1"]),
        ("<a><b/></a>", "<a/><b/>", ["a/b"]),
        ("<a/>", "<a more='1'><b/></a>", []),
        ("<os><loader format='raw'/><nvram format='qcow2'/></os>", "<os><loader/><nvram/></os>", ["os/nvram/@format qcow2"]),
    ],
)
def test_what_is_lost(given: str, taken: str, missing: list[str]) -> None:
    assert _defining.lost(*(_definition.parse(f"<domain>{text}</domain>") for text in (given, taken))) == missing


TRIED = "7d5b0ab8-3e23-4a26-9a3e-0b3d3c0e6f10"
OWN = "11111111-2222-4333-8444-555555555555"
NAMED = GUEST.replace("<memory", f"<uuid>{OWN}</uuid><memory")
SYSINFO = f"<sysinfo type='smbios'><system><entry name='uuid'>{OWN}</entry></system></sysinfo>"


@pytest.mark.parametrize("more", ["", ODD, SYSINFO])
def test_a_trial_leaves_nothing_and_does_not_mind_the_guest_itself(qemu: libvirt.virConnect, more: str) -> None:
    _definitions.define(qemu, NAMED.format(""))
    _defining.try_out(qemu, NAMED.format(more), TRIED)
    assert [domain.UUIDString() for domain in qemu.listAllDomains()] == [OWN]


@pytest.mark.parametrize(
    ("xml", "reason"),
    [
        (NAMED.format("<devices><watchdog model='newer'/></devices>"), "libvirt on this host does not take the definition of g: .*newer"),
        (NAMED.format("<quantum/>"), "drops quantum"),
        (NAMED.replace("<type>", "<type machine='pc-q35-99.0'>").format(""), "does not take the definition of g: .*pc-q35-99.0"),
    ],
)
def test_a_trial_tells_what_libvirt_would_say_when_the_guest_is_off(qemu: libvirt.virConnect, xml: str, reason: str) -> None:
    with pytest.raises(KvmfleetError, match=reason) as caught:
        _defining.try_out(qemu, xml, TRIED)
    assert caught.value.code == "definition_not_taken"
    assert qemu.listAllDomains() == []


def test_what_a_killed_trial_left_is_found_by_the_operation(qemu: libvirt.virConnect) -> None:
    _definitions.define(qemu, NAMED.format(""))
    _definitions.define(qemu, NAMED.replace("<name>g<", "<name>trial<").replace(OWN, TRIED).format(""))
    for _again in range(2):
        _defining.end_trial(qemu, TRIED)
        assert [domain.name() for domain in qemu.listAllDomains()] == ["g"]
