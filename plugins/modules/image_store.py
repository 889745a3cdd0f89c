#!/usr/bin/python
# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: image_store
short_description: List the base images that were fetched to a host, and remove unused ones
version_added: 0.1.0
description:
  - Lists the files of the directory C(_base) below O(images_path), where M(kvmfleet.compute.base_image) puts what it fetches, with what uses them.
  - With O(older_than) or O(keep_bytes) it removes images that nothing on the host uses. No other file is ever removed.
  - An image is used while anything refers to it, which is a guest, running or not, with any layer of its disks or a snapshot, the record of an operation
    that is not closed, with its sealed copy, a channel that shows the image, a fetch or look that runs, or any qcow2 file in O(images_path) or
    O(image_directories), whoever it belongs to.
  - Hosts may share O(images_path). What others of them use is known where they were asked for the O(digests) of all images, and their answers are given
    as O(elsewhere), as the playbook C(kvmfleet.compute.images) does.
  - It is checked under the lock under which images are fetched, so that an operation never loses an image that it has found.
options:
  older_than:
    description:
      - Remove only images that were not used for so many days, also as a fraction. V(0) is any age.
      - What counts is when the file was written, and when the last operation on a guest with this base image was recorded on the host.
    type: float
  keep_bytes:
    description:
      - Remove unused images only until all images together take no more than so many bytes of the disk, also as V(50G). V(0) removes all unused ones.
      - Those go first that were not used for longest. With O(older_than) too, both must hold.
    type: bytes
  images_path:
    description: Directory of guest images, with C(_base) in it.
    type: path
    default: /var/lib/libvirt/images
  image_directories:
    description: Further directories in which disks of guests may lie. Images are looked for uses in all levels of them.
    type: list
    elements: path
    default: [/var/lib/libvirt/images]
  digests:
    description: SHA-256 of images that other hosts have. What this host uses of them is returned as RV(answer).
    type: list
    elements: str
    default: []
  elsewhere:
    description:
      - What other hosts use, which have been asked for O(digests).
      - It counts for an image here that is the same file, by its length and time, and where no file was found.
      - Required to remove anything. It is V([]) for a host that shares nothing with any other.
    type: list
    elements: dict
    suboptions:
      host:
        description: Inventory name of the host.
        type: str
        required: true
      asked:
        description: C(asked) of its RV(answer). No image is removed that the host was not asked about.
        type: list
        elements: str
        required: true
      uses:
        description: C(uses) of its RV(answer).
        type: dict
        required: true
      unreadable:
        description: C(unreadable) of its RV(answer).
        type: dict
        default: {}
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
  idempotent:
    support: full
  platform:
    support: full
    platforms: linux
extends_documentation_fragment:
  - kvmfleet.compute.attributes
  - kvmfleet.compute.hanging
  - kvmfleet.compute.state
  - kvmfleet.compute.libvirt
author: kvmfleet contributors (@kvmfleet)
"""

EXAMPLES = r"""
- name: Which base images were fetched, and who uses them?
  kvmfleet.compute.image_store:
  register: store

- name: Remove what nobody has used for a month, while the images take more than 100 GiB
  kvmfleet.compute.image_store:
    older_than: 30
    keep_bytes: 100G
    elsewhere: []  # of a host that shares nothing
"""

RETURN = r"""
images:
  description: The images that were found, removed ones included.
  type: list
  elements: dict
  returned: success
  contains:
    path:
      description: Where.
      type: str
    sha256:
      description: What it contains, or is to contain.
      type: str
    format:
      description: V(qcow2) or V(raw).
      type: str
    partial:
      description: Whether it is what a fetch that was interrupted has left, or one that runs has brought so far.
      type: bool
    virtual_size:
      description: Size in bytes that a guest sees. V(null) for a partial one.
      type: int
    size_bytes:
      description: Length of the file.
      type: int
    bytes:
      description: Bytes that it takes on the disk.
      type: int
    last_used:
      description: When it was written or last had to do with an operation, in seconds since the epoch.
      type: float
    modified:
      description: When the file was written, in seconds since the epoch.
      type: float
    fetched_by:
      description: Of a partial one, eight digits of the host that it belongs to. V(null) for any other.
      type: str
    used_by:
      description: What refers to it, in words, also on other hosts where O(elsewhere) tells. Empty for an unused one.
      type: list
      elements: str
    removed:
      description: Whether it was removed, or would be in check mode.
      type: bool
bytes:
  description: What the images take on the disk that are left.
  type: int
  returned: success
freed_bytes:
  description: What the removed ones took.
  type: int
  returned: success
answer:
  description: What this host has to say to the others, as an element of their O(elsewhere).
  type: dict
  returned: success
  contains:
    host:
      description: O(host).
      type: str
    asked:
      description: O(digests).
      type: list
      elements: str
    uses:
      description: For each of O(digests) that anything here refers to, what does, and length and time of each file that it refers to.
      type: dict
    unreadable:
      description: RV(unreadable).
      type: dict
kept:
  description: Leftovers, the disks of copies that broke, which wait for the next operation of their instance. With a limit, those that are old go.
  type: list
  elements: dict
  returned: success
  contains:
    instance_uuid:
      description: Of which instance.
      type: str
    instance_name:
      description: Its name.
      type: str
    files:
      description: Where.
      type: list
      elements: str
    bytes:
      description: What they take on the disk.
      type: int
    kept_at:
      description: Since when, in seconds since the epoch.
      type: float
    expires_at:
      description: Until when.
      type: float
unreadable:
  description: Disks of guests that cannot be read, such as on storage that is not mounted, with the reason. While there are any, nothing is removed.
  type: dict
  returned: success
error_code:
  description: >-
    V(host_hangs), V(run_gone),
    V(uses_unknown) without O(elsewhere), or if there are images to be removed and disks whose base images cannot be known, V(invalid_value)
    for negative numbers, V(invalid_directory).
  type: str
  returned: failure
"""

import time
from dataclasses import asdict

from ansible_collections.kvmfleet.compute.plugins.module_utils._journal.state_dir import StateDir
from ansible_collections.kvmfleet.compute.plugins.module_utils._libvirt import connection as _connection
from ansible_collections.kvmfleet.compute.plugins.module_utils._module import LIBVIRT_ARGS, STATE_ARGS, run
from ansible_collections.kvmfleet.compute.plugins.module_utils._rules.errors import KvmfleetError
from ansible_collections.kvmfleet.compute.plugins.module_utils._storage import eviction as _eviction, leftovers as _leftovers


def chosen(params, images, unreadable):
    limits = {name: params[name] for name in ("older_than", "keep_bytes")}
    if any(value is not None and value < 0 for value in limits.values()):
        raise KvmfleetError("invalid_value", "older_than, keep_bytes: expected a number that is not negative.")
    if all(value is None for value in limits.values()):
        return []
    going = _eviction.choose(images, time.time(), **limits)
    if params["elsewhere"] is None:
        raise KvmfleetError(
            "uses_unknown",
            "elsewhere: nobody has asked the other hosts what they use, and they may share this directory. Use the playbook kvmfleet.compute.images, or give "
            "an empty list for a host that shares nothing.",
        )
    unreadable = {**unreadable, **{f"{disk} on {other['host']}": reason for other in params["elsewhere"] for disk, reason in other["unreadable"].items()}}
    unasked = sorted(other["host"] for other in params["elsewhere"] if {image.sha256 for image in going} - set(other["asked"]))
    if unasked:
        raise KvmfleetError(
            "uses_unknown",
            f"{', '.join(unasked)} had not been asked about all images that are to be removed, so none is. Every host of the group has to list its images "
            "before any is asked what it uses: use the strategy linear, and no serial, as the playbook kvmfleet.compute.images does.",
            hosts=unasked,
        )
    if going and unreadable:
        reasons = "; ".join(f"{disk}: {reason}" for disk, reason in sorted(unreadable.items()))
        raise KvmfleetError(
            "uses_unknown",
            f"Nobody can tell which base images these disks stand on ({reasons}), so none is removed. Make them readable, or undefine the guests.",
            disks=unreadable,
        )
    return going


def list_and_remove(conn, module):
    params = module.params
    state = StateDir(params["state_path"])
    asked = {"sha256s": params["digests"], "elsewhere": params["elsewhere"] or ()}
    with _eviction.examined(conn, state, params["images_path"], params["image_directories"], **asked) as (images, uses):
        going = chosen(params, images, uses.unreadable)
        if not module.check_mode:
            _eviction.remove(state, going)
    wanted = params["older_than"] is not None or params["keep_bytes"] is not None
    expired = _leftovers.expired(state) if wanted else []
    leftovers = [one for one in _leftovers.listed(state) if one["instance_uuid"] not in expired]
    if not module.check_mode:
        _leftovers.drop(state, *expired)
    left = [image for image in images if image not in going]
    return {
        "changed": bool(going or expired),
        "images": [dict(asdict(image), removed=image in going) for image in images],
        "bytes": sum(image.bytes for image in left),
        "freed_bytes": sum(image.bytes for image in going),
        "kept": leftovers,
        "unreadable": uses.unreadable,
        "answer": {
            "host": params["host"],
            "asked": params["digests"],
            "uses": {sha256: {by: sorted(files) for by, files in found.items()} for sha256, found in uses.of_contents.items() if found},
            "unreadable": uses.unreadable,
        },
        "diff": {"before": {"images": [image.path for image in images]}, "after": {"images": [image.path for image in left]}},
    }


def main():
    def act(module):
        with _connection.connect(module.params["uri"]) as conn:
            return list_and_remove(conn, module)

    run(
        act,
        dict(
            STATE_ARGS,
            **LIBVIRT_ARGS,
            older_than={"type": "float"},
            keep_bytes={"type": "bytes"},
            images_path={"type": "path", "default": "/var/lib/libvirt/images"},
            image_directories={"type": "list", "elements": "path", "default": ["/var/lib/libvirt/images"]},
            digests={"type": "list", "elements": "str", "default": []},
            elsewhere={
                "type": "list",
                "elements": "dict",
                "options": {
                    "host": {"type": "str", "required": True},
                    "asked": {"type": "list", "elements": "str", "required": True},
                    "uses": {"type": "dict", "required": True},
                    "unreadable": {"type": "dict", "default": {}},
                },
            },
        ),
    )


if __name__ == "__main__":
    main()
