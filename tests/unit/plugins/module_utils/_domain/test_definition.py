# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import libvirt
import pytest

from ansible_collections.kvmfleet.compute.plugins.module_utils._domain import definition as _definition, references as _references, referring as _referring
from ansible_collections.kvmfleet.compute.plugins.module_utils._rules import memory_units as _memory_units
from ansible_collections.kvmfleet.compute.plugins.module_utils._rules.errors import KvmfleetError

SHELL = "<domain type='qemu'><name>g</name><memory>1048576</memory><vcpu>1</vcpu><devices>{}</devices></domain>"
NETWORK = "<disk type='network'>{}<target dev='vdb'/></disk>"


def refused(text: str) -> set[str]:
    return {reference.kind for reference in _referring.references(_definition.parse(text)) if reference.answer == _references.REFUSE}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "not xml",
        "<domain>",
        "<network/>",
        "<domain>&undeclared;</domain>",
        '<!DOCTYPE domain [<!ENTITY a "b">]><domain>&a;</domain>',
        '<!-- <domain> --><!DOCTYPE domain SYSTEM "file:///etc/passwd"><domain/>',
        '<!DOCTYPE d [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;"><!ENTITY c "&b;&b;&b;&b;&b;&b;">]><domain>&c;</domain>',
        "<domain>" + " " * _definition.MAX_BYTES + "</domain>",
        "<domain><memory unit='parsec'>1</memory></domain>",
        "<domain><memory>much</memory></domain>",
        "<domain><vcpu>two</vcpu></domain>",
    ],
)
def test_what_is_no_domain_definition_is_refused(text: str) -> None:
    with pytest.raises(KvmfleetError) as caught:
        _definition.flavor_in_force(_definition.parse(text))
    assert caught.value.code == "invalid_domain_xml"


@pytest.mark.parametrize(
    ("name", "vcpus", "ram"),
    [("virt_install", 2, 2048), ("vagrant", 1, 512), ("hotplug", 2, 2048), ("cockpit", 2, 3072), ("virt_manager_uefi", 4, 4096)],
)
def test_flavor_in_force_counts_vcpus_online_and_all_memory(definitions: dict[str, str], name: str, vcpus: int, ram: int) -> None:
    assert _definition.flavor_in_force(_definition.parse(definitions[name])) == _definition.FlavorInForce(None, vcpus, ram)


@pytest.mark.parametrize(
    ("unit", "amount", "kib"),
    [(None, 1024, 1024), ("KiB", 1, 1), ("k", 1, 1), ("b", 2048, 2), ("bytes", 2048, 2), ("M", 1, 1024), ("G", 1, 1048576), ("MB", 128, 125000)],
)
def test_memory_units_are_those_of_libvirt(unit: str | None, amount: int, kib: int) -> None:
    memory = _definition.parse(f"<domain><memory{f' unit={unit!r}' if unit else ''}>{amount}</memory></domain>").find("memory")
    assert memory is not None
    assert _memory_units.kib(memory) == kib


@pytest.mark.parametrize(
    ("name", "root"),
    [("virt_manager_uefi", "sdc"), ("terraform", "vda"), ("pinned_numa", "sda"), ("foreign_metadata", "hda"), ("cockpit", "vda")],
)
def test_root_disk_is_the_first_bootable_one(definitions: dict[str, str], name: str, root: str) -> None:
    disks = _definition.disks(_definition.parse(definitions[name]))
    assert [disk.target for disk in disks if disk.is_root] == [root]
    assert _definition.root_disk(_definition.parse(definitions[name])).target == root


@pytest.mark.parametrize(
    "disk",
    [
        "<disk type='file' device='cdrom'><source file='/i/a.iso'/><target dev='sda' bus='sata'/></disk>",
        "<disk type='file'><source file='/i/a'/><target dev='vda' bus='virtio'/><readonly/></disk>",
        "<disk type='file'><source file='/i/a'/><target dev='vda' bus='virtio'/><shareable/></disk>",
        "<disk type='file' device='floppy'><source file='/i/a'/><target dev='fda' bus='fdc'/></disk>",
    ],
)
def test_media_and_shared_disks_are_never_the_root_disk(disk: str) -> None:
    assert _definition.root_disk(_definition.parse(SHELL.format(disk))) is None


def test_disks_are_read_as_defined(definitions: dict[str, str]) -> None:
    cdrom, raw, root, empty = _definition.disks(_definition.parse(definitions["virt_manager_uefi"]))
    assert (cdrom.device, cdrom.readonly, cdrom.path) == ("cdrom", True, "/var/lib/libvirt/images/win10.iso")
    assert (raw.format, raw.serial, raw.boot_order) == ("raw", "DATA-0001", None)
    assert (root.format, root.boot_order, root.bus) == ("qcow2", 1, "sata")
    assert empty.path is None


def test_a_disk_without_a_format_is_raw_and_not_probed() -> None:
    disk = "<disk type='file'><source file='/i/a'/><target dev='vda' bus='virtio'/></disk>"
    assert _definition.disks(_definition.parse(SHELL.format(disk)))[0].format == "raw"


def test_firmware_and_interfaces_are_read_as_defined(definitions: dict[str, str]) -> None:
    root = _definition.parse(definitions["virt_manager_uefi"])
    assert _definition.firmware(root) == _definition.Firmware(
        "uefi", "/usr/share/OVMF/OVMF_CODE_4M.fd", "raw", "/var/lib/libvirt/qemu/nvram/win_VARS.fd", "raw", "/usr/share/OVMF/OVMF_VARS_4M.fd"
    )
    assert _definition.interfaces(root) == [_definition.Interface("52:54:00:11:22:33", "bridge", "br0", "e1000e")]
    assert _definition.machine_and_arch(root) == ("pc-q35-7.2", "x86_64")
    assert _definition.firmware(_definition.parse(definitions["virt_install"])).kind == "bios"
    assert _definition.firmware(_definition.parse("<domain><os firmware='efi'><type>hvm</type></os></domain>")).kind == "uefi"


@pytest.mark.parametrize("name", ["virt_install", "virt_manager_uefi", "terraform", "cockpit", "vagrant", "pinned_numa", "hotplug", "foreign_metadata", "nova"])
def test_ordinary_guests_may_move(definitions: dict[str, str], name: str) -> None:
    assert refused(definitions[name]) == set()


@pytest.mark.parametrize(
    ("name", "kinds"),
    [
        ("ignition", {"qemu_argument"}),
        (
            "bound_to_host",
            {
                "block_device", "block_disk", "shared_disk", "filesystem",
                "host_interface", "hostdev", "host_address", "socket", "listen_address", "host_gpu", "entropy", "shared_memory",
            },
        ),
    ],
)  # fmt: skip
def test_what_belongs_to_the_host_is_refused(definitions: dict[str, str], name: str, kinds: set[str]) -> None:
    assert refused(definitions[name]) == kinds


def test_references_name_what_the_destination_needs(definitions: dict[str, str]) -> None:
    found = {(reference.kind, reference.name, reference.answer) for reference in _referring.references(_definition.parse(definitions["terraform"]))}
    assert found == {
        ("emulator", "/usr/bin/qemu-system-x86_64", "keep"),
        ("disk", "/var/lib/libvirt/images/tf-node-0.qcow2", "carry"),
        ("disk", "/var/lib/libvirt/images/debian-12.qcow2", "carry"),
        ("disk", "/var/lib/libvirt/images/commoninit.iso", "carry"),
        ("network", "k8s", "keep"),
        ("nwfilter", "clean-traffic", "keep"),
    }


@pytest.mark.parametrize(
    ("device", "kinds"),
    [
        ("<quantum dev='q0'/>", {"unknown"}),
        ("<quantum><link path='x'/></quantum>", {"unknown"}),
        ("<quantum model='fast'/>", set()),
        ("<video><model type='virtio'><blob>/dev/udmabuf</blob></model></video>", {"unknown"}),
        ("<sound model='ich9'><firmware file='/opt/fw'/></sound>", {"unknown"}),
        ("<disk type='file'><source file='/i/a'/><target dev='vda'/><transient/></disk>", {"transient_disk"}),
        ("<disk type='ctl'><source dev='/dev/cam/ctl'/><target dev='vda'/></disk>", {"block_disk"}),
        ("<disk type='nvme'><source type='pci'/><target dev='vda'/></disk>", {"hostdev"}),
        ("<disk type='file'><driver name='qemu' type='qcow2'/><source file='/i/a'><dataStore type='file'><source file='/i/d'/></dataStore></source>"
         "<target dev='vda'/></disk>", {"data_file"}),
        ("<disk type='file'><source file='/i/a'/><backingStore type='network'><source protocol='nbd' name='x'/></backingStore><target dev='vda'/></disk>",
         {"backing_store"}),
        (NETWORK.format("<source protocol='rbd' name='p/i'><host name='ceph' port='6789'/></source>"), set()),
        (NETWORK.format("<source protocol='nbd'><host name='192.0.2.1' port='10809'/></source>"), set()),
        (NETWORK.format("<source protocol='http' name='/disk.img'><host name='192.0.2.1' port='80'/></source>"), set()),
        (NETWORK.format("<source protocol='rbd' name='p/i'><auth username='u'><secret type='ceph' usage='c'/></auth></source>"), set()),
        (NETWORK.format("<auth username='u'><secret type='iscsi' usage='c'/></auth><source protocol='iscsi' name='iqn/1'><host name='san'/></source>"), set()),
        (NETWORK.format("<source protocol='rbd' name='p/i'><encryption format='luks'><secret type='passphrase' uuid='u'/></encryption></source>"), set()),
        ("<disk type='file'><auth username='u'><secret type='iscsi' usage='c'/></auth><source file='/i/a'/><target dev='vda'/></disk>", {"disk_secret"}),
        ("<tpm model='tpm-crb'><backend type='emulator' version='2.0'><encryption secret='u'/></backend></tpm>", set()),
        (NETWORK.format("<source protocol='nbd'><host name='localhost' port='10809'/></source>"), {"host_address"}),
        (NETWORK.format("<source protocol='nbd'><host transport='unix' socket='/run/nbd'/></source>"), {"socket"}),
        (NETWORK.format("<source protocol='vxhs' name='v'><host name='192.0.2.1' port='9999'/></source>"), {"network_disk"}),
        (NETWORK.format("<source protocol='ssh' name='/i'><identity keyfile='/root/key'/></source>"), {"network_disk", "network_identity"}),
        ("<interface type='user'><backend type='passt' logFile='/tmp/passt.log'/></interface>", {"log_file"}),
        ("<interface type='ethernet'><target dev='tap0'/></interface>", {"host_interface"}),
        ("<interface type='network'><source network='default'/><script path='/etc/up'/></interface>", {"host_file"}),
        ("<interface type='network'><source network='default'/><rom file='/srv/ipxe.rom'/></interface>", {"rom_file"}),
        ("<channel type='unix'><source mode='bind' path='/var/lib/libvirt/qemu/channel/target/g.agent'/><target type='virtio' name='a'/></channel>", set()),
        ("<channel type='unix'><source mode='bind' path='/srv/g.agent'/><target type='virtio' name='a'/></channel>", {"socket"}),
        ("<console type='pty' tty='/dev/pts/3'><source path='/dev/pts/3'/></console>", set()),
        ("<serial type='file' log='/srv/x'><source path='/var/log/libvirt/qemu/g.log'/></serial>", {"unknown"}),
        ("<disk><source file='/i/a'/><target dev='vda'/></disk>", set()),
        ("<disk type='file'><source file='/i/a' fdgroup='g'/><target dev='vda'/></disk>", {"file_descriptors"}),
        ("<interface type='internal'><source name='n'/></interface>", {"host_interface"}),
        ("<interface type='mcast'><source address='230.0.0.1' port='5558'/></interface>", set()),
        ("<interface type='network'><source network='default'/><backend tap='/dev/net/tun' vhost='/dev/vhost-net'/></interface>", set()),
        ("<interface type='network'><source network='default'/><backend tap='/dev/tap7' vhost='/dev/vhost-x'/></interface>", {"host_file"}),
        ("<interface type='user'><backend type='passt'/><portForward proto='tcp'><range start='2022' to='22'/></portForward></interface>", set()),
        ("<interface type='user'><portForward proto='tcp' address='192.0.2.1' dev='eth0'/></interface>", {"host_address", "host_interface"}),
        ("<graphics type='vnc' socket='/tmp/vnc'/>", {"socket"}),
        ("<graphics type='sdl' display=':0' xauth='/root/.Xauthority'/>", {"host_display"}),
        ("<memory model='nvdimm'><source><path>/tmp/nv</path></source></memory>", {"memory_file"}),
        ("<rng model='virtio'><backend model='random'>/dev/urandom</backend></rng>", set()),
        ("<rng model='virtio'><backend model='builtin'/></rng>", set()),
        ("<rng model='virtio'><backend model='egd' type='unix'><source mode='connect' path='/run/egd'/></backend></rng>", {"entropy"}),
    ],
)  # fmt: skip
def test_every_reference_has_an_answer(device: str, kinds: set[str]) -> None:
    assert refused(SHELL.format(device)) == kinds


@pytest.mark.parametrize(
    ("system", "kinds"),
    [
        ("<nvram>/v/g.fd</nvram>", set()),
        ("<nvram type='file'><source file='/v/g.fd'/></nvram>", set()),
        ("<nvram type='volume'><source pool='default' volume='g.fd'/></nvram>", {"nvram"}),
        ("<nvram type='vhostuser'><source type='unix' path='/run/s'/></nvram>", {"nvram"}),
        ("<nvram type='file'><source file='/v/g.fd'><encryption format='luks'><secret type='passphrase' usage='u'/></encryption></source></nvram>", {"nvram"}),
        ("<nvram type='file'><source file='/v/g.fd' fdgroup='g'/></nvram>", {"file_descriptors"}),
        ("<varstore path='/v/g.json' template='/usr/share/v.json'/>", {"nvram"}),
        ("<root>/srv/root</root>", {"direct_boot"}),
        ("<initdir>/srv</initdir>", {"container"}),
    ],
)
def test_firmware_variables_are_carried_in_files_only(system: str, kinds: set[str]) -> None:
    assert refused(f"<domain type='qemu'><os>{system}</os></domain>") == kinds


@pytest.mark.parametrize(
    ("more", "kind", "name"),
    [
        (
            "<seclabel type='static' model='selinux'><label>system_u:system_r:svirt_t:s0:c1,c2</label></seclabel>",
            "security_label",
            "system_u:system_r:svirt_t:s0:c1,c2",
        ),
        ("<seclabel type='dynamic' model='apparmor' relabel='yes'/>", "security_model", "apparmor"),
        ("<cputune><cachetune vcpus='0-1'><cache id='0' level='3' type='both' size='3' unit='MiB'/></cachetune></cputune>", "resctrl", "cachetune"),
        ("<cputune><energytune vcpus='0-1'><monitor vcpus='0'/></energytune></cputune>", "resctrl", "energytune"),
        ("<devices><interface type='bridge'><source bridge='b'/><target dev='tap7'/></interface></devices>", "tap_name", "tap7"),
        ("<devices><interface type='network'><source network='n' portgroup='web'/></interface></devices>", "port_group", "web"),
        ("<devices><interface type='bridge'><source bridge='b'/><virtualport type='openvswitch'/></interface></devices>", "virtual_port", "openvswitch"),
        ("<devices><disk type='network'><source protocol='nbd' tls='yes'><host name='h'/></source></disk></devices>", "tls", "yes"),
    ],
)
def test_what_the_destination_must_have_is_kept_and_listed(more: str, kind: str, name: str) -> None:
    found = {(reference.kind, reference.name): reference for reference in _referring.references(_definition.parse(f"<domain>{more}</domain>"))}
    assert found[kind, name].answer == _references.KEEP
    assert found[kind, name].reason


def test_file_descriptors_of_another_process_are_refused() -> None:
    assert refused("<domain><iommufd enabled='yes' fdgroup='g'/></domain>") == {"file_descriptors"}
    assert refused("<domain><iommufd enabled='yes'/></domain>") == set()


def test_labels_of_owners_need_no_answer() -> None:
    assert _referring.references(_definition.parse("<domain><seclabel type='dynamic' model='dac' relabel='yes'/></domain>")) == []


NAMING = "<q:override xmlns:q='urn:q'><q:device alias='a'><q:frontend><q:property name='p' value='{}'/></q:frontend></q:device></q:override>"
DRIVE = "<qemu:commandline><qemu:arg value='-drive'/><qemu:arg value='file={},if=none'/></qemu:commandline>"


@pytest.mark.parametrize(("more", "codes"), [(NAMING.format("/srv/x"), {"qemu_argument"}), (NAMING.format("x"), set()), (DRIVE.format("x"), {"qemu_argument"})])
def test_what_users_pass_to_qemu_may_name_no_file(more: str, codes: set[str]) -> None:
    """A drive names a file whatever its name looks like."""
    assert refused(f"<domain xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'>{more}</domain>") == codes


def test_own_metadata_is_found_under_any_prefix() -> None:
    text = (
        f"<domain xmlns:k='{_definition.METADATA_NAMESPACE}'><metadata><k:instance><k:flavor name='m1' vcpus='2' ram='1'/>"
        "<k:origin host='h' migration='u'/></k:instance></metadata><memory>{}</memory><vcpu>2</vcpu></domain>"
    )
    assert _definition.flavor_in_force(_definition.parse(text.format(1024))).name == "m1"
    assert _definition.flavor_in_force(_definition.parse(text.format(2048))).name is None
    assert _definition.migration_uuid(_definition.parse(text.format(1024))) == "u"
    assert _definition.migration_uuid(_definition.parse(text.replace("domain/1'", "domain/9'"))) is None


@pytest.mark.parametrize("name", ["virt_install", "virt_manager_uefi", "terraform", "cockpit", "vagrant", "nova", "pinned_numa", "foreign_metadata"])
def test_fixtures_are_definitions_that_libvirt_takes(qemu: libvirt.virConnect, definitions: dict[str, str], name: str) -> None:
    domain = qemu.defineXMLFlags(definitions[name].replace("host-passthrough", "maximum").replace("host-model", "maximum"), libvirt.VIR_DOMAIN_DEFINE_VALIDATE)
    assert domain.UUIDString() in definitions[name]


def test_the_root_disk_may_be_named(definitions: dict[str, str]) -> None:
    root = _definition.parse(definitions["virt_manager_uefi"])
    targets = [disk.target for disk in _definition.disks(root) if disk.device == "disk"]
    other = next(target for target in targets if target != _definition.root_disk(root).target)
    assert [disk.target for disk in _definition.disks(root, other) if disk.is_root] == [other]
    with pytest.raises(KvmfleetError, match="root_disk: the guest has no disk vdz that it writes to alone; it has") as caught:
        _definition.disks(root, "vdz")
    assert caught.value.code == "invalid_root_disk"
