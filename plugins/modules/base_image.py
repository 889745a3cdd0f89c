#!/usr/bin/python
# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: base_image
short_description: Make sure that a host holds a base image, known by its content
version_added: 0.1.0
description:
  - Looks for a base image by SHA-256, format and virtual size, whatever its name, and fetches it through a channel if the host lacks it.
  - A file of the same path with other content is refused, never replaced and never used.
options:
  sha256:
    description: SHA-256 of the file's bytes, in hexadecimal.
    type: str
    required: true
  format:
    description: Image format. Never probed.
    type: str
    choices: [qcow2, raw]
    required: true
  virtual_size:
    description: Size in bytes that a guest sees.
    type: int
    required: true
  size_bytes:
    description: Size of the file in bytes.
    type: int
    required: true
  path:
    description: Where the source of the operation has it. A first place to look, and the name that must not be taken by other content.
    type: path
    required: true
  images_path:
    description: Directory of guest images. Fetched base images are stored below C(_base) in it, named by their content.
    type: path
    default: /var/lib/libvirt/images
  image_directories:
    description: Directories that are searched, all levels.
    type: list
    elements: path
    default: [/var/lib/libvirt/images]
  address:
    description: Address of the channel to fetch from. Without it, a missing base image is only reported.
    type: str
  port:
    description: TCP port of the channel.
    type: int
  key:
    description: One-time key of the channel.
    type: str
  migration_uuid:
    description: UUID of the operation to which the channel belongs.
    type: str
  owner:
    description: Identifies the run that fetches. While it does, and for a lease after that, no other run can take the operation over.
    type: str
  lease:
    description: Seconds for which the operation belongs to O(owner) after the fetch without a further sign of life.
    type: float
    default: 30.0
  stall_timeout:
    description: Seconds without progress after which a fetch is given up.
    type: float
    default: 60.0
extends_documentation_fragment:
  - kvmfleet.compute.attributes
  - kvmfleet.compute.attributes.operation_module
  - kvmfleet.compute.state
  - kvmfleet.compute.libvirt
author: kvmfleet contributors (@kvmfleet)
"""

EXAMPLES = r"""
- name: Does this host hold the base image?
  kvmfleet.compute.base_image:
    sha256: 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08
    format: qcow2
    virtual_size: 2147483648
    size_bytes: 402653184
    path: /var/lib/libvirt/images/debian-12.qcow2
  register: base
"""

RETURN = r"""
held:
  description: Whether the host holds the base image (now).
  type: bool
  returned: success
path:
  description: Where. V(null) if it is not held.
  type: str
  returned: success
bytes_transferred:
  description: Bytes of data that travelled for it.
  type: int
  returned: success
error_code:
  description: V(base_differs) if a file of the same path has other content, V(copy_failed), V(copy_stalled), V(no_space) or V(not_owner).
  type: str
  returned: failure
"""

from ansible_collections.kvmfleet.compute.plugins.module_utils import _image_store, _libvirt
from ansible_collections.kvmfleet.compute.plugins.module_utils._journal import Journal
from ansible_collections.kvmfleet.compute.plugins.module_utils._module import LIBVIRT_ARGS, STATE_ARGS, run
from ansible_collections.kvmfleet.compute.plugins.module_utils._pull import Client
from ansible_collections.kvmfleet.compute.plugins.module_utils._state_dir import StateDir


def main():
    def act(module):
        params = module.params
        state = StateDir(params["state_path"])
        base = {key: params[key] for key in ("sha256", "format", "virtual_size", "size_bytes", "path")}
        with _libvirt.connect(params["uri"]) as conn:
            store = _image_store.ImageStore(state, params["images_path"], params["image_directories"], _libvirt.writable_paths(conn))
        path = store.find(base)
        if path is None:
            store.refuse_impostor(base)
        if path is not None or params["address"] is None or module.check_mode:
            return {"changed": path is None and params["address"] is not None, "held": path is not None, "path": path, "bytes_transferred": 0}
        channel = {key: params[key] for key in ("address", "port", "key", "stall_timeout")}
        journal = Journal(state, params["lease"])
        with journal.working(params["migration_uuid"], params["owner"]) as record, Client(state, record["uuid"], **channel) as client:
            path, sent = store.fetch(base, client)
            journal.update(record, note="base image fetched")
        return {"changed": True, "held": True, "path": path, "bytes_transferred": sent}

    run(
        act,
        dict(
            STATE_ARGS,
            **LIBVIRT_ARGS,
            sha256={"type": "str", "required": True},
            format={"type": "str", "choices": ["qcow2", "raw"], "required": True},
            virtual_size={"type": "int", "required": True},
            size_bytes={"type": "int", "required": True},
            path={"type": "path", "required": True},
            images_path={"type": "path", "default": "/var/lib/libvirt/images"},
            image_directories={"type": "list", "elements": "path", "default": ["/var/lib/libvirt/images"]},
            address={"type": "str"},
            port={"type": "int"},
            key={"type": "str", "no_log": True},
            migration_uuid={"type": "str"},
            owner={"type": "str"},
            lease={"type": "float", "default": 30.0},
            stall_timeout={"type": "float", "default": 60.0},
        ),
        required_together=[("address", "port", "key", "migration_uuid", "owner")],
    )


if __name__ == "__main__":
    main()
