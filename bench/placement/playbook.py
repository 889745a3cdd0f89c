# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The playbook `kvmfleet.compute.plan` over a simulated fleet whose facts are in Ansible's fact cache.

Everything runs as a user runs it with `facts_max_age`, from the inventory to the printed table, but for two modules which would need real hosts:
host_facts and domain_info, which are asked about the host of the guest and the guest alone, answer with what they were given.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ansible_collections.kvmfleet.compute.plugins.plugin_utils.run import this
from bench.placement.fleet import fleet

ROOT = Path(__file__).resolve().parents[2]
SOURCE = "kvm00000"
DECISION = "Filter, weigh, decide"
MAX_AGE = 3600
MODULE = """
from ansible.module_utils.basic import AnsibleModule
import json

options = ("name", "flavor", "image_directories", "digests", "state_path", "host", "gathered_at", "gathered_by", "run", "aggregates", "enabled", "images_path",
           "reserved_host_memory_mb", "reserved_host_cpus", "reserved_host_disk_mb", "cpu_dedicated_set", "disk_directories", "mappings", "hang_timeout")
AnsibleModule({name: {"type": "raw"} for name in options}).exit_json(changed=False, **json.loads(%r))
"""


def plan(count: int, work: Path) -> dict[str, Any]:
    """One line of the report: the whole playbook, and the task that decides."""
    hosts = simulated_facts(count)
    collections, durations = work / "collections", work / f"durations-{count}"
    _overlay(collections / "ansible_collections" / "kvmfleet" / "compute", hosts[0])
    inventory = work / f"hosts-{count}"
    flavors = json.dumps({"large": {"vcpus": 4, "ram": 8192, "disk": 40}})
    lines = ["[compute]", *(host["host"] for host in hosts), "[compute:vars]", "ansible_connection=local", f"kvmfleet_flavors={flavors}"]
    inventory.write_text("\n".join([*lines, "ansible_python_interpreter={{ ansible_playbook_python }}", ""]), encoding="utf-8")
    environment = {
        **os.environ,
        "ANSIBLE_COLLECTIONS_PATH": str(collections),
        "ANSIBLE_CACHE_PLUGIN": "ansible.builtin.jsonfile",
        "ANSIBLE_CACHE_PLUGIN_CONNECTION": str(work / f"facts-{count}"),
        "ANSIBLE_CALLBACK_PLUGINS": str(ROOT / "bench" / "callback_plugins"),
        "ANSIBLE_CALLBACKS_ENABLED": "durations",
        "ANSIBLE_NOCOLOR": "1",
        "KVMFLEET_DURATIONS": str(durations),
    }
    _fill_fact_cache(hosts, environment)
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    run = subprocess.run(
        ["ansible-playbook", "-i", str(inventory), "kvmfleet.compute.plan", "-e", f"instance=web1 flavor=large kvmfleet_become=false facts_max_age={MAX_AGE}"],
        env=environment,
        cwd=work,
        capture_output=True,
        text=True,
        check=False,
    )
    seconds, after = time.monotonic() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    if run.returncode or "Plan: resize web1" not in run.stdout:
        raise RuntimeError(f"plan at {count} hosts failed:\n{run.stdout[-3000:]}{run.stderr[-3000:]}")
    tasks = [json.loads(line) for line in durations.read_text(encoding="utf-8").splitlines()]
    return {
        "hosts": count,
        "playbook_s": seconds,
        "decision_s": sum(task["seconds"] for task in tasks if DECISION in task["task"]),
        "processor_s": after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime,
        "tasks": {task["task"].rpartition(" : ")[2]: round(task["seconds"], 3) for task in tasks if task["seconds"] > 0.05},
    }


def simulated_facts(count: int) -> list[dict[str, Any]]:
    """The facts `kvmfleet_host` of a fleet, with a guest named web1 on the first host."""
    hosts = fleet(count, 1, roomy=True)
    for host in hosts:
        guests = host["instances"]
        host |= {
            "gathered_at": time.time(),
            "gathered_by": this().clock,
            "machine_id": host["host"],
            "hostname": host["host"],
            "arch": "x86_64",
            "domains": [_guest(f"guest-{uuid[:8]}", uuid) for uuid in guests],
            "networks": ["default"],
            "bridges": ["br0"],
            "pools": [{"name": "default", "active": True, "path": "/var/lib/libvirt/images"}],
            "migrations": [],
            "claims": [],
        }
    hosts[0] |= {"enabled": True, "up": True, "domains": [_guest("web1", "6f70656e-7374-4163-8b00-000000000001")]}
    hosts[0] |= {"instances": ["6f70656e-7374-4163-8b00-000000000001"], "num_instances": 1}
    return hosts


def _guest(name: str, uuid: str) -> dict[str, Any]:
    return {"name": name, "uuid": uuid, "state": "running", "vcpus": 1, "memory_mb": 2048, "disk_gb": 20, "persistent": True, "autostart": False}


def _overlay(tree: Path, source: Mapping[str, Any]) -> None:
    """The collection out of links, with the two files replaced."""
    if tree.exists():
        return
    tree.mkdir(parents=True)
    for path in (*ROOT.glob("*"), *ROOT.glob("plugins/*"), *ROOT.glob("plugins/modules/*")):
        link = tree / path.relative_to(ROOT)
        if path.relative_to(ROOT).as_posix() in ("plugins", "plugins/modules"):
            link.mkdir()
        else:
            link.symlink_to(path)
    for module, answer in (("host_facts", {"ansible_facts": {"kvmfleet_host": source}}), ("domain_info", {"domain": _domain(source)})):
        path = tree / "plugins" / "modules" / f"{module}.py"
        path.unlink()
        path.write_text(MODULE % json.dumps(answer), encoding="utf-8")


def _domain(source: Mapping[str, Any]) -> dict[str, Any]:
    """What domain_info says of web1."""
    return {
        "name": "web1",
        "uuid": source["instances"][0],
        "state": "running",
        "persistent": True,
        "flavor": {"name": "small", "vcpus": 1, "ram": 2048, "disk": 20},
        "machine": "pc-q35-7.2",
        "arch": "x86_64",
        "virt_type": "kvm",
        "emulator": "/usr/bin/qemu-system-x86_64",
        "refusals": [],
        "snapshots": [],
        "interfaces": [],
        "firmware": {},
        "agent": {"connected": True},
        "xml_digest": "0" * 64,
        "disks": [
            {
                "target": "vda",
                "device": "disk",
                "readonly": False,
                "root": True,
                "path": "/var/lib/libvirt/images/web1.qcow2",
                "format": "qcow2",
                "virtual_size": 20 * 1024**3,
                "allocated_bytes": 1024**3,
                "chain": [{"path": "/var/lib/libvirt/images/web1.qcow2", "format": "qcow2", "virtual_size": 20 * 1024**3}],
            }
        ],
    }


def _fill_fact_cache(hosts: list[dict[str, Any]], environment: Mapping[str, str]) -> None:
    """With Ansible's own plugin, which knows how it names its files."""
    script = (
        "import json, sys\n"
        "from ansible.plugins.loader import cache_loader, init_plugin_loader\n"
        "init_plugin_loader()\n"
        "cache = cache_loader.get('ansible.builtin.jsonfile')\n"
        "for host in json.load(sys.stdin): cache.set(host['host'], {'kvmfleet_host': host})\n"
    )
    subprocess.run(["python", "-c", script], env=environment, input=json.dumps(hosts), text=True, check=True, capture_output=True)
