# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Growing the filesystem of a guest that only its agent knows, and everything that a guest may answer instead."""

from __future__ import annotations

import base64
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from ansible_collections.kvmfleet.compute.plugins.module_utils._guest import agent as _agent, filesystem as _filesystem, growth as _growth
from ansible_collections.kvmfleet.compute.plugins.module_utils._guest.agent import GuestAgent
from ansible_collections.kvmfleet.compute.plugins.module_utils._libvirt import connection as _connection, guest_agent as _guest_agent
from ansible_collections.kvmfleet.compute.plugins.module_utils._rules.errors import KvmfleetError, shown
from ansible_collections.kvmfleet.compute.plugins.modules import guest_filesystem

MIB = 1024**2
SECTOR = 512
UNPARTITIONED = 0
PCI = {"domain": 0, "bus": 4, "slot": 0, "function": 0}
DEFINITION = """
<domain type='qemu'><name>web</name><devices>
  <disk type='file' device='cdrom'><target dev='sda' bus='sata'/><address type='drive' controller='0' bus='0' target='0' unit='0'/></disk>
  <disk type='file' device='disk'><target dev='vda' bus='virtio'/>
    <address type='pci' domain='0x0000' bus='0x04' slot='0x00' function='0x0'/></disk>
  <disk type='file' device='disk'><target dev='sdb' bus='scsi'/><address type='drive' controller='0' bus='0' target='0' unit='1'/></disk>
  <disk type='file' device='disk'><target dev='hda' bus='ide'/><address type='ccw' cssid='0xfe' ssid='0x0' devno='0x0001'/></disk>
  <controller type='sata' index='0'><address type='pci' domain='0x0000' bus='0x00' slot='0x1f' function='0x2'/></controller>
  <controller type='scsi' index='0'><address type='pci' domain='0x0000' bus='0x05' slot='0x00' function='0x0'/></controller>
</devices></domain>
"""
DOMAIN = SimpleNamespace(name=lambda: "web", state=lambda: [1, 0], XMLDesc=lambda flags: DEFINITION)


class Guest:
    """A guest with a disk of 3 GiB, as its agent shows it; sizes in MiB."""

    def __init__(self, **what: Any) -> None:
        self.enabled = {"guest-info", "guest-get-osinfo", "guest-get-fsinfo", "guest-exec", "guest-exec-status"}
        self.system = "debian"
        self.answers: dict[str, Any] = {}
        self.programs = {"/usr/bin/growpart", "/usr/bin/stat", "/usr/sbin/resize2fs", "/usr/sbin/xfs_growfs", "/usr/bin/btrfs"}
        self.failing: dict[str, tuple[int, str]] = {}
        self.cloud_init: list[str] = []
        self.disk, self.partitions = 3072, {1: (1, 47), 2: (48, 464)}
        self.number, self.type, self.mountpoint, self.device, self.size = 2, "ext4", "/", "vda2", 440
        self.dm = ""
        self.others: list[dict[str, Any]] = [
            self.mounted("/boot/efi", "vfat", "vda1", "/dev/vda1"),
            {"name": "vdb1", "mountpoint": "/srv", "type": "zfs", "disk": []},
        ]
        self.argv: list[list[str]] = []
        self.ended: dict[str, Any] = {}
        for name, value in what.items():
            assert hasattr(self, name)
            setattr(self, name, value)

    @staticmethod
    def mounted(mountpoint: str, kind: str, device: str, node: str | None, pci: dict[str, int] | None = None, unit: int = 0) -> dict[str, Any]:
        disk = {"bus-type": "virtio", "bus": 0, "target": 0, "unit": unit, "pci-controller": pci or PCI, **({"dev": node} if node else {})}
        return {"name": device, "mountpoint": mountpoint, "type": kind, "disk": [disk]}

    def answer(self, domain: Any, command: dict[str, Any], timeout: int) -> dict[str, Any] | None:
        assert 1 <= timeout <= 30
        name, arguments = command["execute"], command.get("arguments", {})
        if name not in self.enabled:
            raise KvmfleetError("agent_command_failed", f"{name} is disabled")
        if name in self.answers:
            return self.answers[name]
        if name == "guest-info":
            listed = {"guest-exec", *self.enabled}
            return {"return": {"supported_commands": [{"name": known, "enabled": known in self.enabled, "success-response": True} for known in listed]}}
        if name == "guest-get-osinfo":
            return {"return": {"id": self.system}}
        if name == "guest-get-fsinfo":
            node = f"/dev/vda{self.number or ''}"
            return {"return": [*self.others, self.mounted(self.mountpoint, self.type, self.device, node)]}
        if name == "guest-exec":
            assert arguments["path"].startswith("/")
            assert arguments["env"] == ["PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C"]
            return self.start([arguments["path"], *arguments["arg"]])
        return {"return": {"exited": True, **self.ended}}

    def start(self, argv: list[str]) -> dict[str, Any]:
        self.argv.append(argv)
        program = argv[0].rpartition("/")[2]
        status, text = self.failing.get(program) or getattr(self, "run_" + program.replace("-", "_"))(*argv[1:])
        self.ended = {"exitcode": status, "out-data" if status < 2 else "err-data": base64.b64encode(text.encode()).decode()}
        return {"return": {"pid": 4711}}

    def run_ls(self, option: str, *paths: str) -> tuple[int, str]:
        assert option == "-d"
        there = self.programs | ({"/usr/bin/cloud-init"} if self.cloud_init else set())
        return 2 if set(paths) - there and not set(paths) & there else 1, "".join(f"{path}\n" for path in sorted(paths) if path in there)

    def run_cat(self, *paths: str) -> tuple[int, str]:
        return 0, "".join(f"{self.file(path)}\n" for path in paths)

    def file(self, path: str) -> int | str:
        if re.fullmatch(r"/sys/class/block/dm-\d+/dm/uuid", path):
            return self.dm
        number, what = re.fullmatch(r"/sys/class/block/vda(\d*)/(start|size)", path).groups()
        place = self.partitions[int(number)] if number else (None, self.disk)
        return place[what == "size"] * MIB // SECTOR

    def run_stat(self, *arguments: str) -> tuple[int, str]:
        assert arguments in [("-f", "-c", "%b %S", mountpoint) for mountpoint in (self.mountpoint, "/")]
        return 0, f"{self.size * 256} 4096\n"

    def run_cloud_init(self, verb: str) -> tuple[int, str]:
        assert verb == "status"
        return 0, f"\nstatus: {self.cloud_init.pop(0) if len(self.cloud_init) > 1 else self.cloud_init[0]}\n"

    def run_growpart(self, *arguments: str) -> tuple[int, str]:
        *options, disk, number = arguments
        assert disk == "/dev/vda"
        start, size = self.partitions[int(number)]
        end = min([self.disk, *(begin for begin, length in self.partitions.values() if begin > start)])
        if end - start - size <= 1:
            return 1, f"NOCHANGE: partition {number} is size {size}. it cannot be grown\n"
        if not options:
            self.partitions[int(number)] = (start, end - start)
        return 0, "CHANGED: partition\n"

    def fill(self, device: str) -> tuple[int, str]:
        assert device in (f"/dev/vda{self.number or ''}", self.mountpoint, "/")
        self.size = max(self.size, int((self.partitions[self.number][1] if self.number else self.disk) * 0.95))
        return 0, ""

    run_resize2fs = run_xfs_growfs = fill

    def run_btrfs(self, *arguments: str) -> tuple[int, str]:
        assert arguments[:3] == ("filesystem", "resize", "max")
        return self.fill(arguments[3])


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Time that is waited for passes at once."""
    clock = [0.0]
    monkeypatch.setattr(_growth.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(_growth.time, "sleep", lambda seconds: clock.__setitem__(0, clock[0] + seconds))
    return clock


def grown(guest: Guest, dry_run: bool = False, target: str | None = "vda", timeout: float = 60, **domain: Any) -> dict[str, Any]:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(_guest_agent, "agent_command", guest.answer)
        return _growth.grow(SimpleNamespace(**{**vars(DOMAIN), **domain}), target, timeout=timeout, dry_run=dry_run)


@pytest.mark.parametrize(
    ("kind", "argv"),
    [
        ("ext2", ["/usr/sbin/resize2fs", "/dev/vda2"]),
        ("ext4", ["/usr/sbin/resize2fs", "/dev/vda2"]),
        ("xfs", ["/usr/sbin/xfs_growfs", "/"]),
        ("btrfs", ["/usr/bin/btrfs", "filesystem", "resize", "max", "/"]),
    ],
)
def test_partition_and_filesystem_grow_and_the_second_time_there_is_nothing_to_do(kind: str, argv: list[str]) -> None:
    guest = Guest(type=kind)
    found = grown(guest)
    assert (found["answer"], found["changed"], found["code"]) == ("grown", True, None)
    assert (found["mountpoint"], found["type"], found["device"], found["programs"]) == ("/", kind, "/dev/vda2", ["/usr/bin/growpart", argv[0]])
    assert found["before"] == {"disk_bytes": 3072 * MIB, "partition_offset": 48 * MIB, "partition_bytes": 464 * MIB, "filesystem_bytes": 440 * MIB}
    assert found["after"] == {**found["before"], "partition_bytes": 3024 * MIB, "filesystem_bytes": 2872 * MIB}
    assert found["reason"].startswith(f"/dev/vda2 ({kind} on /) was grown from 440 to 2872 MiB in the disk of 3072 MiB, by /usr/bin/growpart and ")
    assert [run for run in guest.argv if run[0] in found["programs"]] == [["/usr/bin/growpart", "/dev/vda", "2"], argv]

    again = grown(guest)
    assert (again["answer"], again["changed"], again["before"]) == ("already_grown", False, again["after"])
    assert again["reason"] == f"/dev/vda2 ({kind} on /) fills the disk of 3072 MiB already."


def test_check_mode_tells_what_would_be_done_and_changes_nothing() -> None:
    guest = Guest()
    for size, partition, answer in ((440, 464, "would_grow"), (440, 3024, "would_grow"), (2872, 3024, "already_grown")):
        guest.size, guest.partitions[2], guest.argv = size, (48, partition), []
        found = grown(guest, dry_run=True)
        assert (found["answer"], found["changed"], found["after"]) == (answer, answer == "would_grow", None)
        assert "by /usr/bin/growpart and /usr/sbin/resize2fs" in found["reason"]
        assert (guest.size, guest.partitions[2]) == (size, (48, partition))
        assert [run[0].rpartition("/")[2] for run in guest.argv] == ["cat", "ls", "cat", "stat", "growpart"]
        assert guest.argv[-1] == ["/usr/bin/growpart", "--dry-run", "/dev/vda", "2"]


def test_a_filesystem_on_the_whole_disk_needs_no_growpart() -> None:
    guest = Guest(number=UNPARTITIONED, device="vda", others=[], programs={"/bin/stat", "/sbin/resize2fs"})
    assert grown(guest, dry_run=True)["answer"] == "would_grow"
    found = grown(guest)
    assert (found["answer"], found["programs"], found["device"]) == ("grown", ["/sbin/resize2fs"], "/dev/vda")
    assert (found["after"]["partition_offset"], found["after"]["partition_bytes"]) == (0, 3072 * MIB)
    assert grown(guest)["answer"] == "already_grown"


def test_disks_are_found_by_where_they_are_plugged_in() -> None:
    scsi = {"domain": 0, "bus": 5, "slot": 0, "function": 0}
    guest = Guest(device="sdz", number=UNPARTITIONED, others=[Guest.mounted("/data", "f2fs", "sda1", "/dev/sda1", scsi, 1)])
    for target, mountpoint in (("vda", "/"), (None, "/"), ("sdb", "/data")):
        assert grown(guest, target=target)["mountpoint"] == mountpoint
    guest.others[0]["disk"][0]["unit"] = 0
    assert grown(guest, target="sdb")["code"] == "no_filesystem"
    assert grown(guest, target="hda")["code"] == "no_filesystem"


def test_of_several_mounts_of_a_filesystem_the_shortest_path_is_taken() -> None:
    paths = ("/home/a", "/", "/srv")
    found = grown(Guest(type="btrfs", mountpoint="/snapshots", others=[Guest.mounted(path, "btrfs", "vda2", "/dev/vda2") for path in paths]))
    assert found["mountpoint"] == "/"


@pytest.mark.parametrize("node", ["vda2 3", "vda2/../sda", "vda02", "nvme0n1p1", "loop0", "dm-0", "vdA2", "-vda2", "vda2\n", ""])
def test_a_device_of_another_name_is_not_touched(node: str) -> None:
    guest = Guest(others=[], answers={"guest-get-fsinfo": {"return": [Guest.mounted("/", "ext4", node, None)]}})
    assert grown(guest)["code"] == "unsupported_device"
    assert guest.argv == []


@pytest.mark.parametrize("mountpoint", ["C:\\", "", "-rf", "/a\nb", "/\ud800"])
def test_what_is_no_path_is_no_mountpoint(mountpoint: str) -> None:
    guest = Guest(mountpoint=mountpoint)
    assert grown(guest)["code"] == "invalid_agent_answer"
    assert guest.argv == []


@pytest.mark.parametrize("target", ["sda", "vdb", "../vda"])
def test_what_is_no_disk_is_an_error(target: str) -> None:
    with pytest.raises(KvmfleetError, match=f"'{re.escape(target)}' is none of its disks; web has vda, sdb, hda") as caught:
        grown(Guest(), target=target)
    assert caught.value.code == "unknown_disk"


def test_cloud_init_has_its_turn_first() -> None:
    guest = Guest(cloud_init=["running", "running", "done"])
    assert grown(guest)["answer"] == "grown"
    order = [run[0].rpartition("/")[2] for run in guest.argv]
    assert order[: order.index("growpart")] == ["cat", "ls", "cloud-init", "cloud-init", "cloud-init", "cat", "stat"]

    endless = grown(Guest(cloud_init=["running"]), timeout=9)
    assert (endless["code"], endless["changed"]) == ("guest_timeout", False)
    assert "/usr/bin/cloud-init was not done in guest web within 9 s" in endless["reason"]
    assert grown(Guest(cloud_init=["not started"]))["answer"] == "grown"


@pytest.mark.parametrize(
    ("what", "code", "words"),
    [
        ({"enabled": {"guest-info", "guest-get-fsinfo", "guest-get-osinfo"}}, "agent_command_disabled", "does not carry out guest-exec, guest-exec-status"),
        ({"answers": {"guest-info": None}}, "no_agent", "No guest agent answers guest-info in web"),
        ({"system": "mswindows"}, "unsupported_system", "Windows"),
        ({"others": [], "answers": {"guest-get-fsinfo": {"return": []}}}, "no_filesystem", "no mounted filesystem on vda"),
        ({"device": "dm-0", "dm": "LVM-x7-y"}, "lvm", "The filesystem on / lies on an LVM volume (dm-0) on /dev/vda2"),
        ({"device": "dm-1", "dm": "CRYPT-LUKS2-0-root"}, "encrypted", "an encrypted volume (dm-1)"),
        ({"device": "dm-1", "dm": "mpath-3"}, "unsupported_device", "a volume of the device mapper (dm-1)"),
        ({"device": "md0"}, "unsupported_device", "another device (md0)"),
        ({"type": "f2fs"}, "unsupported_filesystem", "/ is f2fs; ext2, ext3, ext4, xfs and btrfs"),
        ({"partitions": {1: (1, 47), 2: (48, 464), 3: (512, 64)}}, "no_room_behind", "goes on for 2560 MiB behind it"),
        ({"programs": {"/usr/bin/stat", "/usr/sbin/resize2fs"}}, "no_program", "no growpart (package cloud-guest-utils or cloud-utils-growpart)"),
        ({"programs": {"/usr/bin/stat", "/usr/bin/growpart"}}, "no_program", "no resize2fs (package e2fsprogs)"),
        ({"programs": {"/usr/local/bin/growpart", "/usr/bin/stat", "/sbin/resize2fs"}}, "no_program", "no growpart"),
        (
            {"failing": {"growpart": (2, "FAILED: Did not have sfdisk")}},
            "program_failed",
            "/usr/bin/growpart ended with status 2: FAILED: Did not have sfdisk.",
        ),
        ({"failing": {"stat": (1, "stat: /: nonsense")}}, "invalid_agent_answer", "The guest does not tell its sizes: stat: /: nonsense."),
    ],
)
def test_what_cannot_be_grown_is_left_alone_for_a_stated_reason(what: dict[str, Any], code: str, words: str) -> None:
    guest = Guest(**what)
    found = grown(guest)
    assert (found["answer"], found["code"], found["changed"]) == ("not_grown", code, False)
    assert words in found["reason"]
    assert (guest.size, guest.partitions[2]) == (440, (48, 464))


def test_a_guest_that_does_not_run_is_not_asked() -> None:
    guest = Guest()
    found = grown(guest, state=lambda: [3, 0])
    assert (found["code"], found["reason"]) == ("not_running", "web is paused; only a guest that runs can grow its filesystem.")
    assert guest.argv == []


def test_what_was_done_before_it_went_wrong_is_told() -> None:
    found = grown(Guest(failing={"resize2fs": (3, "resize2fs: Permission denied to resize filesystem\x1b[2J\n")}))
    assert (found["answer"], found["code"], found["changed"]) == ("not_grown", "program_failed", True)
    assert found["reason"] == "/usr/sbin/resize2fs ended with status 3: resize2fs: Permission denied to resize filesystem [2J."
    assert (found["after"]["partition_bytes"], found["after"]["filesystem_bytes"]) == (3024 * MIB, 440 * MIB)


def test_a_program_that_does_not_end_is_left_to_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    guest = Guest()
    answer = guest.answer

    def hangs(domain: Any, command: dict[str, Any], timeout: int) -> Any:
        waiting = command["execute"] == "guest-exec-status" and guest.argv[-1][0] == "/usr/bin/growpart"
        return {"return": {"exited": False}} if waiting else answer(domain, command, timeout)

    monkeypatch.setattr(guest, "answer", hangs)
    found = grown(guest, timeout=5)
    assert (found["answer"], found["code"], found["changed"], found["after"]) == ("not_grown", "guest_timeout", True, None)
    assert "/usr/bin/growpart was not done in guest web within 5 s; it may still run there." in found["reason"]


ANSWERS = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=9)
    | st.sampled_from(["/", "vda2", "dm-0", "ext4", "/dev/vda2", "MTI=", "--all", "\ud800"]),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["return", "name", "mountpoint", "type", "disk", "dev", "pid", "exited", "exitcode", "out-data", "pci-controller", "unit"]),
            inner,
            max_size=6,
        )
    ),
    max_leaves=12,
)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.dictionaries(
        st.sampled_from(["guest-info", "guest-get-osinfo", "guest-get-fsinfo", "guest-exec", "guest-exec-status"]),
        st.none() | ANSWERS.map(lambda value: {"return": value}),
        min_size=1,
        max_size=2,
    )
)
def test_whatever_a_guest_answers_there_is_a_result(no_waiting: list[float], answers: dict[str, Any]) -> None:
    no_waiting[0] = 0.0
    guest = Guest(answers=answers)
    found = grown(guest)
    assert found["answer"] in ("grown", "already_grown", "not_grown")
    assert (found["code"] is None) == (found["answer"] != "not_grown")
    assert found["reason"].isprintable()


@settings(max_examples=200, deadline=None)
@given(
    st.builds(
        Guest.mounted,
        *[st.text(max_size=12) | st.sampled_from(["/", "/a b;c", "-rf", "vda2", "dm-0", "dm-0/../..", "ext4", "xfs", "/dev/vda2", "/dev/vda2 3", "/dev/-x"])]
        * 4,
    )
)
def test_no_name_of_a_guest_becomes_anything_but_a_device_or_a_mountpoint(mounted: dict[str, Any]) -> None:
    guest = Guest(answers={"guest-get-fsinfo": {"return": [mounted]}}, mountpoint=mounted["mountpoint"], failing={"cat": (0, "9"), "stat": (0, "9 9")})
    grown(guest)
    for argv in guest.argv:
        for word in argv[1:]:
            known = word in ("-d", "-f", "-c", "%b %S", "filesystem", "resize", "max", mounted["mountpoint"]) or word.isdigit()
            assert known or re.fullmatch(
                r"/(usr/)?s?bin/[a-z0-9_-]+|/dev/[a-z]{3,6}\d{0,3}|/sys/class/block/(dm-\d{1,4}/dm/uuid|[a-z]{3,6}\d{0,3}/(start|size))", word
            )
        assert not any(word.startswith("-") for word in argv[1:] if word not in ("-d", "-f", "-c"))


def test_an_answer_beyond_all_bounds_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    many = [Guest.mounted("/", "ext4", "vda2", "/dev/vda2")] * 1025
    assert "expected at most 1024 of list, got 1025" in grown(Guest(answers={"guest-get-fsinfo": {"return": many}}))["reason"]
    long = [Guest.mounted("/" + "a" * 4096, "ext4", "vda2", "/dev/vda2")]
    assert "expected at most 4096 of str, got 4097" in grown(Guest(answers={"guest-get-fsinfo": {"return": long}}))["reason"]
    assert len(grown(Guest(failing={"growpart": (2, "x" * 10**6)}))["reason"]) < 300
    monkeypatch.setattr(_guest_agent, "agent_command", Guest(failing={"cat": (0, "x" * 10**6)}).answer)
    assert len(GuestAgent(DOMAIN, 9).run("/bin/cat").stdout) == 48 * 1024


@pytest.mark.parametrize("said", ["[" * 100000, "no JSON", "1" * 5000])
def test_what_cannot_be_read_is_no_answer(monkeypatch: pytest.MonkeyPatch, said: str) -> None:
    monkeypatch.setattr(_guest_agent, "libvirt_qemu", SimpleNamespace(qemuAgentCommand=lambda *arguments: said))
    assert _guest_agent.agent_command(DOMAIN, {"execute": "guest-info"}) is None


def test_text_of_a_guest_is_short_and_on_one_line() -> None:
    assert shown("a\nb\x1b[2J\t c\ud800") == "a b [2J c"
    assert shown("x" * 300) == "x" * 197 + "..."
    assert shown("\n" * 10**6) == ""


class TestModule:
    """The module on a domain that is defined and does not run."""

    @pytest.fixture
    def act(self, qemu: Any, definitions: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Any:
        qemu.defineXML(definitions["terraform"])
        monkeypatch.setattr(_connection, "connect", lambda uri: _Connected(qemu))

        def run(**options: Any) -> dict[str, Any]:
            return guest_filesystem.main(SimpleNamespace(params={"disk": None, "timeout": 9.0, "uri": "", **options}, check_mode=False))

        return run

    def test_it_answers_for_a_guest_that_is_off(self, act: Any, qemu: Any) -> None:
        (domain,) = qemu.listAllDomains()
        answer = act(name=domain.name())
        assert (answer["changed"], answer["filesystem"]["code"], answer["filesystem"]["disk"]) == (False, "not_running", "vda")

    @pytest.mark.parametrize(
        ("options", "code"),
        [({"name": "nobody"}, "unknown_domain"), ({"name": "x", "timeout": 0.0}, "invalid_value"), ({"name": "x", "timeout": float("nan")}, "invalid_value")],
    )
    def test_bad_input_is_named(self, act: Any, options: dict[str, Any], code: str) -> None:
        with pytest.raises(KvmfleetError) as caught:
            act(**options)
        assert caught.value.code == code
        assert caught.value.message.startswith("name" if code == "unknown_domain" else "timeout")


class _Connected:
    def __init__(self, connection: Any) -> None:
        self.connection = connection

    def __enter__(self) -> Any:
        return self.connection

    def __exit__(self, *_error: object) -> None:
        pass


def test_the_documentation_names_every_code() -> None:
    sources = [Path(module.__file__).read_text() for module in (_growth, _filesystem, _agent)]
    raised = set(re.findall(r'(?:KvmfleetError\(\s*|code, what = |"[A-Z]+": \()"([a-z_]+)"', "\n".join(sources)))
    assert {"not_running", "lvm", "encrypted", "guest_timeout"} <= raised
    assert [code for code in raised if f"V({code})" not in guest_filesystem.RETURN] == []
