# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The command line of the lab."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from . import bases, fleet, generation, guest, inventory
from .errors import LabError, LabFault
from .image import ensure_debian_image
from .settings import cache_directory

SELFTEST = Path(__file__).parent / "selftest"
FAULT = "lab: fault of the lab: "
"""How the message begins where the lab itself has failed."""


def main() -> int:
    """Run one command; the exit status tells its success."""
    arguments = _parser().parse_args()
    if os.geteuid():
        print("lab: must run as root", file=sys.stderr)
        return 1
    try:
        return arguments.function(arguments) or 0
    except LabFault as fault:
        print(f"{FAULT}{fault}", file=sys.stderr)
        return 1
    except (LabError, OSError) as error:
        print(f"lab: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="script/lab", description="Several libvirt hosts on this machine.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    up = _command(commands, "up", _up, "make the lab, or complete and repair it")
    up.add_argument("--hosts", type=int, help="how many hosts")
    down = _command(commands, "down", _down, "remove the lab")
    down.add_argument("--purge", action="store_true", help="remove the cache of built images and roots too")
    _command(commands, "status", _status, "show the hosts; fails unless all are up")
    listing = _command(commands, "inventory", _inventory, "print the Ansible inventory")
    listing.add_argument("--output", type=Path, help="write it to this file")
    execute = _command(commands, "exec", _exec, "run a command as root inside a host")
    execute.add_argument("host")
    execute.add_argument("argv", nargs=argparse.REMAINDER, metavar="-- COMMAND")
    _command(commands, "selftest", _selftest, "test the lab itself, in a lab of its own")
    _add_host_commands(commands)
    _add_base_commands(commands)
    _add_guest_commands(commands)
    return parser


def _add_host_commands(commands: argparse._SubParsersAction) -> None:
    host = commands.add_parser("host", help="let hosts and their services die and return").add_subparsers(required=True, metavar="COMMAND")
    for name, function in (("kill", _host_kill), ("start", _host_start)):
        _command(host, name, function, f"{name} a whole host").add_argument("host")
    renew = _command(host, "renew", _host_renew, "make a host anew, without its guests")
    renew.add_argument("host")
    renew.add_argument("--generation", choices=generation.KNOWN, help="release of Debian (default: the machine's own, whose programs the host shares)")
    for name, function in (("stop-service", _service_stop), ("start-service", _service_start)):
        command = _command(host, name, function, f"{name.split('-', maxsplit=1)[0]} a daemon of a host")
        command.add_argument("host")
        command.add_argument("service")


def _add_base_commands(commands: argparse._SubParsersAction) -> None:
    base = commands.add_parser("base", help="base images on hosts").add_subparsers(required=True, metavar="COMMAND")
    _command(base, "list", _base_list, "show which host holds which base")
    for name, function in (("put", _base_put), ("remove", _base_remove)):
        command = _command(base, name, function, f"{name} a base")
        command.add_argument("name")
        command.add_argument("--host", required=True)
        if function is _base_put:
            command.add_argument("--stamp", help="text that makes the content differ (default: the base's name)")
            command.add_argument("--debian", action="store_true", help="an image with systemd and cloud-init, which takes minutes to build once")


def _add_guest_commands(commands: argparse._SubParsersAction) -> None:
    guests = commands.add_parser("guest", help="guests").add_subparsers(required=True, metavar="COMMAND")
    create = _command(guests, "create", _guest_create, "define and start a guest")
    create.add_argument("name")
    create.add_argument("--flavor", required=True)
    create.add_argument("--host", required=True)
    create.add_argument("--no-start", action="store_true")
    create.add_argument("--base", default=bases.DEFAULT_NAME)
    create.add_argument("--mac")
    create.add_argument("--machine", default="q35", help="machine type, or an alias that the host's libvirt resolves")
    create.add_argument("--firmware", choices=("bios", "uefi"), default="bios")
    create.add_argument("--ignore-shutdown", action="store_true", help="the guest refuses to power off")
    create.add_argument("--disk-gb", type=int, help="disk size other than the flavor's")
    _command(guests, "list", _guest_list, "show guest, host and state")
    for name, function, text in (
        ("where", _guest_where, "show the hosts that define a guest"),
        ("wait", _guest_wait, "wait until a guest's agent answers"),
        ("delete", _guest_delete, "remove a guest and its disks"),
        ("exec", _guest_exec, "run a command inside a guest"),
    ):
        command = _command(guests, name, function, text)
        command.add_argument("name")
        if function in (_guest_wait, _guest_exec):
            command.add_argument("--host", help="where it runs, if in doubt")
            command.add_argument("--timeout", type=float, default=120)
        if function is _guest_exec:
            command.add_argument("argv", nargs=argparse.REMAINDER, metavar="-- COMMAND")


def _command(commands: argparse._SubParsersAction, name: str, function, text: str) -> argparse.ArgumentParser:
    parser = commands.add_parser(name, help=text, description=text)
    parser.set_defaults(function=function)
    return parser


def _up(arguments: argparse.Namespace) -> int:
    started = time.monotonic()
    lab = fleet.up(arguments.hosts)
    result = _print_status(lab)
    print(f"lab up in {time.monotonic() - started:.0f} s, guests run under {'KVM' if lab.kvm else 'TCG'}, inventory: {lab.directory / fleet.INVENTORY_FILE}")
    return result


def _down(arguments: argparse.Namespace) -> None:
    fleet.down(arguments.purge)


def _status(_arguments: argparse.Namespace) -> int:
    return _print_status(fleet.existing_lab())


def _print_status(lab: fleet.Lab) -> int:
    rows = [("HOST", "ZONE", "ADDRESS", "SSH", "LIBVIRT", "GUESTS")]
    states = fleet.status(lab)
    for state in states:
        host = state.host
        ssh = "ok" if state.reachable else "unreachable" if state.alive else "host down"
        rows.append((host.name, host.description.zone, host.address, ssh, state.libvirt or "-", " ".join(state.guests) or "-"))
    _print_table(rows)
    return 0 if all(state.up for state in states) else 1


def _inventory(arguments: argparse.Namespace) -> None:
    lab = fleet.existing_lab()
    if arguments.output:
        inventory.write(lab, arguments.output)
    else:
        print(inventory.render(lab), end="")


def _exec(arguments: argparse.Namespace) -> int:
    host = fleet.host_named(fleet.existing_lab(), arguments.host)
    return subprocess.run(host.entering(_command_line(arguments.argv)), check=False).returncode


def _selftest(_arguments: argparse.Namespace) -> int:
    return subprocess.run([str(SELFTEST)], check=False).returncode


def _host_kill(arguments: argparse.Namespace) -> None:
    with fleet.exclusive_lab() as lab:
        fleet.host_named(lab, arguments.host).kill()


def _host_start(arguments: argparse.Namespace) -> None:
    with fleet.exclusive_lab() as lab:
        fleet.host_named(lab, arguments.host).start()


def _host_renew(arguments: argparse.Namespace) -> None:
    fleet.renew_host(arguments.host, arguments.generation)


def _service_stop(arguments: argparse.Namespace) -> None:
    fleet.host_named(fleet.existing_lab(), arguments.host).stop_service(arguments.service)


def _service_start(arguments: argparse.Namespace) -> None:
    fleet.host_named(fleet.existing_lab(), arguments.host).start_service(arguments.service)


def _base_list(_arguments: argparse.Namespace) -> None:
    _print_table([("HOST", "BASES"), *((host.name, " ".join(bases.held(host)) or "-") for host in fleet.all_hosts(fleet.existing_lab()))])


def _base_put(arguments: argparse.Namespace) -> None:
    host = fleet.host_named(fleet.existing_lab(), arguments.host)
    bases.put(host, arguments.name, arguments.stamp, ensure_debian_image(cache_directory()) if arguments.debian else None)


def _base_remove(arguments: argparse.Namespace) -> None:
    bases.remove(fleet.host_named(fleet.existing_lab(), arguments.host), arguments.name)


def _guest_create(arguments: argparse.Namespace) -> None:
    order = guest.GuestOrder(
        name=arguments.name,
        flavor=arguments.flavor,
        host=arguments.host,
        start=not arguments.no_start,
        base=arguments.base,
        mac=arguments.mac,
        machine=arguments.machine,
        uefi=arguments.firmware == "uefi",
        ignore_shutdown=arguments.ignore_shutdown,
        disk_gb=arguments.disk_gb,
    )
    guest.create(fleet.existing_lab(), order)


def _guest_list(_arguments: argparse.Namespace) -> None:
    _print_table([("GUEST", "HOST", "STATE"), *guest.listing(fleet.existing_lab())])


def _guest_where(arguments: argparse.Namespace) -> int:
    holders = guest.hosts_defining(fleet.existing_lab(), arguments.name)
    for host in holders:
        print(host.name)
    return 0 if holders else 1


def _guest_wait(arguments: argparse.Namespace) -> None:
    guest.wait(fleet.existing_lab(), arguments.name, arguments.host, arguments.timeout)


def _guest_delete(arguments: argparse.Namespace) -> None:
    guest.delete(fleet.existing_lab(), arguments.name)


def _guest_exec(arguments: argparse.Namespace) -> int:
    argv = _command_line(arguments.argv)
    result = guest.execute(fleet.existing_lab(), arguments.name, argv, arguments.host, arguments.timeout)
    sys.stdout.buffer.write(result.stdout)
    sys.stderr.buffer.write(result.stderr)
    return result.status


def _command_line(argv: Sequence[str]) -> list[str]:
    command = list(argv[1:] if argv[:1] == ["--"] else argv)
    if not command:
        raise LabError("no command given")
    return command


def _print_table(rows: Sequence[Sequence[str]]) -> None:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        print("  ".join(cell.ljust(widths[column]) for column, cell in enumerate(row)).rstrip())
