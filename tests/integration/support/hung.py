# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hosts of which a part does not answer any more, while all the rest of them does."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from .faults import write_files
from .lab import Host

LIBVIRTD = "$(ps -eo pid=,comm= | awk '$2 == \"libvirtd\" { print $1 }')"
STOP_LIBVIRTD = f"kill -STOP {LIBVIRTD}"

# A file system whose server takes every request and answers none: who waits for it cannot even be killed, as with NFS that is mounted hard.
_FILE_SERVER = """
import ctypes, os, struct, sys
os.makedirs(sys.argv[1], exist_ok=True)
device = os.open("/dev/fuse", os.O_RDWR)
options = f"fd={device},rootmode=40000,user_id=0,group_id=0,allow_other"
if ctypes.CDLL(None).mount(b"hung", sys.argv[1].encode(), b"fuse", 0, options.encode()):
    sys.exit("no mount")
request = os.read(device, 1 << 20)
hello = struct.pack("<IIIIHHIIHHI28x", 7, 31, 65536, 0, 12, 9, 65536, 1, 0, 0, 0)
os.write(device, struct.pack("<IiQ", 16 + len(hello), 0, struct.unpack_from("<IIQ", request)[2]) + hello)
while True:
    os.read(device, 1 << 20)
"""


@contextlib.contextmanager
def hung_libvirtd(host: Host) -> Iterator[None]:
    """It is stopped: it takes connections and requests, says nothing, and goes on afterwards with all that it was asked."""
    host.sh(STOP_LIBVIRTD)
    try:
        yield
    finally:
        go_on(host)


def go_on(host: Host) -> None:
    """End what `STOP_LIBVIRTD` began."""
    host.sh(f"kill -CONT {LIBVIRTD}")


@contextlib.contextmanager
def hung_file_server(host: Host, directory: str) -> Iterator[None]:
    """A directory of the host behind which nobody answers."""
    write_files(host, {"/tmp/file_server.py": _FILE_SERVER})
    server = host.sh(f"setsid python3 /tmp/file_server.py {directory} </dev/null >/dev/null 2>&1 & echo $!")
    host.sh("for i in $(seq 100); do grep -q '^hung ' /proc/mounts && exit; sleep 0.1; done; exit 1")
    try:
        yield
    finally:
        host.sh(f"kill -KILL {server}; umount --lazy {directory}")


@contextlib.contextmanager
def hung_sshd(host: Host) -> Iterator[None]:
    """All of its processes are stopped, those of connections that are open as well."""
    processes = "$(ps -eo pid=,comm= | awk '$2 ~ /^sshd/ { print $1 }')"
    host.sh(f"kill -STOP {processes}")
    try:
        yield
    finally:
        host.sh(f"kill -CONT {processes}")
