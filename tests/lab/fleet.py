# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lab as a whole: up, down, status."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from . import inventory, network, packages, ssh
from .errors import LabError
from .generation import ensure_root
from .host import Host
from .image import ensure_image, remove_unfinished
from .kvm import kvm_works
from .locking import exclusive
from .processes import LAB_MARK, kill_all, kill_stragglers
from .settings import (
    STATE_FILE,
    STATE_FILE_UNFINISHED,
    Lab,
    cache_directory,
    default_host_count,
    first_hosts,
    lab_directory,
    load_lab,
    new_lab,
    save_lab,
)
from .shell import run

INVENTORY_FILE = "inventory.yml"
STATUS_COMMAND = "sudo -n virsh -c qemu:///system version --daemon && sudo -n virsh -c qemu:///system list --all --name"
Result = TypeVar("Result")


@dataclass(frozen=True)
class HostStatus:
    """What a host answers over ssh."""

    host: Host
    alive: bool
    reachable: bool
    libvirt: str
    guests: list[str]

    @property
    def up(self) -> bool:
        """Whether all of it is there."""
        return self.alive and self.reachable and bool(self.libvirt)


def existing_lab() -> Lab:
    """Return the lab, which must exist."""
    lab = load_lab()
    if lab is None:
        raise LabError(f"there is no lab in {lab_directory()}: run `script/lab up`")
    return lab


@contextmanager
def exclusive_lab() -> Iterator[Lab]:
    """Hold the lab, which must exist, also after the wait for another user, who may have removed it."""
    existing_lab()
    directory = lab_directory()
    with exclusive(directory):
        lab = load_lab()
        if lab is None:
            directory.rmdir()
        yield existing_lab()


def host_named(lab: Lab, name: str) -> Host:
    """Return a host of the lab."""
    for description in lab.hosts:
        if description.name == name:
            return Host(lab, description)
    raise LabError(f"unknown host {name}: the lab has {', '.join(lab.host_names)}")


def all_hosts(lab: Lab) -> list[Host]:
    """Return every host of the lab."""
    return [Host(lab, description) for description in lab.hosts]


def up(host_count: int | None = None) -> Lab:
    """Make the lab, or complete and repair the one that exists."""
    with exclusive(lab_directory()):
        packages.ensure_installed()
        lab = _open_lab(host_count)
        kill_stragglers(lab.id)
        os.environ[LAB_MARK] = lab.id
        cache = cache_directory()
        if not Path(lab.image).is_file():
            lab = replace(lab, image=str(ensure_image(cache)))
        lab = replace(lab, kvm=kvm_works(Path(lab.image), cache))
        save_lab(lab)
        ssh.ensure_key(lab)
        network.ensure_bridge(lab)
        in_parallel(lambda host: host.start(), all_hosts(lab))
        ssh.write_known_hosts(lab)
        inventory.write(lab, lab.directory / INVENTORY_FILE)
    return lab


def renew_host(name: str, generation: str | None) -> None:
    """Make a host anew, without guests, of another generation of Debian or (None) of the machine's own."""
    with exclusive_lab() as lab:
        host = host_named(lab, name)
        os.environ[LAB_MARK] = lab.id
        roots = {other: root for other, root in lab.roots.items() if other != name}
        if generation:
            roots[name] = str(ensure_root(generation, cache_directory()))
        host.kill()
        # What is left of a connection to the old host would be taken for one to the new.
        ssh.close_connections(lab)
        run(["rm", "--recursive", "--force", "--one-file-system", str(host.files)])
        lab = replace(lab, roots=roots)
        save_lab(lab)
        host_named(lab, name).start()
        ssh.write_known_hosts(lab)


def down(purge: bool = False) -> None:
    """Remove the lab, whatever state it is in."""
    directory, cache = lab_directory(), cache_directory()
    if directory.exists():
        with exclusive(directory):
            lab = load_lab()
            if lab is not None:
                kill_all(lab.id)
                ssh.close_connections(lab)
                network.remove_bridge(lab)
            _remove_directory(lab is not None)
    packages.remove_leftovers()
    remove_unfinished(cache)
    if purge:
        shutil.rmtree(cache, ignore_errors=True)


def status(lab: Lab) -> list[HostStatus]:
    """Ask every host."""
    return in_parallel(_host_status, all_hosts(lab))


def in_parallel(function: Callable[[Host], Result], hosts: Iterable[Host]) -> list[Result]:
    """Call a function for several hosts at once."""
    with ThreadPoolExecutor(max_workers=4) as pool:
        return list(pool.map(function, hosts))


def _open_lab(host_count: int | None) -> Lab:
    lab = load_lab()
    if lab is None:
        strangers = {path.name for path in lab_directory().iterdir()} - {STATE_FILE_UNFINISHED}
        if strangers:
            raise LabError(f"{lab_directory()} is not empty and holds no lab")
        lab = new_lab(host_count or default_host_count())
        network.refuse_conflicts(lab)
    elif host_count:
        names = first_hosts(host_count)
        if len(names) < len(lab.host_names):
            raise LabError(f"the lab has {len(lab.host_names)} hosts already: run `script/lab down` for a smaller one")
        lab = replace(lab, host_names=names)
    save_lab(lab)
    return lab


def _remove_directory(is_lab: bool) -> None:
    """Empty the lab's directory, the state file last: it is what allows to remove the rest."""
    directory = lab_directory()
    for path in directory.iterdir():
        if path.name in (STATE_FILE, STATE_FILE_UNFINISHED):
            continue
        if not is_lab:
            raise LabError(f"{directory} is not empty and holds no lab: nothing removed")
        run(["rm", "--recursive", "--force", "--one-file-system", str(path)])
    for name in (STATE_FILE_UNFINISHED, STATE_FILE):
        (directory / name).unlink(missing_ok=True)
    directory.rmdir()


def _host_status(host: Host) -> HostStatus:
    alive = host.pid is not None
    answer = run(ssh.command(host.lab, host.description, STATUS_COMMAND), check=False) if alive else None
    lines = answer.stdout.split("\n") if answer else []
    versions = [line.rsplit(" ", 1)[1] for line in lines if line.startswith("Running against daemon")]
    guests = [line for line in lines[lines.index("") + 1 :] if line] if versions else []
    unreachable = answer is None or answer.returncode == 255
    return HostStatus(host, alive, not unreachable, versions[0] if versions else "", guests)
