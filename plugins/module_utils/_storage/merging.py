# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Merge the layers that an operation has laid over the disks of a guest, under the running guest too, and remove them.

That a disk is not our layer does not mean that it was merged: somebody may have made a snapshot over it, or have detached it. So every disk is looked at
before anything is merged, and a layer goes only once the guest is seen to be on the disk below and nobody else on the layer.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from .._domain import definition as _definition, edit as _edit
from .._libvirt import blocks as _blocks, definitions as _definitions, domains as _domains
from .._rules.errors import KvmfleetError
from . import disk_use as _disk_use, files as _files, qemu_img as _qemu_img
from .disk_use import DiskUses, Use

_SETTLE = 10.0  # seconds until what libvirt says of a disk is what QEMU has done
_POLL = 0.1


class Stack(NamedTuple):
    """A disk of the record, and the paths of the layers that may lie on it, the newest first."""

    disk: dict[str, Any]
    layers: list[str]


def tops(conn: Any, uses: DiskUses, record: dict[str, Any], stacks: Iterable[Stack]) -> dict[str, str]:
    """Target -> the newest layer of each disk that has yet to be merged. The others were merged, or never had one.

    :raises KvmfleetError: `layer_covered`, `layer_has_snapshots`, `disk_in_use_by`, `block_job_active`, where merging would harm anybody.
    """
    domain = _domains.find_domain(conn, record["instance_uuid"])
    found = {}
    for stack in stacks:
        _require_of_no_other(uses, record, stack)
        top = _lying_free(stack) if domain is None else _of_guest(conn, domain, stack)
        # One above the top is what a killed module has left of a round: nothing yet.
        for path in filter(os.path.lexists, stack.layers[stack.layers.index(top) :] if top is not None else ()):
            _qemu_img.assert_no_snapshots(path)
        _require_uncovered(uses, record, stack, top, domain)
        if top is not None:
            uses.require_unused([stack.disk["path"]], operation=record["uuid"], guest=record["instance_uuid"])
            if domain is not None:
                _require_no_other_job(domain, stack.disk, top)
            found[stack.disk["target"]] = top
    return found


def merge(conn: Any, record: dict[str, Any], disk: dict[str, Any], top: str, *, timeout: float) -> None:
    """Merge what `tops` has found into the disk; a running guest goes on running, and is on the disk then.

    :param timeout: seconds without progress after which it is given up (it can be repeated).
    :raises KvmfleetError: `commit_failed`, `commit_stalled`, `block_job_active`, and those of `_storage.qemu_img.chain`.
    """
    domain = _domains.find_domain(conn, record["instance_uuid"])
    if domain is not None and _domains.is_active(domain):
        _commit_live(domain, disk, top, timeout)
        return
    _qemu_img.chain(top, "qcow2", record["image_directories"])  # qemu-img opens whatever a header names
    _qemu_img.commit(top, disk["path"])
    if domain is not None:
        root = _definition.parse(_definitions.inactive_xml(domain))
        _edit.set_disk_source(root, disk["target"], disk["path"], disk["format"])
        _definitions.define(conn, _edit.to_string(root))


def remove(uses: DiskUses, record: dict[str, Any], stacks: Sequence[Stack]) -> None:
    """Remove all layers, of which nothing is needed any more.

    :raises KvmfleetError: `layer_covered`.
    """
    layers = [path for stack in stacks for path in stack.layers]
    _files.remove(uses, layers, operation=record["uuid"], code="layer_covered", advice=_disk_use.DETACH)


def require_on_top(conn: Any, uses: DiskUses, record: dict[str, Any], domain: Any, stacks: Iterable[Stack]) -> None:
    """Nothing lies over the layers of a guest whose layers are to be thrown away, and no snapshot needs one.

    :raises KvmfleetError: `layer_covered`.
    """
    for stack in stacks:
        if uses.of(filter(os.path.lexists, stack.layers), operation=record["uuid"], processes=False):
            places = _places(conn, domain, stack.disk["target"])
            if not {place for place in places if place is not None} <= set(map(os.path.realpath, (*stack.layers, stack.disk["path"]))):
                raise _covered(domain, stack, places)
            _require_uncovered(uses, record, stack, _lying_free(stack), domain)


def _lying_free(stack: Stack) -> str | None:
    """The newest layer of a disk that is there."""
    return next(filter(os.path.lexists, stack.layers), None)


def _of_guest(conn: Any, domain: Any, stack: Stack) -> str | None:
    """The layer that the guest is on; None if it is on the disk itself.

    :raises KvmfleetError: `layer_covered` where it is on something else.
    """
    places = _places(conn, domain, stack.disk["target"])
    for path in (*stack.layers, stack.disk["path"]):
        if {os.path.realpath(path)} == set(places):
            return path if path in stack.layers else None
    if _lying_free(stack) is not None:
        raise _covered(domain, stack, places)
    return None  # there is nothing that could be lost


def _places(conn: Any, domain: Any, target: str) -> list[str | None]:
    """The real path of a disk in the definition, and as it runs."""
    found = [_disk_use.place(conn, xml, target) for xml in (_definitions.inactive_xml(domain, secure=False), _definitions.live_xml(domain))]
    return [None if path is None else os.path.realpath(path) for path in found]


def _covered(domain: Any, stack: Stack, places: Sequence[str | None]) -> KvmfleetError:
    target, newest = stack.disk["target"], _lying_free(stack)
    known = (None, *map(os.path.realpath, (stack.disk["path"], *stack.layers)))
    above = next((place for place in places if place not in known), None)
    if above is None:
        where = f"{places[0] or 'missing'} in the definition and {places[1] or 'missing'} as it runs"
        again = f"virsh attach-disk {domain.name()} {newest} {target} --driver qemu --subdriver qcow2 --persistent"
        advice = f"Let it be {newest} again ({again}), or revert"
    else:
        where = f"{above}, which somebody has laid over it or put in its place"
        merging = f"virsh blockcommit {domain.name()} {target} --active --pivot --wait --top {above} --base {newest}"
        advice = f"If it lies over it, merge it ({merging}), and delete what libvirt knows of such a snapshot (virsh snapshot-delete --metadata)"
    return KvmfleetError(
        "layer_covered",
        f"Disk {target} of {domain.name()} is {where}, but the layer {newest} of this operation has not been merged into {stack.disk['path']} yet. Nothing "
        f"was merged or removed. {advice}, and repeat.",
        path=newest,
        have=places[0],
        need=newest,
    )


def _require_of_no_other(uses: DiskUses, record: dict[str, Any], stack: Stack) -> None:
    """No other guest is on the layers. That is asked first: a disk that another one got shall not be advised to be given back while that one runs on it."""
    _refuse_users(stack, uses.of(filter(os.path.lexists, stack.layers), operation=record["uuid"], guest=record["instance_uuid"]))


def _require_uncovered(uses: DiskUses, record: dict[str, Any], stack: Stack, top: str | None, domain: Any) -> None:
    """Nobody but the guest is on the layers, and the guest only if it is on top of them."""
    own_process = top is not None and domain is not None and _domains.is_active(domain)
    found = uses.of(filter(os.path.lexists, stack.layers), operation=record["uuid"], processes=not own_process)
    own = {"runs", "defined"} if top is not None else set()
    _refuse_users(stack, {path: [use for use in of_path if use.guest != record["instance_uuid"] or use.kind not in own] for path, of_path in found.items()})


def _refuse_users(stack: Stack, found: dict[str, list[Use]]) -> None:
    """:raises KvmfleetError: `layer_covered`, naming them, unless there are none."""
    used = {path: uses for path, uses in found.items() if uses}
    if used:
        names = list(dict.fromkeys(use.who for uses in used.values() for use in uses))
        raise KvmfleetError(
            "layer_covered",
            f"{', '.join(used)}: a layer of this operation over {stack.disk['path']} is used by {', '.join(names)}. Nothing was merged or removed. Detach it "
            "there, or merge and delete what lies over it or names it (virsh blockcommit, virsh snapshot-delete), and repeat.",
            path=next(iter(used)),
            used_by=names,
        )


def _require_no_other_job(domain: Any, disk: dict[str, Any], top: str) -> None:
    job = _blocks.block_job(domain, disk["target"]) if _domains.is_active(domain) else None
    if job is not None and not _is_ours(job, disk, top):
        raise KvmfleetError(
            "block_job_active",
            f"A block job of somebody else ({job}) works on disk {disk['target']} of {domain.name()}, so {top} is not merged now. Let it end, or abort it "
            f"(virsh blockjob {domain.name()} {disk['target']} --abort), and repeat.",
            instance=domain.name(),
            target=disk["target"],
        )


def _is_ours(job: _blocks.BlockJob, disk: dict[str, Any], top: str) -> bool:
    """Whether it merges our layer into our disk; one that a killed module has left is."""
    same = [job.into is not None and os.path.realpath(job.into) == os.path.realpath(disk["path"])]
    same.append(job.disk is not None and os.path.realpath(job.disk) == os.path.realpath(top))
    return job.active_commit and all(same)


def _commit_live(domain: Any, disk: dict[str, Any], top: str, timeout: float) -> None:
    """The base of the commit is always named: without it libvirt would commit the whole chain into the image that guests share."""
    target, base = disk["target"], disk["path"]
    _require_no_other_job(domain, disk, top)
    if _blocks.block_job(domain, target) is None:
        _blocks.begin_commit(domain, target, base=base, top=top)
    progress, since = None, time.monotonic()
    while True:
        job = _blocks.block_job(domain, target)
        if job is None:
            raise KvmfleetError("commit_failed", f"Merging {top} into {base} ended before it was complete; see the log of {domain.name()}.", path=top)
        _require_no_other_job(domain, disk, top)
        if job.ready and _blocks.pivot(domain, target):
            break
        if job.done != progress:
            progress, since = job.done, time.monotonic()
        elif time.monotonic() - since > timeout:
            # The job never takes the guest off its layer by itself, so that it may go on: whoever comes next takes it up.
            raise KvmfleetError(
                "commit_stalled",
                f"Merging {top} into {base} made no progress for {timeout:g} s. The guest runs on the layer, and the merge waits in QEMU for the next try "
                f"(virsh blockjob {domain.name()} {disk['target']} shows it, and ends it with --abort).",
                path=top,
            )
        time.sleep(_POLL)
    _require_on(domain, disk, top)


def _require_on(domain: Any, disk: dict[str, Any], top: str) -> None:
    """The guest is on the disk, as it runs and in its definition."""
    deadline = time.monotonic() + _SETTLE
    while set(places := _places(domain.connect(), domain, disk["target"])) != {os.path.realpath(disk["path"])}:
        if time.monotonic() >= deadline:
            raise KvmfleetError(
                "commit_failed",
                f"Disk {disk['target']} of {domain.name()} should be {disk['path']} after {top} was merged into it, but it is {places[0]} in its definition "
                f"and {places[1]} as it runs. Nothing was removed; see the log of {domain.name()}.",
                path=top,
                have=places,
                need=disk["path"],
            )
        time.sleep(_POLL)
