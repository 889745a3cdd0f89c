# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A move finds its way where tools are missing and ports are closed, and says which it took."""

from __future__ import annotations

import contextlib
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from lab.bases import DEFAULT_NAME
from lab.fleet import existing_lab
from support.faults import QUICK, Subject, eventually, impatient, in_mid_copy, one_paragraph
from support.fleet import Fleet
from support.guest import Guests
from support.lab import IMAGES, STATE, Host, Lab

MIB = 2**20
MOVE = {"instance": "web", "target_host": "kvm2", **QUICK}


@contextlib.contextmanager
def without(host: Host, *tools: str) -> Iterator[None]:
    """Tools that a host has not got."""
    paths = [host.sh(f"readlink -f $(command -v {tool})") for tool in tools]
    for path in paths:
        host.run("mount", "--bind", "/dev/null", path)
    try:
        yield
    finally:
        for path in paths:
            host.run("umount", path)


@pytest.mark.slow
def test_without_nbdkit_and_nbdcopy_the_tools_of_qemu_do_it(lab: Lab, guests: Guests, fleet: Fleet, capsys: pytest.CaptureFixture[str]) -> None:
    """The result and both journals name them; the limit holds; nothing is open afterwards."""
    guest = guests.create("web", "kvm1")
    subject = Subject(lab, guest, guest.write(24))
    with without(lab["kvm1"], "nbdkit"), without(lab["kvm2"], "nbdcopy"):
        said = fleet.play("prepare_host", prepare_host_install=False).ok().said
        assert "no nbdkit (QEMU serves the channel)" in said
        assert "no nbdcopy (qemu-img copies)" in said
        migration = fleet.play("migrate", migrate_bandwidth_limit="4M", **MOVE).ok().migration
        assert not lab["kvm1"].sh(f"ls {STATE}/exports; ps -eo comm= | grep qemu-storage", check=False)
    assert (migration["transport"], migration["copied_by"]) == ("qemu-nbd", "qemu-img")
    assert lab["kvm1"].records()[-1]["transport"] == "qemu-nbd"
    record = lab["kvm2"].records()[-1]
    assert record["copied_by"] == "qemu-img"
    rate = migration["overlay_bytes"] / (record["timings"]["copied_at"] - record["timings"]["began_at"]) / MIB
    with capsys.disabled():
        print(f"\n{migration['overlay_bytes'] / MIB:.0f} MiB by QEMU's tools at {rate:.2f} MiB/s, limit 4")
    assert 2.5 < rate < 4.5
    assert subject.runs_once_with_its_data() == "kvm2"
    fleet.play("revert", instance="web", **QUICK).ok()
    subject.as_before()


@pytest.mark.slow
def test_with_nothing_to_serve_the_copy_the_guest_is_not_touched(lab: Lab, guests: Guests, fleet: Fleet) -> None:
    guest = guests.create("web", "kvm1")
    subject = Subject(lab, guest, guest.write())
    boot_id = subject.boot_id
    with without(lab["kvm1"], "nbdkit"):
        one_paragraph(fleet.play("migrate", migrate_transport="nbdkit", **MOVE), "No nbdkit is installed", "as before")
        with without(lab["kvm1"], "qemu-storage-daemon"):
            assert re.search("missing command: nbdkit, or qemu-storage-daemon", fleet.play("prepare_host", prepare_host_install=False).refused())
            one_paragraph(fleet.play("migrate", **MOVE), "No nbdkit nor qemu-storage-daemon is installed", "as before")
    subject.is_untouched(boot_id)


@pytest.fixture
def only_ssh(lab: Lab) -> Iterator[None]:
    """kvm1 lets nothing in but ssh."""
    rule = ("INPUT", "!", "-i", "lo", "-p", "tcp", "--syn", "!", "--dport", "22", "-j", "DROP")
    lab["kvm1"].run("iptables", "-A", *rule)
    yield
    lab["kvm1"].run("iptables", "-D", *rule)


def tunnels(lab: Lab) -> str:
    """What there is of tunnels: the controller's ssh and their guards, and the ports of the destination's loopback."""
    listed = subprocess.run(["ps", "-eo", "args", "-ww"], capture_output=True, text=True, check=True).stdout.splitlines()
    own = [line for line in listed if "kvmfleet-tunnel-" in line and str(lab.directory) in line]
    return "\n".join([*own, *lab["kvm2"].sh("ss -Hltn src 127.0.0.1", check=False).splitlines()])


@pytest.mark.usefixtures("only_ssh")
def test_where_only_ssh_is_open_the_copy_travels_through_it(lab: Lab, guests: Guests, fleet: Fleet, capsys: pytest.CaptureFixture[str]) -> None:
    """The base too. The result, the journal and a line say so; the tunnel is there for the copy and gone after it."""
    lab["kvm2"].sh(f"rm -rf {IMAGES}/_base")
    lab.call("base", "remove", DEFAULT_NAME, "--host", "kvm2", check=False)  # others may have put it there
    guest = guests.create("web", "kvm1")
    subject = Subject(lab, guest, guest.write(32))
    playing = fleet.start("migrate", migrate_bandwidth_limit="8M", **MOVE)
    in_mid_copy(lab["kvm2"], playing)
    meanwhile = tunnels(lab)
    run = playing.wait().ok()
    assert "-L" in meanwhile
    assert "-R" in meanwhile
    assert "127.0.0.1" in meanwhile
    assert tunnels(lab) == ""
    assert run.migration["tunnel"]
    assert run.migration["base_bytes"] > 0
    assert lab["kvm1"].records()[-1]["tunnel"]
    assert "travels through ssh and the controller, since kvm2 cannot reach" in run.said
    assert subject.runs_once_with_its_data() == "kvm2"
    with capsys.disabled():
        print(f"\n{run.migration['overlay_bytes'] / MIB:.0f} MiB through ssh, downtime {run.migration['downtime_seconds']} s")
    fleet.play("revert", instance="web", **QUICK).ok()
    subject.as_before()


@pytest.mark.slow
@pytest.mark.usefixtures("only_ssh")
def test_a_tunnel_is_gone_with_its_controller(lab: Lab, guests: Guests, fleet: Fleet) -> None:
    """It dies in mid copy; the export closes behind it."""
    impatient(lab, fleet)
    guest = guests.create("web", "kvm1")
    subject = Subject(lab, guest, guest.write(48))
    playing = fleet.start("migrate", migrate_bandwidth_limit="2M", migrate_channel_idle_timeout=5, **MOVE)
    in_mid_copy(lab["kvm2"], playing)
    assert tunnels(lab)
    playing.kill()
    eventually(lambda: tunnels(lab) == "", "the tunnel is gone", 10)
    eventually(lambda: not lab["kvm1"].sh(f"ls {STATE}/exports", check=False), "the export is gone", 30)
    fleet.play("recover", instance="web", **QUICK).ok()
    subject.as_before()


@pytest.mark.slow
@pytest.mark.usefixtures("only_ssh")
def test_without_a_way_the_guest_is_not_touched(lab: Lab, guests: Guests, fleet: Fleet) -> None:
    guest = guests.create("web", "kvm1")
    subject = Subject(lab, guest, guest.write())
    boot_id = subject.boot_id
    one_paragraph(fleet.play("migrate", migrate_tunnel="never", **MOVE), "kvm2 cannot reach", "timed out", "Open the ports 49152-49215 of kvm1", "as before")
    fleet.hosts["kvm1"]["ansible_ssh_executable"] = str(fleet.directory / "ssh")
    (fleet.directory / "ssh").write_text('#!/bin/sh\ncase "$*" in *" -L "*) echo "forwarding is forbidden" >&2; exit 1;; esac\nexec ssh "$@"\n')
    (fleet.directory / "ssh").chmod(0o755)
    one_paragraph(fleet.play("migrate", **MOVE), "no way through ssh", "forwarding is forbidden", "as before")
    subject.is_untouched(boot_id)
    assert tunnels(lab) == ""


@contextlib.contextmanager
def calling_itself(host: Host, address: str) -> Iterator[None]:
    """A host whose own name means an address of its loopback, as the installer of Debian writes it."""
    host.sh(f"cp /etc/hosts /etc/hosts.kept && (echo '{address} {host.name}'; grep -v ' {host.name}$' /etc/hosts.kept) >/etc/hosts")
    try:
        yield
    finally:
        host.sh("mv /etc/hosts.kept /etc/hosts")


@pytest.mark.slow
def test_a_source_that_calls_itself_by_its_loopback_is_reached_straight(lab: Lab, guests: Guests, fleet: Fleet) -> None:
    """The destination knows where it is. It was the controller's ssh that all bytes went through."""
    guest = guests.create("web", "kvm1")
    subject = Subject(lab, guest, guest.write())
    fleet.hosts["kvm1"]["kvmfleet_migration_address"] = "kvm1"
    with calling_itself(lab["kvm1"], "127.0.1.1"):
        migration = fleet.play("migrate", **MOVE).ok().migration
    assert not migration["tunnel"]
    assert subject.runs_once_with_its_data() == "kvm2"
    fleet.play("confirm", instance="web", **QUICK).ok()


@contextlib.contextmanager
def ipv6(lab: Lab, but: str | None = None) -> Iterator[dict[str, str]]:
    """IPv6 addresses of kvm1 and kvm2, which are closed to connections by IPv4, but for those to one port."""
    rule = ("INPUT", "!", "-i", "lo", "-p", "tcp", "--syn", *(("!", "--dport", but) if but else ()), "-j", "DROP")  # of IPv4
    addresses = {"kvm1": "fd4b::1", "kvm2": "fd4b::2"}
    with contextlib.ExitStack() as undo:
        for name, address in addresses.items():
            lab[name].sh("echo 0 >/proc/sys/net/ipv6/conf/all/disable_ipv6; echo 0 >/proc/sys/net/ipv6/conf/br0/disable_ipv6", check=False)
            lab[name].run("ip", "-6", "address", "add", f"{address}/64", "dev", "br0", "nodad")
            undo.callback(lab[name].run, "ip", "-6", "address", "del", f"{address}/64", "dev", "br0")
            lab[name].run("iptables", "-A", *rule)
            undo.callback(lab[name].run, "iptables", "-D", *rule)
        yield addresses


@contextlib.contextmanager
def an_sshd_at(host: Host, address: str) -> Iterator[str]:
    """A further sshd of a host; its line for the known hosts."""
    script = "sed -e 's/^ListenAddress.*/ListenAddress {0}/' -e 's,^PidFile.*,PidFile /run/sshd6.pid,' /etc/ssh/sshd_config >/run/sshd6.conf"
    host.sh(f"{script.format(address)} && /usr/sbin/sshd -f /run/sshd6.conf")
    try:
        yield f"{address} {host.run('cat', '/etc/ssh/ssh_host_ed25519_key.pub')}\n"
    finally:
        host.sh("kill $(cat /run/sshd6.pid); rm -f /run/sshd6.conf")


@pytest.mark.slow
def test_hosts_that_reach_each_other_by_ipv6_alone_copy_straight(lab: Lab, guests: Guests, fleet: Fleet) -> None:
    guest = guests.create("web", "kvm1")
    subject = Subject(lab, guest, guest.write())
    with ipv6(lab, but="22") as addresses:
        fleet.hosts["kvm1"]["kvmfleet_migration_address"] = addresses["kvm1"]
        migration = fleet.play("migrate", **MOVE).ok().migration
    assert not migration["tunnel"]
    assert subject.runs_once_with_its_data() == "kvm2"
    fleet.play("confirm", instance="web", **QUICK).ok()


@pytest.mark.slow
def test_hosts_that_ansible_too_reaches_by_ipv6_alone_move_there_and_back(lab: Lab, guests: Guests, fleet: Fleet, tmp_path: Path) -> None:
    """`ansible_host` is an IPv6 address and all that the inventory says of the way; nothing gets through by IPv4."""
    guest = guests.create("web", "kvm1", start=False)  # how its host is reached is the same for one that runs
    definition, files = sorted(guest.xml.splitlines()), lab["kvm1"].files()  # libvirt sorts the controllers of what it takes back
    known_hosts = tmp_path / "known_hosts"
    controller = ("ip", "-6", "address", "{}", "fd4b::ff/64", "dev", existing_lab().bridge, "nodad")
    subprocess.run([word.format("add") for word in controller], check=True)
    try:
        with ipv6(lab) as addresses, contextlib.ExitStack() as servers:
            known_hosts.write_text("".join(servers.enter_context(an_sshd_at(lab[name], address)) for name, address in addresses.items()))
            fleet.vars["ansible_ssh_common_args"] = re.sub(
                r"UserKnownHostsFile=\S+", f"UserKnownHostsFile={known_hosts}", fleet.vars["ansible_ssh_common_args"]
            )
            for name, address in addresses.items():
                fleet.hosts[name]["ansible_host"] = address
            assert "on kvm2" in fleet.play("plan", flavor="medium", **MOVE).ok().said
            migration = fleet.resize("web", "medium", **QUICK).ok().migration
            assert (migration["destination"], migration["tunnel"]) == ("kvm2", False)
            assert guest.hosts == ["kvm2"]
            fleet.play("revert", instance="web", **QUICK).ok()
    finally:
        subprocess.run([word.format("del") for word in controller[:-1]], check=True)
    assert (guest.hosts, sorted(guest.xml.splitlines()), lab["kvm1"].files(), lab["kvm2"].files()) == (["kvm1"], definition, files, [])


@pytest.mark.slow
def test_a_source_whose_name_the_destination_does_not_know_sends_through_ssh(lab: Lab, guests: Guests, fleet: Fleet) -> None:
    guest = guests.create("web", "kvm1")
    subject = Subject(lab, guest, guest.write())
    fleet.hosts["kvm1"]["kvmfleet_migration_address"] = "no.such.host.invalid"
    one_paragraph(fleet.play("migrate", migrate_tunnel="never", **MOVE), "kvm2 has no way", "as before")
    run = fleet.play("migrate", **MOVE).ok()
    assert run.migration["tunnel"]
    assert "travels through ssh and the controller, since kvm2 has no way" in run.said
    assert subject.runs_once_with_its_data() == "kvm2"
    fleet.play("confirm", instance="web", **QUICK).ok()


@pytest.mark.slow
def test_a_source_without_a_free_port_sends_through_ssh(lab: Lab, guests: Guests, fleet: Fleet) -> None:
    """It cannot open the channel where others look for it; on its loopback it can."""
    guest = guests.create("web", "kvm1")
    subject = Subject(lab, guest, guest.write())
    address = lab["kvm1"].sh("hostname -I").split()[0]
    holding = f"import socket, time; s = socket.create_server(('{address}', 49300)); time.sleep(600)"
    lab["kvm1"].sh(f'nohup python3 -c "{holding}" >/dev/null 2>&1 & echo $! >/run/holding.pid')
    try:
        run = fleet.play("migrate", migrate_ports="49300", **MOVE).ok()
    finally:
        lab["kvm1"].sh("kill $(cat /run/holding.pid)")
    assert run.migration["tunnel"]
    assert "since kvm1 cannot open it" in run.said
    assert subject.runs_once_with_its_data() == "kvm2"
    fleet.play("confirm", instance="web", **QUICK).ok()
