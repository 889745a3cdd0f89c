# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a domain definition may refer to outside itself, and what a move does about each: the table, as data.

The first rule that matches a value decides. Anything that looks like a path and that no rule claims is refused by name (see
`_domain.definition.references`), so an element that this table does not know never gets lost in a move.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from .reference import CARRY, KEEP, REFUSE


class Rule(NamedTuple):
    """One row: which value it is about, and the answer.

    :param select: ElementTree path below `<domain>`.
    :param value: `@attribute`, `.` for the text, or `` for the element as a whole, everything below it included.
    :param kind: what the value names; a refusal's code is `unsupported_KIND`.
    :param matching: regular expression that the whole value must match for the rule to apply.
    """

    select: str
    value: str
    kind: str
    answer: str
    reason: str = ""
    matching: str | None = None


LOCAL_ADDRESS = r"127\.0\.0\.1|0\.0\.0\.0|::|::1|localhost"
NETWORK_STORAGE = "rbd|nbd|iscsi|gluster|https?|ftps?"
DIRECTLY = r"(?!.*/\.\.?(/|$))"  # no way out of the directory
LIBVIRT_SOCKET = DIRECTLY + r"(/var/lib/libvirt/qemu/.*|/run/libvirt/qemu/.*)"
VALUE_TRAVELS = "its value travels, encrypted, where the destination lacks the secret"
LIBVIRT_LOG = DIRECTLY + r"/var/log/libvirt/.*"
LOG_STAYS = "libvirt starts the log anew at the destination"
LOG_TRAVELS = "its last 2 MiB, unless libvirt empties it when the guest starts"
BLOCK_DEVICE = (
    "a block device (LVM volume, partition, LUN) of this host; copy it into a file (qemu-img convert -O qcow2) or into a volume of a directory pool and let "
    "the disk use that, or let the guest have it as network storage (iSCSI, RBD), which both hosts reach"
)
NOT_CARRIED = "the file is not one of the disks that a move carries"
PORT_FREE = "the port must be free at the destination"
FILE_DESCRIPTORS = "a process of this host opens the files and passes them on"
SECURITY_LABELS = ("seclabel", "os//seclabel", "devices//seclabel")
SECRETIVE = (
    *(f"devices/disk[@type='network']//{element}" for element in ("auth", "encryption")),
    *(f"devices/disk[@type='{kind}']//encryption[@format='luks']" for kind in ("file", "volume")),
)
INSIDE_QEMU = ("null", "stdio", "vc", "spicevmc", "spiceport", "dbus", "qemu-vdagent")

RULES: tuple[Rule, ...] = (
    # firmware and boot
    Rule("os/loader", ".", "loader", KEEP, "the destination must have the same firmware"),
    Rule("os/nvram[@type='block']", "", "nvram", REFUSE, "the firmware variables are on a block device"),
    Rule("os/nvram[@type='network']", "", "nvram", REFUSE, "the firmware variables are on network storage"),
    Rule("os/nvram", ".", "nvram", CARRY),
    Rule("os/nvram/source", "@file", "nvram", CARRY),
    Rule("os/nvram/source", "@fdgroup", "file_descriptors", REFUSE, FILE_DESCRIPTORS),
    Rule("os/nvram/source", "", "nvram", REFUSE, "the firmware variables are not in a file"),
    Rule("os/nvram//encryption", "", "nvram", REFUSE, "the firmware variables are encrypted with a secret of this host"),
    Rule("os/nvram", "@template", "nvram_template", KEEP, "only read where the variables are missing"),
    Rule("os/varstore", "@path", "nvram", REFUSE, "the firmware variables are kept in a form (varstore) that is not carried"),
    Rule("os/varstore", "@template", "nvram_template", KEEP, "only read where the variables are missing"),
    Rule("os/kernel", ".", "boot_file", CARRY),
    Rule("os/initrd", ".", "boot_file", CARRY),
    Rule("os/dtb", ".", "boot_file", CARRY),
    Rule("os/shim", ".", "direct_boot", REFUSE, "a shim file outside the guest's disks"),
    Rule("os/root", ".", "direct_boot", REFUSE, "a root file system outside the guest's disks"),
    Rule("os/acpi/table", ".", "acpi_table", REFUSE, "an ACPI table file outside the guest's disks"),
    Rule("os/init", "", "container", REFUSE, "containers are not moved"),
    Rule("os/initdir", "", "container", REFUSE, "containers are not moved"),
    Rule("os/smbios[@mode='host']", "@mode", "smbios", REFUSE, "the guest shows the SMBIOS of its host, which would change"),
    Rule("bootloader", ".", "container", REFUSE, "Xen boot loaders are not moved"),
    Rule("launchSecurity", "", "launch_security", REFUSE, "memory encryption is bound to the keys of this host"),
    Rule("sysinfo[@type='fwcfg']/entry", "@file", "firmware_config", REFUSE, NOT_CARRIED),
    Rule("sysinfo", "", "sysinfo", KEEP),
    # power
    Rule("on_poweroff", ".", "power_action", KEEP, "set aside for the shutdown of the move, in force at the destination", "restart"),
    Rule("on_reboot", ".", "power_action", KEEP, "libvirt may be unable to restart a guest that shuts down too late: then the operation stays open", "destroy"),
    # host resources
    Rule("memoryBacking/hugepages/page", "@nodeset", "hugepages", REFUSE, "huge pages for single NUMA cells of the guest cannot be checked"),
    Rule("memoryBacking/hugepages", "", "hugepages", KEEP, "the destination must have as many free huge pages"),
    Rule("vcpu", "@cpuset", "host_cpus", KEEP, "the destination must have these CPUs"),
    Rule("cputune/vcpupin", "@cpuset", "host_cpus", KEEP, "the destination must have these CPUs"),
    Rule("cputune/emulatorpin", "@cpuset", "host_cpus", KEEP, "the destination must have these CPUs"),
    Rule("cputune/iothreadpin", "@cpuset", "host_cpus", KEEP, "the destination must have these CPUs"),
    Rule("numatune/memory", "@nodeset", "host_nodes", KEEP, "the destination must have these NUMA nodes"),
    Rule("numatune/memnode", "@nodeset", "host_nodes", KEEP, "the destination must have these NUMA nodes"),
    Rule("cputune/cachetune", "", "resctrl", KEEP, "the destination must be able to set CPU cache aside (resctrl)"),
    Rule("cputune/memorytune", "", "resctrl", KEEP, "the destination must be able to set memory bandwidth aside (resctrl)"),
    Rule("cputune/energytune", "", "resctrl", KEEP, "the destination must be able to measure the energy that CPUs use (resctrl)"),
    Rule("iommufd", "@fdgroup", "file_descriptors", REFUSE, FILE_DESCRIPTORS),
    Rule("blkiotune/device/path", ".", "block_device", REFUSE, "a block device of this host"),
    Rule("resource/partition", ".", "cgroup", KEEP),
    Rule("seclabel[@type='none'][@model='none']", "@type", "security_label", KEEP, "of a host without a security driver"),
    Rule("seclabel[@type='none']", "@type", "security_label", REFUSE, "QEMU would run without what keeps a guest from the rest of its host"),
    Rule("seclabel[@type='static'][@model='dac']/label", ".", "security_label", REFUSE, "QEMU would run as root", r"(root|\+?0+)(:.*)?|.*:(root|\+?0+)"),
    *(Rule(select, "@model", "security_model", KEEP, matching="dac") for select in SECURITY_LABELS),
    *(Rule(select, "@model", "security_model", KEEP, "the destination must have this security model") for select in SECURITY_LABELS),
    *(Rule(f"{select}/label", ".", "security_label", KEEP, "the destination must know this label") for select in SECURITY_LABELS),
    Rule("seclabel/baselabel", ".", "security_label", KEEP, "the destination must know this label"),
    Rule("seclabel/imagelabel", ".", "security_label", KEEP),
    # disks
    Rule("devices/emulator", ".", "emulator", KEEP, "the destination must have this emulator"),
    Rule("devices/disk/transient", "", "transient_disk", REFUSE, "what the guest writes to the disk is dropped when it stops"),
    Rule("devices/disk/shareable", "", "shared_disk", REFUSE, "several guests may write to the disk"),
    Rule("devices/disk/mirror", "", "block_job", REFUSE, "a block job is copying the disk"),
    Rule("devices/disk//backingStore//encryption", "", "disk_secret", REFUSE, "a layer below the one that the guest writes to is encrypted"),
    *(Rule(f"{element}/secret", value, "secret", CARRY, VALUE_TRAVELS) for element in SECRETIVE for value in ("@uuid", "@usage")),
    *(Rule(element, "", "secret", KEEP) for element in SECRETIVE),
    Rule("devices/disk//auth", "", "disk_secret", REFUSE, "the disk needs a secret of this host"),
    Rule("devices/disk//encryption", "", "disk_secret", REFUSE, "the disk is encrypted in a form that is not carried"),
    Rule("devices/disk//reservations", "", "persistent_reservations", REFUSE, "SCSI reservations need a helper process of this host"),
    Rule("devices/disk//slices", "", "disk_slice", REFUSE, "the disk is a slice of a larger file"),
    Rule("devices/disk//dataStore", "", "data_file", REFUSE, "the disk keeps its data in a second file"),
    Rule("devices/disk//source", "@fdgroup", "file_descriptors", REFUSE, FILE_DESCRIPTORS),
    Rule("devices/disk/source", "@file", "disk", CARRY),
    Rule("devices/disk[@type='block']/source", "@dev", "block_disk", REFUSE, BLOCK_DEVICE),
    Rule("devices/disk[@type='volume']/source", "@volume", "disk", CARRY),
    Rule("devices/disk[@type='volume']/source", "@pool", "pool", KEEP, "the destination must have this storage pool, active, with a directory"),
    Rule("devices/disk[@type='network']/source/host[@transport='unix']", "", "socket", REFUSE, "a socket of this host serves the disk"),
    Rule("devices/disk[@type='network']/source/host", "@name", "host_address", REFUSE, "this host itself serves the disk", LOCAL_ADDRESS),
    Rule("devices/disk[@type='network']/source/host", "@name", "network_disk", KEEP),
    Rule("devices/disk[@type='network']/source/identity", "", "network_identity", REFUSE, "keys or users of this host open the storage"),
    Rule("devices/disk[@type='network']/source/knownHosts", "", "network_identity", REFUSE, "a file of this host tells which servers are trusted"),
    Rule("devices/disk[@type='network']/source", "@tls", "tls", KEEP, "the destination must have the certificates", "yes"),
    Rule("devices/disk[@type='network']/source/snapshot", "@name", "network_disk", KEEP),
    Rule("devices/disk[@type='network']/source", "@protocol", "network_disk", KEEP, "it is left alone; the destination must reach it", NETWORK_STORAGE),
    Rule("devices/disk[@type='network']/source", "@protocol", "network_disk", REFUSE, "network storage that this release cannot check"),
    Rule("devices/disk[@type='network']/source", "@name", "network_disk", KEEP),
    Rule("devices/disk[@type='network']/source/config", "@file", "config_file", KEEP, "the destination must have this file"),
    Rule("devices/disk[@type='dir']/source", "", "directory_disk", REFUSE, "a directory of this host"),
    Rule("devices/disk[@type='nvme']/source", "", "hostdev", REFUSE, "an NVMe device of this host"),
    Rule("devices/disk[@type='ctl']/source", "", "block_disk", REFUSE, "a CTL device of this host"),
    Rule("devices/disk[@type='vhostuser']/source", "", "vhostuser", REFUSE, "a process of this host serves the disk"),
    Rule("devices/disk[@type='vhostvdpa']/source", "", "vhostuser", REFUSE, "a device of this host serves the disk"),
    Rule("devices/disk//backingStore[@type='file']/source", "@file", "disk", CARRY, "the chain is read from the image headers"),
    Rule("devices/disk//backingStore/source", "", "backing_store", REFUSE, "a backing image that is not a file"),
    # network interfaces
    Rule("devices/interface[@type='network']/source", "@network", "network", KEEP, "the destination must have this network, active"),
    Rule("devices/interface[@type='bridge']/source", "@bridge", "bridge", KEEP, "the destination must have this bridge"),
    Rule("devices/interface[@type='direct']/source", "@dev", "host_interface", REFUSE, "a network device of this host (macvtap)"),
    Rule("devices/interface[@type='ethernet']", "", "host_interface", REFUSE, "a tap device that something else on this host prepares"),
    Rule("devices/interface[@type='hostdev']", "", "hostdev", REFUSE, "a network device of this host is passed through"),
    Rule("devices/interface[@type='vhostuser']", "", "vhostuser", REFUSE, "a process of this host serves the interface"),
    Rule("devices/interface[@type='vdpa']", "", "hostdev", REFUSE, "a vDPA device of this host"),
    Rule("devices/interface[@type='vds']", "", "hostdev", REFUSE, "a distributed switch of another hypervisor"),
    Rule("devices/interface[@type='server']", "", "host_address", REFUSE, "an address of this host"),
    Rule("devices/interface[@type='client']", "", "host_address", REFUSE, "an address of another process"),
    Rule("devices/interface[@type='udp']", "", "host_address", REFUSE, "an address of this host"),
    Rule("devices/interface[@type='internal']", "", "host_interface", REFUSE, "a network of another hypervisor"),
    Rule("devices/interface[@type='mcast']/source", "", "multicast", KEEP, "the destination must be in the network of this multicast group"),
    Rule("devices/interface/source", "@portgroup", "port_group", KEEP, "the network at the destination must have this port group"),
    Rule("devices/interface/source", "@network", "network", KEEP),
    Rule("devices/interface/source", "@bridge", "bridge", KEEP),
    Rule("devices/interface/source", "@portid", "network", KEEP),
    Rule("devices/interface/target", "@dev", "tap_name", KEEP, "no other device of the destination may have this name"),
    Rule("devices/interface/virtualport", "@type", "virtual_port", KEEP, "the bridge at the destination must be of this kind"),
    Rule("devices/interface/virtualport/parameters", "@profileid", "port_profile", KEEP, "the switch at the destination must have this profile"),
    Rule("devices/interface/virtualport/parameters", "@interfaceid", "virtual_port", KEEP),
    Rule("devices/interface/virtualport/parameters", "@instanceid", "virtual_port", KEEP),
    Rule("devices/interface/portForward", "@address", "host_address", REFUSE, "an address of this host"),
    Rule("devices/interface/portForward", "@dev", "host_interface", REFUSE, "a network device of this host"),
    Rule("devices/interface/portForward/range", "@start", "port", KEEP, PORT_FREE),
    Rule("devices/interface/portForward/range", "@end", "port", KEEP, PORT_FREE),
    Rule("devices/interface/filterref", "@filter", "nwfilter", KEEP, "the destination must have this filter"),
    Rule("devices/interface/backend", "@tap", "host_file", KEEP, matching="/dev/net/tun"),
    Rule("devices/interface/backend", "@vhost", "host_file", KEEP, matching="/dev/vhost-net"),
    Rule("devices/interface/backend", "@tap", "host_file", REFUSE, "a device file of this host"),
    Rule("devices/interface/backend", "@vhost", "host_file", REFUSE, "a device file of this host"),
    Rule("devices/interface/backend", "@type", "program", KEEP, "the destination must have this program", "passt"),
    Rule("devices/interface/backend", "@logFile", "log_file", KEEP, LOG_STAYS, LIBVIRT_LOG),
    Rule("devices/interface/backend", "@logFile", "log_file", REFUSE, NOT_CARRIED),
    Rule("devices/interface/source", "@dev", "host_interface", REFUSE, "a network device of this host"),
    Rule("devices/interface/script", "@path", "host_file", REFUSE, "a script of this host"),
    Rule("devices/interface/downscript", "@path", "host_file", REFUSE, "a script of this host"),
    # graphics, video, sound
    Rule("devices/graphics[@type='vnc'][@autoport='no']", "@port", "port", KEEP, PORT_FREE, r"[1-9]\d*"),
    Rule("devices/graphics[@type='spice'][@autoport='no']", "@port", "port", KEEP, PORT_FREE, r"[1-9]\d*"),
    Rule("devices/graphics[@type='spice'][@autoport='no']", "@tlsPort", "port", KEEP, PORT_FREE, r"[1-9]\d*"),
    Rule("devices/graphics[@type='rdp'][@autoport='no']", "@port", "port", KEEP, PORT_FREE, r"[1-9]\d*"),
    Rule("devices/graphics", "@websocket", "port", KEEP, PORT_FREE, r"[1-9]\d*"),
    Rule("devices/graphics", "@port", "port", KEEP),
    Rule("devices/graphics", "@tlsPort", "port", KEEP),
    Rule("devices/graphics", "@listen", "listen_address", KEEP, matching=LOCAL_ADDRESS),
    Rule("devices/graphics", "@listen", "listen_address", REFUSE, "an address of this host"),
    Rule("devices/graphics/listen[@type='address']", "@address", "listen_address", KEEP, matching=LOCAL_ADDRESS),
    Rule("devices/graphics/listen[@type='address']", "@address", "listen_address", REFUSE, "an address of this host"),
    Rule("devices/graphics/listen[@type='network']", "@network", "network", KEEP, "the destination must have this network, active"),
    Rule("devices/graphics/listen[@type='network']", "@address", "listen_address", KEEP),
    Rule("devices/graphics/listen", "@socket", "socket", KEEP, matching=LIBVIRT_SOCKET),
    Rule("devices/graphics/listen", "@socket", "socket", REFUSE, "a socket of this host"),
    Rule("devices/graphics", "@socket", "socket", REFUSE, "a socket of this host"),
    Rule("devices/graphics[@type='sdl']", "", "host_display", REFUSE, "a display of this host"),
    Rule("devices/graphics[@type='desktop']", "", "host_display", REFUSE, "a display of this host"),
    Rule("devices/graphics[@type='dbus']", "@address", "socket", REFUSE, "a message bus of this host"),
    Rule("devices/graphics/gl", "@rendernode", "host_gpu", REFUSE, "a graphics device of this host"),
    Rule("devices/video//acceleration", "@rendernode", "host_gpu", REFUSE, "a graphics device of this host"),
    Rule("devices/audio[@type='none']", "", "audio", KEEP),
    Rule("devices/audio[@type='spice']", "", "audio", KEEP),
    Rule("devices/audio", "", "host_audio", REFUSE, "a sound device or server of this host"),
    # devices of the host
    Rule("devices/hostdev", "", "hostdev", REFUSE, "a device of this host is passed through"),
    Rule("devices/input[@type='passthrough']", "", "hostdev", REFUSE, "an input device of this host is passed through"),
    Rule("devices/input[@type='evdev']", "", "hostdev", REFUSE, "an input device of this host is passed through"),
    Rule("devices/tpm/backend/encryption", "@secret", "secret", CARRY, VALUE_TRAVELS),
    Rule("devices/tpm/backend/source", "", "tpm_state", REFUSE, "the state of the TPM lies in a place of its own, which is not carried"),
    Rule("devices/tpm/backend[@type='passthrough']", "", "tpm", REFUSE, "a TPM of this host is passed through"),
    Rule("devices/tpm/backend[@type='external']", "", "tpm", REFUSE, "a process of this host emulates the TPM"),
    Rule("devices/tpm/backend[@type='emulator']", "", "tpm", CARRY),
    Rule("devices/filesystem", "", "filesystem", REFUSE, "a directory of this host is shared with the guest"),
    Rule("devices/shmem", "", "shared_memory", REFUSE, "memory is shared with other processes of this host"),
    Rule("devices/memory/source/path", ".", "memory_file", REFUSE, "guest memory is kept in a file of this host"),
    Rule("devices/memory/source/pagesize", "", "hugepages", REFUSE, "huge pages of the destination are not reserved"),
    Rule("devices/memory/source/nodemask", ".", "host_nodes", KEEP, "the destination must have these NUMA nodes"),
    Rule("devices/memory[@model='sgx-epc']", "", "hostdev", REFUSE, "an enclave of this host's CPU"),
    Rule("devices/lease", "", "lease", REFUSE, "a lock manager of this host holds a lease"),
    Rule("devices/pstore", "", "pstore", REFUSE, NOT_CARRIED),
    Rule("devices/vsock/cid[@auto='no']", "@address", "vsock", KEEP, "the context id must be free at the destination"),
    Rule("devices/crypto/backend[@model='builtin']", "", "crypto", KEEP),
    Rule("devices/crypto/backend[@model='lkcf']", "", "crypto", KEEP),
    Rule("devices/crypto/backend", "", "crypto", REFUSE, "a crypto device of this host"),
    Rule("devices/rng/backend[@model='random']", ".", "entropy", KEEP, matching="/dev/u?random"),
    Rule("devices/rng/backend[@model='random']", ".", "entropy", REFUSE, "an entropy device of this host"),
    Rule("devices/rng/backend[@model='egd']", "", "entropy", REFUSE, "an entropy daemon of this host"),
    Rule("devices/smartcard[@mode='host']", "", "hostdev", REFUSE, "a smart card of this host"),
    Rule("devices/smartcard[@mode='host-certificates']", "", "hostdev", REFUSE, "certificates of this host"),
    Rule("devices/*/rom", "@file", "rom_file", REFUSE, NOT_CARRIED),
    # character devices: serial, parallel, console, channel, redirdev, smartcard
    Rule("devices/*", "@tty", "pty", KEEP),
    *(Rule(f"devices/*[@type='{kind}']/source", "", "character_device", KEEP) for kind in INSIDE_QEMU),
    Rule("devices/*/log", "@file", "log_file", CARRY, LOG_TRAVELS),
    Rule("devices/*[@type='pty']/source", "@path", "pty", KEEP),
    Rule("devices/*[@type='unix']/source[@mode='bind']", "@path", "socket", KEEP, matching=LIBVIRT_SOCKET),
    Rule("devices/*[@type='unix']/source", "@path", "socket", REFUSE, "a socket of this host"),
    Rule("devices/*[@type='file']/source", "@path", "log_file", CARRY, LOG_TRAVELS),
    Rule("devices/*[@type='dev']/source", "@path", "hostdev", REFUSE, "a device of this host is passed through"),
    Rule("devices/*[@type='pipe']/source", "@path", "socket", REFUSE, "a pipe of this host"),
    Rule("devices/*[@type='nmdm']/source", "", "socket", REFUSE, "a device of this host"),
    Rule("devices/*[@type='tcp']/source", "", "host_address", REFUSE, "an address of this host"),
    Rule("devices/*[@type='udp']/source", "", "host_address", REFUSE, "an address of this host"),
)

KNOWN_DEVICES = (
    "emulator",
    "disk",
    "interface",
    "controller",
    "serial",
    "parallel",
    "console",
    "channel",
    "graphics",
    "video",
    "sound",
    "audio",
    "input",
    "hub",
    "watchdog",
    "memballoon",
    "rng",
    "hostdev",
    "redirdev",
    "redirfilter",
    "smartcard",
    "tpm",
    "filesystem",
    "shmem",
    "memory",
    "panic",
    "vsock",
    "iommu",
    "crypto",
    "lease",
    "nvram",
    "pstore",
)
"""Device elements of libvirt that the table was written for; any other one is kept only where it refers to nothing."""

REFERRING_ATTRIBUTES = (
    "file",
    "dev",
    "path",
    "socket",
    "bridge",
    "network",
    "pool",
    "volume",
    "evdev",
    "rendernode",
    "dir",
    "uuid",
)
"""Attributes by which an unknown device is taken to refer to the host."""

CARRIED_OPTIONS = ("-cpu", "-device", "-fw_cfg", "-global", "-set", "-smbios")
"""Options of QEMU that may be passed through, as far as what they are given names nothing outside; any other one may."""

CARRIED_DEVICES = ("amd-iommu", "intel-iommu", "isa-applesmc", "pvpanic", "pvpanic-pci", "usb-kbd", "usb-mouse", "usb-tablet", "virtio-iommu-pci", "vmgenid")

CARRIED_VARIABLES = ("LANG", "LC_ALL", "QEMU_AUDIO_DRV")

REFERRING_PROPERTY = re.compile(r"(?:^|[,.])(?:[a-z]*file|path|dir|drive|host|hostbus|hostaddr|hostport|[a-z]*dev|[a-z]*fd|wwpn|addr|script)=", re.IGNORECASE)
"""A property by which a device or an option of QEMU refers to something of the host."""

FREE_TEXT = ("name", "title", "description", "metadata", "os/cmdline")
"""Elements whose content is the user's own and refers to nothing."""
