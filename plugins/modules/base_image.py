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
  - Looks for a base image by SHA-256, format and virtual size, whatever its name, and fetches it through a channel or from an image store if the host
    lacks it.
  - A file of the same path with other content is left alone, never replaced and never used, and RV(namesake) names it. What was fetched is proven by its
    content before it is used.
  - One process of a host fetches an image; others that look for it wait and find it.
options:
  sha256:
    description:
      - SHA-256 of the file's bytes, in hexadecimal. For a layer with a O(backing), the identity that M(kvmfleet.compute.domain_info) tells.
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
    description: Where the source of the operation has it. A first place to look.
    type: path
    required: true
  backing:
    description:
      - The base image that this one is a layer on, of which this host must hold a copy before it fetches the layer. What is fetched is put on that copy, so
        the file differs from the source's in the name of the file below, and in nothing else.
    type: dict
    suboptions:
      sha256:
        description: As O(sha256).
        type: str
        required: true
      format:
        description: As O(format).
        type: str
        choices: [qcow2, raw]
        required: true
      virtual_size:
        description: As O(virtual_size).
        type: int
        required: true
      size_bytes:
        description: As O(size_bytes).
        type: int
        required: true
      path:
        description: As O(path).
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
    description: Address of the channel to fetch from. With neither this nor O(url), a missing base image is only reported.
    type: str
  port:
    description: TCP port of the channel.
    type: int
  key:
    description: One-time key of the channel.
    type: str
  url:
    description:
      - Image store to fetch from, with C(http), C(https) or C(file) (a path of this host), such as V(https://images.example.com/base).
      - C({sha256}), C({format}) and C({name}) (of O(path), without directories) in it are replaced. Without any of them, C(/SHA256.FORMAT) is added, so
        that the directory C(_base) of a host can be a store as it is.
      - A connection that breaks is made again and goes on where it broke (HTTP range requests), and so does a later fetch where one was killed.
      - User and password are no part of it. They belong into C(~/.netrc) of the host.
    type: str
  bandwidth_limit:
    description: Bytes a second to take from O(url), also as V(100M). V(0) is no limit. A channel has a limit of its own.
    type: bytes
    default: "0"
  source_address:
    description: Address of a host to fetch from, to learn RV(local_address).
    type: str
  progress_interval:
    description: While a fetch runs, Ansible says after each of so many seconds how far it is. V(0) says nothing. Shorter ones cost no further round trip.
    type: float
    default: 10.0
  migration_uuid:
    description: UUID of the operation for which the base image is looked for or fetched. Required to fetch.
    type: str
  owner:
    description: Identifies the run. While it waits or fetches, and for a lease after that, no other run can take the operation over.
    type: str
  lease:
    description: Seconds for which the operation belongs to O(owner) after that without a further sign of life.
    type: float
    default: 30.0
  stall_timeout:
    description:
      - Seconds without progress after which a fetch is given up. One that breaks goes on within them, and what has come by then is kept for the next fetch.
    type: float
    default: 60.0
extends_documentation_fragment:
  - kvmfleet.compute.attributes
  - kvmfleet.compute.hanging
  - kvmfleet.compute.attributes.operation_module
  - kvmfleet.compute.operation.connection
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

- name: Fetch it from an image store for an operation that has claimed this host
  kvmfleet.compute.base_image:
    sha256: 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08
    format: qcow2
    virtual_size: 2147483648
    size_bytes: 402653184
    path: /var/lib/libvirt/images/debian-12.qcow2
    url: https://images.example.com/base
    migration_uuid: "{{ migration_uuid }}"
    owner: "{{ owner }}"
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
  description: Bytes of data that travelled for it. V(0) if it was there or another process fetched it.
  type: int
  returned: success
namesake:
  description: O(path), where that is a file of other content on this host. It was left alone. V(null) otherwise.
  type: str
  returned: success
local_address:
  description: Address from which this host reaches O(source_address). V(null) without that, and where it has no way there.
  type: str
  returned: success
source_address:
  description: The address that O(source_address) means to this host, which it can reach as far as its routes tell. V(null) if RV(local_address) is.
  type: str
  returned: success
no_way:
  description: Why this host has no way to O(source_address). The copy can travel through a tunnel then.
  type: str
  returned: success
error_code:
  description:
    - V(host_hangs), V(run_gone),
      V(base_differs) if what was fetched has other content, or both names in the store are taken by such, V(base_missing) if this host lacks
      O(backing), V(copy_failed), V(copy_stalled), V(no_space), V(no_route), V(invalid_directory) or V(not_owner).
    - From O(url), V(download_broke) if it can go on later, else V(download_refused), and V(invalid_value) for what is no URL.
  type: str
  returned: failure
"""

import contextlib

from ansible.module_utils.urls import ConnectionError as UrlError, open_url

from ansible_collections.kvmfleet.compute.plugins.module_utils._channel.checksums import data_bytes
from ansible_collections.kvmfleet.compute.plugins.module_utils._channel.listening import found_way
from ansible_collections.kvmfleet.compute.plugins.module_utils._channel.pull import Client
from ansible_collections.kvmfleet.compute.plugins.module_utils._journal import progress as _progress
from ansible_collections.kvmfleet.compute.plugins.module_utils._journal.records import Journal
from ansible_collections.kvmfleet.compute.plugins.module_utils._journal.state_dir import StateDir
from ansible_collections.kvmfleet.compute.plugins.module_utils._libvirt import connection as _connection, domains as _domains
from ansible_collections.kvmfleet.compute.plugins.module_utils._module import LIBVIRT_ARGS, STATE_ARGS, run
from ansible_collections.kvmfleet.compute.plugins.module_utils._storage import store as _store
from ansible_collections.kvmfleet.compute.plugins.module_utils._storage.download import Download, url_of

IMAGE_ARGS = {
    "sha256": {"type": "str", "required": True},
    "format": {"type": "str", "choices": ["qcow2", "raw"], "required": True},
    "virtual_size": {"type": "int", "required": True},
    "size_bytes": {"type": "int", "required": True},
    "path": {"type": "path", "required": True},
}


def open_http(url, headers, timeout):
    """Follows ten redirects at most, as urllib does; what authorizes the request is not handed on by them."""
    try:
        return open_url(url, headers=headers, timeout=timeout, follow_redirects="safe", decompress=False, unredirected_headers=["Authorization"])
    except UrlError as exc:
        raise OSError(str(exc)) from exc


def fetch(params, state, store, base):
    if params["url"] is not None:
        limits = {name: params[name] for name in ("stall_timeout", "bandwidth_limit")}
        with _progress.shown(state, params["migration_uuid"]) as progress:
            progress.begin(base["size_bytes"])
            return store.fetch(base, Download(url_of(params["url"], base), open_http, reached=progress.reached, **limits).fill)
    channel = {key: params[key] for key in ("address", "port", "key", "stall_timeout")}
    with Client(state, params["migration_uuid"], **channel) as client:

        def fill(part, size):
            client.progress.begin(size)
            client.copy_persistently(f"base-{base['sha256']}", part, size, size)
            client.settle()
            return max(0, data_bytes(part) - client.spared)

        return store.fetch(base, fill)


@contextlib.contextmanager
def working(params, state):
    """The operation belongs to its run while this host waits or fetches for it, and for a lease after that, also when that failed."""
    journal = Journal(state, params["lease"])
    with journal.working(params["migration_uuid"], params["owner"]) as record:
        try:
            yield
        finally:
            journal.update(record, note="looked for a base image")


def provide(params, state, check_mode):
    base = {key: params[key] for key in ("sha256", "format", "virtual_size", "size_bytes", "path", "backing")}
    with _connection.connect(params["uri"]) as conn:
        store = _store.ImageStore(state, params["images_path"], params["image_directories"], _domains.writable_paths(conn))
    path, sent = store.look(base), 0
    wanted = path is None and (params["address"] is not None or params["url"] is not None)
    if wanted and not check_mode:
        path, sent = fetch(params, state, store, base)
    namesake = None if path == base["path"] else store.namesake(base)
    return {"changed": wanted, "held": path is not None, "path": path, "bytes_transferred": sent, "namesake": namesake}


def main():
    def act(module):
        params = module.params
        state = StateDir(params["state_path"])
        way = found_way(params["source_address"])
        with contextlib.nullcontext() if params["migration_uuid"] is None or module.check_mode else working(params, state):
            return dict(provide(params, state, module.check_mode), **way)

    run(
        act,
        dict(
            STATE_ARGS,
            **LIBVIRT_ARGS,
            **IMAGE_ARGS,
            backing={"type": "dict", "options": IMAGE_ARGS},
            images_path={"type": "path", "default": "/var/lib/libvirt/images"},
            image_directories={"type": "list", "elements": "path", "default": ["/var/lib/libvirt/images"]},
            address={"type": "str"},
            port={"type": "int"},
            key={"type": "str", "no_log": True},
            url={"type": "str"},
            bandwidth_limit={"type": "bytes", "default": "0"},
            source_address={"type": "str"},
            migration_uuid={"type": "str"},
            owner={"type": "str"},
            lease={"type": "float", "default": 30.0},
            stall_timeout={"type": "float", "default": 60.0},
            progress_interval={"type": "float", "default": 10.0},  # for the action plugin
        ),
        mutually_exclusive=[("address", "url")],
        required_together=[("address", "port", "key"), ("migration_uuid", "owner")],
        required_by={"address": ["migration_uuid"], "url": ["migration_uuid"]},
    )


if __name__ == "__main__":
    main()
