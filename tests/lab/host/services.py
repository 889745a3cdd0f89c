# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The services of a host."""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import LabError


@dataclass(frozen=True)
class Service:
    """How to start a daemon inside a host and where it leaves its process id."""

    command: tuple[str, ...]
    pid_file: str


SERVICES = {
    "sshd": Service(("/usr/sbin/sshd",), "/run/sshd.pid"),
    "virtlogd": Service(("/usr/sbin/virtlogd", "--daemon"), "/run/virtlogd.pid"),
    "libvirtd": Service(("/usr/sbin/libvirtd", "--daemon"), "/run/libvirtd.pid"),
}


def start_script(name: str) -> str:
    """Shell code that starts a service unless it runs."""
    service = _service(name)
    return f"{_running(service)} || {' '.join(service.command)}"


def stop_script(name: str) -> str:
    """Shell code that stops a service and waits for its end."""
    service = _service(name)
    return f'if {_running(service)}; then kill "$pid"; for _ in $(seq 100); do [ -e "/proc/$pid" ] || exit 0; sleep 0.1; done; exit 1; fi'


def died_script(name: str) -> str:
    """Shell code that says something if a service is gone without having been told to stop: it left its process id."""
    service = _service(name)
    return f"[ ! -e {service.pid_file} ] || {_running(service)} || echo died"


def _running(service: Service) -> str:
    return f'{{ pid=$(cat {service.pid_file} 2>/dev/null) && [ "$(readlink "/proc/$pid/exe")" = "$(readlink -f {service.command[0]})" ]; }}'


def _service(name: str) -> Service:
    if name not in SERVICES:
        raise LabError(f"unknown service {name}: choose from {', '.join(SERVICES)}")
    return SERVICES[name]
