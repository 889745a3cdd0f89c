# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A base image comes from a host of the same zone, else from the image store, else from the source; and it is proven wherever it comes from."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from support.faults import Subject, environment, eventually, one_paragraph, write_files
from support.fleet import Fleet
from support.guest import Guest, Guests
from support.lab import IMAGES, SCRIPT, STATE, Host, Lab

pytestmark = pytest.mark.whole_fleet

MIB = 2**20
STORE = f"{IMAGES}/_base"
GOLDEN = f"{IMAGES}/base/golden.qcow2"
KINDS = f"{IMAGES}/kinds"
BASES = {"vda": (GOLDEN, "qcow2"), "vdb": (f"{KINDS}/plain.raw", "raw"), "vdc": (f"{KINDS}/compressed.qcow2", "qcow2")}
RANGE_SERVER = Path(__file__).parent / "support" / "range_server.py"
SERVED, PORT, LOG = "/var/lib/served", 8080, "/tmp/served.log"
_MAKE_KINDS = f"""
mkdir -p {KINDS} && cd {KINDS} && qemu-img create -q -f raw plain.raw 64M && qemu-img create -q -f qcow2 full.qcow2 64M
qemu-io -f raw -c 'write -q -P 17 1M 5M' plain.raw && qemu-io -f qcow2 -c 'write -q -P 18 2M 7M' full.qcow2
qemu-img convert -q -c -f qcow2 -O qcow2 full.qcow2 compressed.qcow2 && rm full.qcow2 && chmod 444 *
"""
_KNOW = f"""
import hashlib, json, os, sys
path, sha256 = sys.argv[1:]
status = os.stat(path)
os.makedirs("{STATE}/digests", mode=0o700, exist_ok=True)
stamp = dict(device=status.st_dev, inode=status.st_ino, size=status.st_size, mtime_ns=status.st_mtime_ns, ctime_ns=status.st_ctime_ns)
with open("{STATE}/digests/" + hashlib.sha256(path.encode()).hexdigest() + ".json", "w") as stream:
    json.dump(dict(stamp, path=path, sha256=sha256, schema_version=1), stream)
"""


@dataclass
class Move:
    """A guest that is off with a base of each kind, which moves from kvm1 to kvm2; kvm3 is in their zone."""

    lab: Lab
    fleet: Fleet
    guest: Guest
    digests: dict[str, str]

    @property
    def base_bytes(self) -> int:
        return sum(self.lab["kvm1"].allocated_bytes(path) for path, _format in BASES.values())

    def to_kvm2(self, **extra: Any) -> tuple[dict[str, Any], int]:
        """Move it; what was said of it, and the bytes that kvm1 sent. Everything at kvm2 is as it was at kvm1."""
        before = self.lab["kvm1"].sent_bytes
        migration = self.fleet.play("migrate", instance="web", migrate_target_host="kvm2", **extra).ok().migration
        sent = self.lab["kvm1"].sent_bytes - before
        assert self.guest.hosts == ["kvm2"]
        assert {base["sha256"] for base in migration["bases"]} == set(self.digests.values())
        assert migration["base_bytes"] == sum(base["bytes_transferred"] for base in migration["bases"])
        for base in migration["bases"]:
            assert self.lab["kvm2"].sha256(base["path"]) == base["sha256"]
        return migration, sent

    def back(self) -> None:
        """As before, and without the base images that came."""
        self.fleet.play("revert", instance="web").ok()
        assert not [name for name in self.lab.hosts if self.lab[name].sh(f"ls {STATE}/exports", check=False)]
        self.lab["kvm2"].sh(f"rm -f {STORE}/*")


@pytest.fixture
def move(lab: Lab, fleet: Fleet, guests: Guests) -> Iterator[Move]:
    for host in lab.hosts.values():
        host.sh(f"rm -rf {STORE}")  # other tests have bases of the same content
    lab.call("base", "put", "golden", "--host", "kvm1")
    source = lab["kvm1"]
    guest = guests.create("web", "kvm1", "--base", "golden", start=False)
    source.sh(_MAKE_KINDS)
    for target, (path, image_format) in BASES.items():
        if target != "vda":
            source.sh(f"cd {IMAGES} && qemu-img create -q -f qcow2 -F {image_format} -b {path} web-{target}.qcow2 && chown libvirt-qemu: web-{target}.qcow2")
            source.virsh("attach-disk", "web", f"{IMAGES}/web-{target}.qcow2", target, "--config", "--driver", "qemu", "--subdriver", "qcow2")
    fleet.hosts["kvm3"]["kvmfleet_zone"] = "north"
    yield Move(lab, fleet, guest, {target: source.sha256(path) for target, (path, _format) in BASES.items()})
    for host in lab.hosts.values():
        host.sh(f"rm -rf {GOLDEN} {KINDS} {STORE} {IMAGES}/web-* {SERVED}")


def give(move: Move, name: str, directory: str, *, by_content: bool = False) -> dict[str, str]:
    """Put the bases into a directory of a host, named as at the source or by their content; their paths."""
    paths = {}
    for target, (path, image_format) in BASES.items():
        paths[target] = f"{directory}/{move.digests[target] + '.' + image_format if by_content else Path(path).name}"
        there = on_machine(move.lab, name, paths[target])
        there.parent.mkdir(exist_ok=True)
        subprocess.run(["cp", "--sparse=always", on_machine(move.lab, "kvm1", path), there], check=True)
    return paths


def on_machine(lab: Lab, name: str, path: str) -> Path:
    """A file of a host as the machine sees it."""
    return lab.directory / "hosts" / name / path.lstrip("/")


def know(host: Host, path: str, sha256: str) -> None:
    """Let a host believe that a file has this digest."""
    host.run("python3", "-c", _KNOW, path, sha256)


def spoil(lab: Lab, name: str, path: str) -> None:
    """Change one byte."""
    with on_machine(lab, name, path).open("r+b") as stream:
        stream.seek(-1, os.SEEK_END)
        last = stream.read(1)
        stream.seek(-1, os.SEEK_END)
        stream.write(bytes([last[0] ^ 1]))


@contextlib.contextmanager
def web_server(host: Host, breaks: int = 0, until: int = 0) -> Iterator[str]:
    """Serve a directory of a host; the URL."""
    write_files(host, {"/tmp/range_server.py": RANGE_SERVER.read_text()})
    pid = host.sh(f"rm -f {LOG}; setsid python3 /tmp/range_server.py {SERVED} {PORT} {LOG} {breaks} {until} >/dev/null 2>&1 </dev/null & echo $!")
    try:
        eventually(lambda: host.sh(f"ss -Htln sport = :{PORT}"), "the web server listens")
        yield f"http://{host.lab.inventory['compute']['hosts'][host.name]['ansible_host']}:{PORT}/images"
    finally:
        host.sh(f"kill {pid}")


def test_a_host_of_the_same_zone_sends_it(move: Move, capsys: pytest.CaptureFixture[str]) -> None:
    """Raw, qcow2 and compressed: kvm1 sends nothing but overlays, though kvm3 is asked for three images."""
    lab = move.lab
    for target, path in give(move, "kvm3", KINDS).items():
        know(lab["kvm3"], path, move.digests[target])
    before = lab["kvm3"].sent_bytes
    migration, sent = move.to_kvm2()
    lent = lab["kvm3"].sent_bytes - before
    with capsys.disabled():
        print(f"\noverlays {migration['overlay_bytes']} bytes, kvm1 sent {sent}; bases {move.base_bytes} bytes, kvm3 sent {lent}")
    assert [base["from"] for base in migration["bases"]] == ["kvm3"] * 3
    assert migration["bases_passed_over"] == []
    assert sent <= 1.05 * migration["overlay_bytes"] + MIB
    assert 0.95 * move.base_bytes < migration["base_bytes"] <= lent <= 1.05 * move.base_bytes + MIB
    move.back()


def test_an_image_store_whose_link_breaks(move: Move, capsys: pytest.CaptureFixture[str]) -> None:
    """It goes on where it broke; what an earlier fetch left is continued, or thrown away where it turns out wrong."""
    lab, (vda, vdb) = move.lab, (f"{move.digests['vda']}.qcow2", f"{move.digests['vdb']}.raw")
    give(move, "kvm4", SERVED, by_content=True)
    size = on_machine(lab, "kvm4", f"{SERVED}/{vda}").stat().st_size
    known = json.dumps({"digits": "0badcafe", "schema_version": 1})
    lab["kvm2"].sh(f"mkdir -p {STORE} {STATE}/host && head -c 1000000 /dev/urandom >{STORE}/{vdb}.0badcafe.part && echo '{known}' >{STATE}/host/identity.json")
    with web_server(lab["kvm4"], breaks=2, until=8 * MIB) as url:
        migration, sent = move.to_kvm2(migrate_image_store_url=url)
        asked = lab["kvm4"].sh(f"cat {LOG}").splitlines()
    with capsys.disabled():
        print(f"\n{asked}, kvm1 sent {sent} for overlays of {migration['overlay_bytes']} bytes")
    assert [base["from"] for base in migration["bases"]] == [url] * 3
    assert asked[:3] == [f"{vda} all", f"{vda} bytes={8 * MIB}-", f"{vda} bytes={16 * MIB}-"]
    assert asked[3:5] == [f"{vdb} bytes=1000000-", f"{vdb} all"]
    assert migration["bases"][0]["bytes_transferred"] == size
    assert sent <= 1.05 * migration["overlay_bytes"] + MIB
    move.back()


@pytest.mark.slow
def test_an_image_store_that_is_a_directory(move: Move) -> None:
    """As a mounted share would be, with the names that the images have at the source."""
    give(move, "kvm2", SERVED)
    migration, sent = move.to_kvm2(migrate_image_store_url=f"file://{SERVED}/{{name}}")
    assert [base["from"] for base in migration["bases"]] == [f"file://{SERVED}/{{name}}"] * 3
    assert sent <= 1.05 * migration["overlay_bytes"] + MIB
    move.back()


@pytest.mark.invariant(5)
def test_wrong_content_is_passed_over(move: Move) -> None:
    """Neither a host that errs about what it has, nor a store that has been tampered with, nor one that lacks it keeps the guest from moving."""
    lab = move.lab
    held, served = give(move, "kvm3", KINDS), give(move, "kvm4", SERVED, by_content=True)
    for target in BASES:
        spoil(lab, "kvm3", held[target])
        know(lab["kvm3"], held[target], move.digests[target])
        spoil(lab, "kvm4", served[target])
    lab["kvm4"].run("rm", served["vdc"])
    with web_server(lab["kvm4"]) as url:
        migration, _sent = move.to_kvm2(migrate_image_store_url=url)
    assert [base["from"] for base in migration["bases"]] == ["kvm1"] * 3
    passed_over = migration["bases_passed_over"]
    assert len(passed_over) == 6, passed_over
    assert ["kvm3" in reason for reason in passed_over] == [True, False] * 3
    assert all("is not the base image" in reason for reason in passed_over[:5])
    assert "HTTP status 404" in passed_over[5]
    assert sorted(path for path in lab["kvm2"].files(STORE) if path.endswith(".part")) == []
    move.back()


@pytest.mark.slow
def test_a_base_that_is_deleted_after_it_was_found(lab: Lab, fleet: Fleet, guests: Guests) -> None:
    """The guest goes on where it was; the next try fetches the base."""
    lab.call("base", "put", "golden", "--host", "kvm2")
    guest = guests.create("web", "kvm1", "--base", "golden")
    subject = Subject(lab, guest, guest.write())
    meddling = f"{SCRIPT} exec kvm2 -- rm {GOLDEN}"
    try:
        with environment(KVMFLEET_MEDDLE_BEFORE="Move | Stop, prove off and seal the guest", KVMFLEET_MEDDLE_WITH=meddling):
            one_paragraph(fleet.play("migrate", instance="web", migrate_target_host="kvm2"), GOLDEN, "does not exist", "is as before on kvm1")
        subject.as_before()
        assert fleet.play("migrate", instance="web", migrate_target_host="kvm2").ok().migration["bases"][0]["from"] == "kvm1"
        assert subject.runs_once_with_its_data() == "kvm2"
        fleet.play("revert", instance="web").ok()
        subject.as_before()
    finally:
        for name in ("kvm1", "kvm2"):
            lab[name].sh(f"rm -rf {STORE} {GOLDEN}")


@pytest.mark.slow
def test_only_unused_images_are_removed(move: Move) -> None:
    """Not while a guest stands on them, nor a sealed copy of one; check mode says what would go."""
    lab, fleet = move.lab, move.fleet

    def store() -> list[str]:
        return lab["kvm2"].files(STORE)

    move.to_kvm2()
    fleet.play("confirm", instance="web").ok()
    fetched = sorted(store())
    assert len(fetched) == 3
    shown = fleet.play("images", keep_bytes="0").ok()
    assert shown.changed == 0
    assert "guest web" in shown.said
    fleet.play("migrate", instance="web", migrate_target_host="kvm1").ok()
    kept = fleet.play("images", keep_bytes="0").ok()
    assert kept.changed == 0
    assert "sealed copy of web" in kept.said
    fleet.play("confirm", instance="web").ok()
    assert fleet.play("images", older_than=1).ok().changed == 0
    assert fleet.play("images", "--check", keep_bytes="0").ok().changed == 1
    assert sorted(store()) == fetched
    assert fleet.play("images", keep_bytes="0").ok().recap["kvm2"]["changed"] == 1
    assert store() == []
    assert fleet.play("images", keep_bytes="0").ok().changed == 0
    assert lab["kvm1"].exists(GOLDEN)
    assert move.guest.hosts == ["kvm1"]
