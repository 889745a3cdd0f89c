# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The table of references answers everything that libvirt's own schema of a domain lets a guest refer to outside its definition.

The schema is that of the libvirt which is installed: what a newer one brings up fails here by its name, until somebody decides it.
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from pathlib import Path

import libvirt
import pytest

from ansible_collections.kvmfleet.compute.plugins.module_utils._domain import definition as _definition, references as _references, referring as _referring
from ansible_collections.kvmfleet.compute.tests.unit.plugins.module_utils.rng import Grammar, Place, Step

SCHEMA = Path("/usr/share/libvirt/schemas/domain.rng")

REFERRING = {
    "absFilePath", "filePath", "absDirPath", "dirPath", "vmwarePath",
    "deviceName", "genericName", "objectName", "objectNameWithSlash", "volName", "zoneName", "virtualPortProfileID", "profileName",
    "UUID", "wwn", "dnsName", "ipAddr", "ipv4Addr", "ipv6Addr", "addrIPorName", "dbusAddr", "PortNumber", "cpuset",
    "pciDomain", "pciBus", "pciSlot", "pciFunc", "usbAddr", "usbPort", "usbId", "driveBus", "driveTarget", "driveUnit", "driveSCSITarget", "driveSCSIUnit",
    "ccwCssidRange", "ccwSsidRange", "ccwDevnoRange",
}  # fmt: skip
"""Datatypes by which a definition may name a file, a device, an address, a CPU or an object of libvirt outside itself."""

HARMLESS = {
    "DUID", "duidLLT", "duidEN", "duidLL", "duidUUID", "uniMacAddr", "multiMacAddr", "macAddr",
    "addr-family", "protocol", "bridgeMode", "filter-param-name", "filter-param-value",
    "aliasName", "diskSerial", "diskTargetDev", "featureName", "sysinfo-value", "hexuint", "uint8", "uint16", "uint24", "uint32", "unit",
    "timeDelta", "timeZone", "driveController", "ccidSlot", "spaprvioReg", "virtioserialPort", "usbClass", "usbVersion", "usbIdDefault",
}  # fmt: skip
"""Datatypes that name nothing outside: numbers, keywords, and names that the guest itself gives."""

DECIDED_ELSEWHERE = {
    r"domain/devices/\w+/address/@\w+": "where the guest sees the device",
    r"domain/(name|uuid|genid|title|description)/\.": "the guest's own",
    r"domain/os/type/@machine": "checked by placement (MachineTypeFilter)",
    r"domain/cpu/(model|vendor)/.*": "checked by placement (CPUCompatibilityFilter)",
    r"domain/cpu/numa/cell/@cpus": "vCPUs of the guest",
    r"domain/cputune/vcpusched/@vcpus": "vCPUs of the guest",
    r"domain/cputune/iothreadsched/@iothreads": "I/O threads of the guest",
    r"domain/features/hyperv/vendor_id/@value": "what the guest is told",
    r"domain/features/xen/passthrough/@mode": "a keyword",
    r"domain/resource/fibrechannel/@appid": "a tag on the guest's I/O",
    r"domain/os/cmdline/\.": "read by the guest's kernel",
    r"domain/os/init(arg|env|user|group)/.*": "of containers, which os/init tells",
    r"domain/bootloader_args/\.": "of Xen, which bootloader tells",
    r"domain/\{http://libvirt.org/schemas/domain/\w+/1.0\}.*": "refused by the values that hold a path (_argument_references)",
    r"domain/devices/\w+/backenddomain/@name": "of Xen",
    r"domain/devices/(disk|interface|redirdev)/boot/@loadparm": "read by the guest's firmware",
    r"domain/devices/disk/driver/@name": "the name of the driver, which is qemu",
    r"domain/devices/disk/(product|vendor|wwn)/\.": "what the guest is told",
    r"domain/devices/disk/iotune/group_name/\.": "a group of the guest's own disks",
    r"domain/devices/disk/source/(@query|@tlsHostname|cookies/cookie/.*|initiator/iqn/@name)": "of network storage, sent to the server",
    r"domain/devices/interface/(ip|route)/@\w+": "what the guest's own interface gets",
    r"domain/devices/interface/guest/@(dev|actual)": "the name inside of a container",
    r"domain/devices/interface/model/@type": "what the guest sees",
    r"domain/devices/interface/portForward/range/@to": "a port of the guest",
    r"domain/devices/controller/master/@startport": "a port of another controller of the guest",
    r"domain/devices/memory/uuid/\.": "what the guest sees",
    r"domain/devices/redirfilter/usbdev/@\w+": "which devices of a client are let through",
    r"domain/devices/graphics/@(keymap|passwd)": "between QEMU and the client",
    r"domain/devices/\w+/target/@(name|address|port)": "where the guest sees the character device",
    r"domain/devices/\w+/source/@(mode|host|service|channel|master|slave)": "libvirt keeps it only for the types of a character device that have a rule",
}
"""Places that the table leaves out, each with the reason, as regular expressions of `Place.path`."""

DECIDED_ELSEWHERE_SINCE_9 = {
    r"domain/devices/interface/driver/@model": "of interfaces that are passed through, which their type tells",
    r"domain/devices/disk/throttlefilters/throttlefilter/@group": "a group of the guest's own disks",
    r"domain/throttlegroups/throttlegroup/group_name/\.": "a group of the guest's own disks",
    r"domain/devices/graphics/@username": "between QEMU and the client",
    r"domain/devices/interface/backend/@(hostname|fqdn)": "what the guest is told",
    r"domain/devices/\w+/acpi/@nodeset": "NUMA cells of the guest",
    r"domain/hwuuid/\.": "the guest's own",
}
"""The same for places that libvirt 9.0 does not have."""

SAMPLES = {"PortNumber": "5901", "cpuset": "0-3", "UUID": "0f5d8f9c-2c1e-4f0a-9d35-3a2a5cf0a1ff"}


def telling() -> set[tuple[str, str]]:
    """The attributes by which the table tells elements of one name apart."""
    conditions = [found for rule in _references.RULES for found in re.findall(r"([\w*]+)((?:\[[^]]+\])+)", rule.select)]
    elements = [(element, name) for element, tests in conditions for name in re.findall(r"@(\w+)", tests)]
    return {(device, name) for element, name in elements for device in (_references.KNOWN_DEVICES if element == "*" else (element,))}


@pytest.fixture(scope="module")
def grammar() -> Grammar:
    return Grammar(SCHEMA, telling())


@pytest.fixture(scope="module")
def places(grammar: Grammar) -> set[Place]:
    return grammar.places("domain")


def refers(place: Place) -> bool:
    """What the schema gives no name may be anything."""
    return place.datatype in REFERRING or (place.string and place.datatype not in HARMLESS)


def definition(place: Place, value: str) -> tuple[ET.Element, ET.Element]:
    """A definition that has nothing but the value, and the element that it is in."""
    root = element = ET.Element(place.steps[0].element, dict(place.steps[0].attributes))
    for step in place.steps[1:]:
        element = ET.SubElement(element, step.element, dict(step.attributes))
    if place.value == ".":
        element.text = value
    else:
        element.set(place.value[1:], value)
    return root, element


def is_decided(place: Place) -> bool:
    root, element = definition(place, SAMPLES.get(place.datatype, "/srv/sample"))
    return (id(element), place.value) in _referring.claims(root)[1]


def test_every_datatype_of_libvirt_is_known_to_refer_or_not(grammar: Grammar) -> None:
    assert grammar.strings() - REFERRING - HARMLESS == set()


def test_every_device_of_libvirt_is_known(places: set[Place]) -> None:
    devices = {place.steps[2].element for place in places if place.path.startswith("domain/devices/") and len(place.steps) > 2}
    assert len(devices) > 20
    assert devices - set(_references.KNOWN_DEVICES) == set()


def test_every_place_that_may_refer_to_something_outside_is_decided(places: set[Place]) -> None:
    elsewhere = re.compile("|".join([*DECIDED_ELSEWHERE, *DECIDED_ELSEWHERE_SINCE_9]))
    undecided = {place.path for place in places if refers(place) and not elsewhere.fullmatch(place.path) and not is_decided(place)}
    assert not undecided, "no answer for " + ", ".join(sorted(undecided))


@pytest.mark.parametrize("pattern", DECIDED_ELSEWHERE)
def test_every_place_that_is_left_out_is_one_that_the_table_does_not_decide(places: set[Place], pattern: str) -> None:
    assert any(re.fullmatch(pattern, place.path) and refers(place) and not is_decided(place) for place in places)


@pytest.mark.parametrize(
    ("kind", "path"), [("dev", "/dev/null"), ("file", "/srv/x"), ("pipe", "/srv/x"), ("pty", "/dev/pts/0"), ("unix", "/srv/x"), ("null", "/srv/x")]
)
def test_libvirt_drops_what_belongs_to_another_type_of_a_character_device(qemu: libvirt.virConnect, kind: str, path: str) -> None:
    source = f"<source mode='bind' path='{path}' host='other' service='7' channel='c' master='m' slave='s'/>"
    domain = qemu.defineXML(
        f"<domain type='qemu'><name>g</name><memory>65536</memory><os><type>hvm</type></os><devices><serial type='{kind}'>{source}</serial></devices></domain>"
    )
    kept = _definition.parse(domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE)).find("devices/serial/source")
    assert set(() if kept is None else kept.attrib) <= {"path", "mode"}


def test_a_path_in_an_element_of_another_namespace_is_refused(places: set[Place]) -> None:
    passed = [place for place in places if place.path.startswith("domain/{") and place.value == "@value"]
    assert {place.path.rpartition("}")[2] for place in passed} >= {"arg/@value", "env/@value", "property/@value"}
    for place in passed:
        root, _element = definition(place, "file=/srv/sample")
        answers = _referring.references(_definition.parse(ET.tostring(root, encoding="unicode")))
        assert [(reference.kind, reference.answer) for reference in answers] == [("qemu_argument", _references.REFUSE)], place.path


SMALL = """<grammar xmlns='http://relaxng.org/ns/structure/1.0'>
  <include href='values.rng'/>
  <define name='box'>
    <element name='box'>
      <choice>
        <group>
          <attribute name='type'><value>file</value></attribute>
          <element name='source'><attribute name='path'><ref name='path'/></attribute></element>
        </group>
        <group>
          <attribute name='type'><value>net</value></attribute>
          <element name='source'><attribute name='port'><ref name='port'/></attribute></element>
        </group>
      </choice>
      <optional><attribute name='label'/></optional>
      <optional><attribute name='state'><ref name='state'/></attribute></optional>
      <zeroOrMore><element name='inner' ns='urn:other'><ref name='box'/><data type='string'><param name='pattern'>x+</param></data></element></zeroOrMore>
      <zeroOrMore><element><anyName/><text/></element></zeroOrMore>
    </element>
  </define>
</grammar>"""
VALUES = """<grammar xmlns='http://relaxng.org/ns/structure/1.0'>
  <define name='path'><data type='string'/></define>
  <define name='port'><choice><data type='unsignedInt'/><value>any</value></choice></define>
  <define name='state'><choice><value>on</value><value>off</value></choice></define>
</grammar>"""


def test_the_reader_tells_values_with_their_datatypes_and_under_which_attributes(tmp_path: Path) -> None:
    (tmp_path / "small.rng").write_text(SMALL)
    (tmp_path / "values.rng").write_text(VALUES)
    small = Grammar(tmp_path / "small.rng", {("box", "type")})
    file, net, source, inner = Step("box", (("type", "file"),)), Step("box", (("type", "net"),)), Step("source"), Step("{urn:other}inner")
    assert small.strings() == {"path"}
    assert small.places("box") == {
        Place((file, source), "@path", "path", True),
        Place((net, source), "@port", "port", False),
        *(Place((box,), "@label", "text", True) for box in (file, net)),
        *(Place((box, inner), ".", "string x+", True) for box in (file, net)),
    }
