#!/usr/bin/python
# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: claim
short_description: Claim capacity of a host for an operation
version_added: 0.1.0
description:
  - Checks under the host's own lock, against its live state, that the host can take the instance, and reserves the capacity.
  - What counts are the rules of RamFilter, CoreFilter and DiskFilter, and whether the host already has such a domain or file, and offers the machine
    type, networks, bridges, firmware, tools and bytes that the instance needs.
  - Of some things a host can have one, such as a MAC address, a port or a vsock context id. What the instance needs of these nobody may have, neither a
    guest, nor the host itself, nor another claim.
  - The disks that the flavor adds (C(ephemeral), C(swap)) are made and formatted here, while the guest runs, and so are directories of the guest below
    those that the host has for images, with owner and mode as at the source.
  - A claim lasts until the operation is confirmed, reverted or undone. It is released by M(kvmfleet.compute.destination_copy),
    M(kvmfleet.compute.source_copy) or M(kvmfleet.compute.resize_in_place).
options:
  role:
    description: Whether the instance comes to this host, or grows on it.
    type: str
    choices: [destination, in_place]
    default: destination
  plan:
    description: The key RV(kvmfleet.compute.plan_migration#filter:_value.plan.record) of the plan.
    type: dict
    required: true
  requirements:
    description: What the key RV(kvmfleet.compute.plan_migration#filter:_value.plan.requirements) of the plan says of this host.
    type: dict
    required: true
  destination_host:
    description: Inventory name of this host.
    type: str
    required: true
  storage:
    description:
      - The answers of the plan for this host, RV(kvmfleet.compute.plan_migration#filter:_value.plan.storage), which tell where each disk comes to lie.
        Required for O(role=destination).
      - The directory of a storage pool is asked of libvirt here again.
    type: list
    elements: dict
  mappings:
    description:
      - What RV(kvmfleet.compute.plan_migration#filter:_value.plan.mappings) says of this host. The definition then names bridges, networks, emulators and
        firmware as this host calls them.
    type: dict
    default: {}
  probes:
    description: RV(kvmfleet.compute.migration#module:probes) of the source, by which storage that both hosts share is recognised.
    type: dict
    default: {}
  secret_proofs:
    description:
      - RV(kvmfleet.compute.migration#module:secret_proofs) of the source, by which this host tells whether a secret that it has is the same.
    type: dict
    default: {}
  key:
    description: One-time key of the operation, under which O(secret_proofs) were made.
    type: str
  source_address:
    description: Address of the source at which the channel will be served. With it, RV(local_address) is returned.
    type: str
  images_path:
    description: Directory of guest images on this host, whose filesystem the disk figures are about.
    type: path
    default: /var/lib/libvirt/images
  image_directories:
    description: Directories in which disks and base images of guests may lie.
    type: list
    elements: path
    default: [/var/lib/libvirt/images]
  reserved:
    description: What the host keeps for itself, as C(memory_mb), C(vcpus) and C(disk_mb).
    type: dict
    default: {}
  cpu_dedicated_set:
    description: CPUs of this host that are set aside for guests whose flavor has C(hw:cpu_policy=dedicated), such as V(4-11,^8).
    type: str
    default: ""
  ratios:
    description: Effective allocation ratios of this host.
    type: dict
    required: true
    suboptions:
      cpu:
        description: Virtual per physical CPU.
        type: float
        required: true
      ram:
        description: Promised per physical memory.
        type: float
        required: true
      disk:
        description: Promised per real disk.
        type: float
        required: true
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
  idempotent:
    support: none
    details:
      - A second claim for the same instance is refused.
  platform:
    support: full
    platforms: linux
extends_documentation_fragment:
  - kvmfleet.compute.attributes
  - kvmfleet.compute.hanging
  - kvmfleet.compute.operation
  - kvmfleet.compute.operation.connection
  - kvmfleet.compute.operation.audit
  - kvmfleet.compute.state
  - kvmfleet.compute.libvirt
author: kvmfleet contributors (@kvmfleet)
"""

EXAMPLES = r"""
- name: Claim kvm2 for the operation
  kvmfleet.compute.claim:
    migration_uuid: "{{ migration_uuid }}"
    owner: "{{ owner }}"
    plan: "{{ planned.plan.record }}"
    requirements: "{{ planned.plan.requirements.kvm2 }}"
    mappings: "{{ planned.plan.mappings.kvm2 }}"
    storage: "{{ planned.plan.storage.kvm2 }}"
    destination_host: kvm2
    ratios: {cpu: 16.0, ram: 1.5, disk: 1.0}
"""

RETURN = r"""
claim:
  description: The claim. Its C(cpus) are those that the guest has to itself here, or will have.
  type: dict
  returned: when not in check mode
shared:
  description: Targets of the disks that lie on storage which both hosts share, as far as this one can tell.
  type: list
  elements: str
  returned: when not in check mode
probes:
  description: For each of their directories, as the source calls it, the name and content of a file that this host wrote there.
  type: dict
  returned: when not in check mode
secrets:
  description: UUIDs of the secrets that the instance needs and this host lacks.
  type: list
  elements: str
  returned: when not in check mode
directories:
  description:
    - The directories that were made here for files of the instance. In check mode those that would be made, each with owner and mode.
  type: list
  elements: str
  returned: success
namesakes:
  description: Files here that bear the name of a base image of the instance and have other content. They are left alone.
  type: list
  elements: str
  returned: in check mode
local_address:
  description: Address from which this host reaches O(source_address). V(null) without that, and where it has no way there.
  type: str
  returned: when not in check mode
source_address:
  description: The address that O(source_address) means to this host, which it can reach as far as its routes tell. V(null) if RV(local_address) is.
  type: str
  returned: when not in check mode
no_way:
  description: Why this host has no way to O(source_address). The copy can travel through a tunnel then.
  type: str
  returned: when not in check mode
error_code:
  description: >-
    V(host_hangs), V(run_gone),
    V(claim_refused), with every reason and its numbers in RV(details), V(unknown_user), V(pool_missing), V(pool_inactive),
    V(pool_unsupported), V(directory_missing), V(shared_growth), V(base_not_shared), V(handed_value), V(format_failed), V(path_taken),
    V(invalid_directory) or V(operation_in_progress).
  type: str
  returned: failure
details:
  description: >-
    For V(claim_refused), C(reasons) with C(code), C(reason), C(need) and C(have), and C(kind) where it is about a thing of which a host can have one.
  type: dict
  returned: failure
"""

import os

from ansible_collections.kvmfleet.compute.plugins.module_utils._channel.listening import found_way
from ansible_collections.kvmfleet.compute.plugins.module_utils._guest import secrets as _secrets
from ansible_collections.kvmfleet.compute.plugins.module_utils._host.state import Reserved
from ansible_collections.kvmfleet.compute.plugins.module_utils._journal.records import Journal
from ansible_collections.kvmfleet.compute.plugins.module_utils._journal.state_dir import StateDir
from ansible_collections.kvmfleet.compute.plugins.module_utils._libvirt import connection as _connection, domains as _domains
from ansible_collections.kvmfleet.compute.plugins.module_utils._module import LIBVIRT_ARGS, STATE_ARGS, run
from ansible_collections.kvmfleet.compute.plugins.module_utils._operation import admission as _admission, withdrawing as _withdrawing
from ansible_collections.kvmfleet.compute.plugins.module_utils._options import AUDIT_ARGS, OPERATION_ARGS
from ansible_collections.kvmfleet.compute.plugins.module_utils._rules import cpu_set as _cpu_set, file_names as _file_names, handed_plan as _handed_plan
from ansible_collections.kvmfleet.compute.plugins.module_utils._rules.errors import KvmfleetError
from ansible_collections.kvmfleet.compute.plugins.module_utils._storage import (
    directories as _directories,
    new_files as _new_files,
    places as _places,
    pools as _pools,
    qemu_img as _qemu_img,
    shared_storage as _shared_storage,
    store as _store,
)


def here(conn, disk, path, params):
    """A disk of the source as it comes to lie on this host; a medium whose name is taken (an ISO that other guests use) gets a name of its own."""
    if disk.get("pool"):
        path = _pools.volume_path(conn, disk["pool"], disk["volume"])
    if path is None:
        raise KvmfleetError("directory_missing", f"{disk['target']}: the directory of this name is not known of this host", target=disk["target"])
    if not _places.may_lie(path, directories(params)):
        return dict(disk, path=path)  # which the admission refuses; nothing is looked at there
    if _shared_storage.sees(os.path.dirname(path), params["probes"].get(os.path.dirname(disk["path"]))):
        return on_shared_storage(disk, path, params["probes"], directories(params))
    if disk["kind"] == "media" and os.path.lexists(path):
        stem, extension = os.path.splitext(path)
        path = _file_names.beside(stem, _file_names.OTHER_MEDIUM, {"uuid": params["migration_uuid"]}) + extension
    return dict(disk, path=path, volume=os.path.basename(path) if disk.get("pool") else None)


def apart(disks, params):
    """The same disks, of which a medium that is in several drives comes for each, under a name of its own."""
    found = []
    for number, disk in enumerate(disks):
        if disk["kind"] == "media" and not disk.get("shared") and disk["path"] in {other["path"] for other in found}:
            stem, extension = os.path.splitext(disk["path"])
            path = _file_names.beside(stem, _file_names.OTHER_DRIVE, {"uuid": params["migration_uuid"]}, number) + extension
            disk = dict(disk, path=path, volume=os.path.basename(path) if disk.get("pool") else None)
        found.append(disk)
    return found


def directories(params):
    return sorted({*params["image_directories"], params["images_path"]})


def beside_here(new, disk):
    """A disk that the operation adds, made on this host where the other one comes to lie, and in the same way."""
    name = os.path.basename(new["path"])
    return dict(new, path=os.path.join(os.path.dirname(disk["path"]), name), pool=disk["pool"], volume=name if disk["pool"] else None)


def on_shared_storage(disk, path, probes, allowed):
    """A disk that is here already: it stays the file that it is, so nothing may have to be changed in it."""
    if disk["grow_to"]:
        raise KvmfleetError(
            "shared_growth",
            f"{disk['target']}, {path}, lies on storage that the source shares with this host; growing it could not be reverted. Resize in place "
            "(allow_resize_to_same_host), or take a flavor with the same disk.",
            target=disk["target"],
        )
    for base in disk["bases"]:
        if not _places.may_lie(base["path"], allowed) or not _shared_storage.sees(os.path.dirname(base["path"]), probes.get(os.path.dirname(base["path"]))):
            raise KvmfleetError(
                "base_not_shared",
                f"{disk['target']}, {path}, lies on storage that the source shares with this host, but its base image {base['path']} does not lie "
                "there under the same path.",
                target=disk["target"],
            )
    _qemu_img.chain(path, disk["format"], allowed, force_share=True)
    return dict(disk, path=path, shared=True)


def new_record(conn, params):
    """What this host notes of the operation; nothing of it was looked at here before its form is known to be right."""
    _handed_plan.plan(params["plan"], params["requirements"], params["probes"])
    plan, disks = params["plan"], params["plan"]["disks"]
    new = plan.get("new_disks", [])
    if params["role"] == "destination":
        disks = [disk for disk in disks if not disk.get("left_behind")]
        answers = {answer["target"]: answer for answer in params["storage"]}
        disks = apart([here(conn, dict(disk, pool=answers[disk["target"]]["pool"]), answers[disk["target"]]["path"], params) for disk in disks], params)
        new = [beside_here(disk, next(there for there in disks if there["target"] == disk["beside"])) for disk in new]
    files = [*((disk["path"], one["path"]) for disk in disks for one in plan["disks"] if one["target"] == disk["target"])]
    files += [(path, path) for path in (plan["nvram"], *(log["path"] for log in plan.get("console_logs", ()))) if path]
    return dict(
        plan,
        directories=_directories.called_here(plan.get("directories", {}), files),
        probes=_shared_storage.draw(os.path.dirname(disk["path"]) for disk in disks if disk.get("shared")),
        uuid=params["migration_uuid"],
        owner=params["owner"],
        role=params["role"],
        destination_host=params["destination_host"],
        image_directories=directories(params),
        disks=disks,
        new_disks=new,
        mappings=params["mappings"],
        requirements=params["requirements"],
        requested_by=params["requested_by"],
        reason=params["reason"],
    )


def make_new_files(conn, journal, params):
    """Make directories and the disks that the flavor adds, now that the capacity for them is claimed; without them the claim is given back."""
    with journal.working(params["migration_uuid"], params["owner"]) as record:
        try:
            record = _admission.make_directories(conn, journal, record)
            _new_files.make(journal, record)
            return record
        except (KvmfleetError, OSError) as exc:
            if params["role"] == "destination":
                _withdrawing.withdraw(conn, journal, record, status="error", error=str(exc))
            raise


def foreseen(conn, journal, record, images_path):
    """What the claim and what follows it would make here, and leave alone, where this host has the places for it. All else is for the claim to find out."""
    _admission.require_places(record)
    store = _store.ImageStore(journal.state, images_path, record["image_directories"], _domains.writable_paths(conn))
    bases = {base["sha256"]: base for disk in record["disks"] if not disk.get("shared") for base in disk["bases"]}
    return {
        "changed": True,
        "directories": _directories.described(_directories.to_make(conn, journal.state, record)),
        "namesakes": sorted(filter(None, map(store.namesake, bases.values()))),
    }


def main():
    def act(module):
        params = module.params
        journal = Journal(StateDir(params["state_path"]), params["lease"])
        way = {} if module.check_mode else found_way(params["source_address"])
        with _connection.connect(params["uri"]) as conn:
            record = new_record(conn, params)
            if module.check_mode:
                return foreseen(conn, journal, record, params["images_path"])
            claim = _admission.admit(
                conn,
                journal,
                record,
                requirements=params["requirements"],
                images_path=params["images_path"],
                reserved=Reserved(**params["reserved"]),
                ratios=params["ratios"],
                dedicated=_cpu_set.parse(params["cpu_dedicated_set"], "cpu_dedicated_set"),
                secret_proofs=params["secret_proofs"],
                key=params["key"],
            )
            lacking = _secrets.lacking(conn, record.get("secrets", ()))
            made = make_new_files(conn, journal, params).get("made_directories", {})
        _shared_storage.write(record["probes"])
        # The source looks for them in the directories as it calls them.
        there = {disk["target"]: disk["path"] for disk in params["plan"]["disks"]}
        shared = {there[disk["target"]]: disk["path"] for disk in record["disks"] if disk.get("shared")}
        return {
            "changed": True,
            "claim": claim,
            "shared": [disk["target"] for disk in record["disks"] if disk.get("shared")],
            "probes": {os.path.dirname(at_source): record["probes"][os.path.dirname(path)] for at_source, path in shared.items()},
            "secrets": lacking,
            "directories": sorted(made),
            **way,
        }

    run(
        act,
        dict(
            OPERATION_ARGS,
            **AUDIT_ARGS,
            **STATE_ARGS,
            **LIBVIRT_ARGS,
            role={"type": "str", "choices": ["destination", "in_place"], "default": "destination"},
            plan={"type": "dict", "required": True},
            requirements={"type": "dict", "required": True},
            destination_host={"type": "str", "required": True},
            storage={"type": "list", "elements": "dict"},
            mappings={"type": "dict", "default": {}},
            probes={"type": "dict", "default": {}},
            secret_proofs={"type": "dict", "default": {}, "no_log": False},
            key={"type": "str", "no_log": True},
            source_address={"type": "str"},
            images_path={"type": "path", "default": "/var/lib/libvirt/images"},
            image_directories={"type": "list", "elements": "path", "default": ["/var/lib/libvirt/images"]},
            reserved={"type": "dict", "default": {}},
            cpu_dedicated_set={"type": "str", "default": ""},
            ratios={
                "type": "dict",
                "required": True,
                "options": {name: {"type": "float", "required": True} for name in ("cpu", "ram", "disk")},
            },
        ),
        required_if=[("role", "destination", ["storage"])],
    )


if __name__ == "__main__":
    main()
