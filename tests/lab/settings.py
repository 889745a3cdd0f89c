# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a lab is made of: its directories and names, and the description of its hosts."""

from __future__ import annotations

import ipaddress
import json
import os
import uuid
from dataclasses import asdict, dataclass, field
from pathlib import Path

from .errors import LabError

FLEET_FILE = Path(__file__).parent / "fleet.json"
DEFAULT_DIRECTORY = "/var/lib/kvmfleet-lab"
DEFAULT_CACHE = "/var/cache/kvmfleet-lab"
STATE_FILE = "state.json"
STATE_FILE_UNFINISHED = "state.json.new"
LONGEST_PREFIX = 8
FIRST_HOST_NUMBER = 11


@dataclass(frozen=True)
class HostDescription:
    """One host of the fleet file."""

    name: str
    number: int
    zone: str
    memory_mb: int


@dataclass(frozen=True)
class Lab:
    """A lab that exists; `id` marks every process of it, `image` is the file that its base images are copies of.

    `roots` names the hosts that do not share the machine's root, and the directory of each one's own.
    """

    id: str
    directory: Path
    prefix: str
    subnet: ipaddress.IPv4Network
    host_names: tuple[str, ...]
    image: str = ""
    kvm: bool = False
    roots: dict[str, str] = field(default_factory=dict)

    @property
    def bridge(self) -> str:
        """Name of the lab's bridge on the machine."""
        return f"{self.prefix}-br0"

    @property
    def controller_address(self) -> str:
        """The machine's own address on the bridge."""
        return str(self.subnet.network_address + 1)

    @property
    def ssh_directory(self) -> Path:
        """Directory of the lab's key and known hosts."""
        return self.directory / "ssh"

    @property
    def hosts(self) -> list[HostDescription]:
        """The lab's hosts."""
        return [host for host in fleet_hosts() if host.name in self.host_names]

    def address(self, host: HostDescription) -> str:
        """Address of a host."""
        return str(self.subnet.network_address + FIRST_HOST_NUMBER + host.number)

    def root(self, name: str) -> Path:
        """Root of a host's programs: the machine's own, or that of another generation."""
        return Path(self.roots.get(name, "/"))

    def host_directory(self, name: str) -> Path:
        """Directory of a host's private files."""
        return self.directory / "hosts" / name


def lab_directory() -> Path:
    """Directory of the lab that this process works on."""
    directory = Path(os.environ.get("KVMFLEET_LAB_DIR") or DEFAULT_DIRECTORY)
    if not directory.is_absolute() or directory == Path("/"):
        raise LabError(f"KVMFLEET_LAB_DIR must be an absolute path below /: {directory}")
    return directory


def cache_directory() -> Path:
    """Directory of built images, which survives the lab."""
    return Path(os.environ.get("KVMFLEET_LAB_CACHE") or DEFAULT_CACHE)


def fleet_hosts() -> list[HostDescription]:
    """All hosts that a lab can have."""
    return [HostDescription(name, number, **fields) for number, (name, fields) in enumerate(_fleet()["hosts"].items())]


def fleet_flavors() -> dict[str, dict[str, int]]:
    """The flavors of the fleet."""
    return _fleet()["flavors"]


def default_host_count() -> int:
    """How many hosts a lab has unless told otherwise."""
    return _fleet()["default_hosts"]


def load_lab() -> Lab | None:
    """Return the lab in the configured directory, if there is one."""
    try:
        state = json.loads((lab_directory() / STATE_FILE).read_text())
    except FileNotFoundError:
        return None
    restored = {"directory": lab_directory(), "subnet": ipaddress.IPv4Network(state["subnet"]), "host_names": tuple(state["host_names"])}
    return Lab(**{**state, **restored})


def new_lab(host_count: int) -> Lab:
    """Describe a lab after the environment."""
    prefix = os.environ.get("KVMFLEET_LAB_PREFIX") or "kfl"
    if not prefix.isalnum() or len(prefix) > LONGEST_PREFIX:
        raise LabError(f"KVMFLEET_LAB_PREFIX must be 1 to {LONGEST_PREFIX} letters and digits: {prefix}")
    try:
        subnet = ipaddress.IPv4Network(os.environ.get("KVMFLEET_LAB_SUBNET") or "10.213.77.0/24")
    except ValueError as error:
        raise LabError(f"KVMFLEET_LAB_SUBNET: {error}") from error
    if subnet.prefixlen > 27:
        raise LabError(f"KVMFLEET_LAB_SUBNET must have room for 20 addresses: {subnet}")
    return Lab(uuid.uuid4().hex, lab_directory(), prefix, subnet, first_hosts(host_count))


def first_hosts(count: int) -> tuple[str, ...]:
    """Names of the first `count` hosts of the fleet file."""
    names = tuple(host.name for host in fleet_hosts())
    if not 1 <= count <= len(names):
        raise LabError(f"--hosts must be from 1 to {len(names)}: {count}")
    return names[:count]


def save_lab(lab: Lab) -> None:
    """Write the lab's state file."""
    state = {key: value for key, value in asdict(lab).items() if key != "directory"}
    unfinished = lab.directory / STATE_FILE_UNFINISHED
    unfinished.write_text(json.dumps({**state, "subnet": str(lab.subnet)}, indent=2) + "\n")
    unfinished.rename(lab.directory / STATE_FILE)


def _fleet() -> dict:
    return json.loads(FLEET_FILE.read_text())
