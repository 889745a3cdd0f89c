# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Real libvirt without guests (QEMU's embedded driver) and real small images."""

from __future__ import annotations

import re
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import libvirt
import pytest

DOMAINS = Path(__file__).parent.parent / "fixtures" / "domains"
CAPABILITIES = tempfile.TemporaryDirectory(prefix="kvmfleet-unit-")  # what QEMU can do, found out once although ansible-test forks for each test


@pytest.fixture(scope="session")
def definitions() -> dict[str, str]:
    """Domain definitions as tools write them, by name of the file; accelerated by nothing, so that they can be defined anywhere."""
    return {path.stem: re.sub(r"""type=(['"])kvm\1""", r"type=\1qemu\1", path.read_text()) for path in sorted(DOMAINS.glob("*.xml"))}


@pytest.fixture(scope="session")
def _event_loop() -> None:
    def turn() -> None:
        while True:
            libvirt.virEventRunDefaultImpl()

    libvirt.virEventRegisterDefaultImpl()
    threading.Thread(target=turn, daemon=True).start()


@pytest.fixture(scope="session")
def _embedded(_event_loop: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    libvirt.registerErrorHandler(lambda context, error: None, None)
    root = tmp_path_factory.mktemp("libvirt")
    (root / "cache").symlink_to(CAPABILITIES.name)
    # QEMU is asked for its capabilities anew at each definition where its user may not open a /dev/kvm that whoever asks may: minutes a test.
    (root / "etc").mkdir()
    (root / "etc/qemu.conf").write_text('user = "root"\ngroup = "root"\nstdio_handler = "file"\nsecurity_driver = "none"\n')
    secrets = libvirt.open(f"secret:///embed?root={root}")  # a driver of its own, that of QEMU then uses it; it dies when one is undefined
    connection = libvirt.open(f"qemu:///embed?root={root}")
    yield connection
    connection.close()
    secrets.close()


@pytest.fixture
def qemu(_embedded: Any) -> Iterator[Any]:
    """A connection to libvirt's QEMU driver that has no domains."""
    yield _embedded
    for domain in _embedded.listAllDomains():
        if domain.isActive():
            domain.destroy()
        known = libvirt.VIR_DOMAIN_UNDEFINE_SNAPSHOTS_METADATA | libvirt.VIR_DOMAIN_UNDEFINE_CHECKPOINTS_METADATA
        domain.undefineFlags(libvirt.VIR_DOMAIN_UNDEFINE_NVRAM | known)


@pytest.fixture
def guest(qemu: Any) -> Callable[..., Any]:
    """Define a small guest, which may run too: it has no system, and QEMU opens its disks all the same."""

    def make(name: str, disks: dict[str, Any], *, running: bool = False, os: str = "", uuid: str | None = None) -> Any:
        elements = "".join(
            f"<disk type='file' device='disk'><driver name='qemu' type='qcow2'/><source file='{path}'/><target dev='{target}' bus='virtio'/></disk>"
            for target, path in disks.items()
        )
        domain = qemu.defineXML(
            f"<domain type='qemu'><name>{name}</name>{f'<uuid>{uuid}</uuid>' if uuid else ''}<memory unit='MiB'>32</memory>"
            f"<os><type arch='x86_64' machine='q35'>hvm</type>{os}</os><features><acpi/></features><devices>{elements}</devices></domain>"
        )
        if running:
            domain.create()
        return domain

    return make


@pytest.fixture
def state(tmp_path: Path) -> Any:
    from ansible_collections.kvmfleet.compute.plugins.module_utils._journal.state_dir import StateDir

    return StateDir(str(tmp_path / "state"))


@pytest.fixture
def images(tmp_path: Path) -> Path:
    directory = tmp_path / "images"
    directory.mkdir()
    return directory


@pytest.fixture
def qemu_img(images: Path) -> Callable[[str], str]:
    """Run qemu-img with the words of a line, in the directory of images."""

    def run(line: str) -> str:
        return subprocess.run(["qemu-img", *line.split()], cwd=images, check=True, capture_output=True, text=True).stdout

    return run


@pytest.fixture
def luks(images: Path) -> Callable[[str, bytes], None]:
    """Create an image that is encrypted with the key: the words of a line for `qemu-img create`, the secret's name in them is `s`."""

    def create(line: str, key: bytes) -> None:
        (images / "key").write_bytes(key)
        command = ["qemu-img", "create", "-q", "--object", f"secret,id=s,file={images}/key", *line.split()]
        # To choose a number of iterations, QEMU measures how fast it is, and fails if the clock of the CPU's use did not get on meanwhile.
        for _attempt in range(50):
            made = subprocess.run(command, cwd=images, check=False, capture_output=True, text=True)
            if "CPU usage" not in made.stderr:
                break
        assert made.returncode == 0, made.stderr
        (images / "key").unlink()

    return create
