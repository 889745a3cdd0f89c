# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What becomes of each disk of a guest on the host that placement chose: where it comes to lie there, and why."""

from __future__ import annotations

import posixpath
from collections.abc import Mapping
from typing import Any

from ansible_collections.kvmfleet.compute.plugins.plugin_utils.planning import mapping

COPIED, LAYERED, LEFT = "copied", "layered", "left"


def needs(domain: Mapping[str, Any], source: Mapping[str, Any]) -> dict[str, list[str]]:
    """The `pools` and the named `directories` that a host must have for the disks."""
    disks = _disks(domain)
    directories = {_directory(disk["path"], source)[0] for disk in disks if disk["path"] and not disk.get("pool")}
    return {"pools": sorted({disk["pool"] for disk in disks if disk.get("pool")}), "directories": sorted(filter(None, directories))}


def files(domain: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The disks that are files here, and the files that the guest boots from; empty drives are left out."""
    return [disk for disk in (*domain["disks"], *domain.get("boot_files", ())) if disk["path"]]


def place(
    domain: Mapping[str, Any], source: Mapping[str, Any], destination: Mapping[str, Any], translation: mapping.Names = mapping.SAME
) -> list[dict[str, Any]]:
    """The answer for each disk: `target`, `what` (copied, layered, left), `source` and `path` (before and after), `pool`, `reason`, and all as `text`.

    :param source: facts of the guest's host; :param destination: facts of the host that placement chose, which may be the same.
    :param translation: what `mapping.translated` says of the destination; the `pool` of an answer is the one there.
    """
    answers = []
    for disk in _disks(domain):
        answer = {"target": disk["target"], "source": disk["path"], "path": disk["path"], "pool": mapping.of(translation, "pools", disk.get("pool"))}
        answer.update(_answer(disk, source, destination, answer["pool"]))
        where = f" from {answer['source']} to {answer['path'] or 'where the pool is'}" if answer["what"] == COPIED else ""
        answers.append({**answer, "text": f"{answer['target']}: {answer['what']}{where} ({answer['reason']})"})
    return answers


def _disks(domain: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [*files(domain), *(disk for disk in domain["disks"] if disk.get("network"))]


def _answer(disk: Mapping[str, Any], source: Mapping[str, Any], destination: Mapping[str, Any], pool: str | None) -> dict[str, Any]:
    if disk.get("network"):
        return {"what": LEFT, "reason": f"{disk['network']['protocol']} storage stays as it is, and a revert does not bring back what it held"}
    if source["host"] == destination["host"]:
        if disk["readonly"] or disk["device"] != "disk":
            return {"what": LEFT, "reason": "the guest only reads it"}
        return {"what": LAYERED, "reason": "it stays on this host, under a new layer until confirm or revert"}
    name, directory = _directory(disk["path"], source)
    if pool:
        there = next((known["path"] for known in destination.get("pools") or () if known["name"] == pool), None)
        path, reason = there and posixpath.join(there, disk["volume"]), f"volume {disk['volume']} of the storage pool {pool}"
    elif name is not None:
        path, reason = _moved(disk["path"], directory, _named(destination).get(name)), f"directory {name} of kvmfleet_disk_directories"
    elif directory is not None:
        path, reason = _moved(disk["path"], directory, destination.get("images_path")), "directory of images"
    else:
        path, reason = disk["path"], "a directory that has no name in kvmfleet_disk_directories, so the path stays"
    return {"what": COPIED, "path": path, "reason": reason}


def _directory(path: str, host: Mapping[str, Any]) -> tuple[str | None, str | None]:
    """The directory of the host that the path is in, the innermost one, after its name, which that of images has not."""
    images = [(None, host["images_path"])] if host.get("images_path") else []
    found = [(name, directory) for name, directory in (*_named(host).items(), *images) if posixpath.normpath(path).startswith(directory.rstrip("/") + "/")]
    return max(found, key=lambda entry: len(entry[1].rstrip("/")), default=(None, None))


def _named(host: Mapping[str, Any]) -> dict[str, str]:
    return {directory["name"]: directory["path"] for directory in host.get("disk_directories") or ()}


def _moved(path: str, directory: str, to: str | None) -> str | None:
    """The same place below another directory; None where the facts do not tell it, for the claim to refuse."""
    return to and posixpath.join(to, posixpath.relpath(path, directory))
