# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a host lacks for disks in network storage, asked of the real QEMU and of real sockets."""

from __future__ import annotations

import socket
from dataclasses import asdict
from typing import Any

from ansible_collections.kvmfleet.compute.plugins.module_utils._domain import definition as _definition
from ansible_collections.kvmfleet.compute.plugins.module_utils._storage import qemu_img as _qemu_img
from ansible_collections.kvmfleet.compute.plugins.module_utils._storage.kinds.network import Network

CEPH = (
    "<domain><devices><disk type='network'><auth username='u'><secret type='ceph' uuid='0f5d8f9c-2c1e-4f0a-9d35-3a2a5cf0afff'/></auth>"
    "<source protocol='rbd' name='pool/image'><host name='mon1' port='6789'/><host name='mon2'/><host transport='unix' socket='/s'/>"
    "<config file='/etc/ceph/other.conf'/></source><target dev='vdb'/></disk><disk type='network' device='cdrom'><target dev='sda'/></disk></devices></domain>"
)


def disk(**more: Any) -> dict[str, Any]:
    return {"target": "vdb", "protocol": "nbd", "name": None, "hosts": [], "files": [], **more}


def codes(**more: Any) -> list[str]:
    return [code for code, _reason in Network().unreachable({"network_disks": [disk(**more)]})]


def test_a_definition_tells_what_a_disk_needs() -> None:
    (found,) = _definition.network_disks(_definition.parse(CEPH))
    assert asdict(found) == {
        "target": "vdb",
        "protocol": "rbd",
        "name": "pool/image",
        "hosts": [{"name": "mon1", "port": 6789}, {"name": "mon2", "port": None}],
        "files": ["/etc/ceph/other.conf"],
    }


def test_drivers_of_this_qemu() -> None:
    assert _qemu_img.has_driver("nbd")
    assert not _qemu_img.has_driver("carrier-pigeon")


def test_one_server_that_answers_is_enough() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        dead = {"name": "127.0.0.1", "port": 1}
        assert codes(hosts=[dead, {"name": "127.0.0.1", "port": port}]) == []
        assert codes(hosts=[dead]) == ["server_unreachable"]
    ((_code, reason),) = Network().unreachable({"network_disks": [disk(name="export", hosts=[dead, {"name": "name.invalid", "port": None}])]})
    assert reason == "no server of disk vdb (nbd export) takes a connection from here: 127.0.0.1:1, name.invalid:10809"


def test_files_that_the_storage_needs() -> None:
    assert codes(files=["/", "/nowhere/ceph.conf"]) == ["file_missing"]
