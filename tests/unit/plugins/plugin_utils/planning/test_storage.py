# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Where each disk comes to lie."""

from __future__ import annotations

import pytest

from ansible_collections.kvmfleet.compute.plugins.plugin_utils.planning import storage


def host(host="kvm1", images="/images", pools=(), **directories):
    named = [{"name": name, "path": path, "exists": True} for name, path in directories.items()]
    return {"host": host, "images_path": images, "disk_directories": named, "pools": [{"name": name, "path": path} for name, path in pools]}


def disk(path=None, **more):
    return {"target": "vda", "device": "disk", "readonly": False, "path": path, "pool": None, "volume": None, **more}


def placed(one, source, destination):
    (answer,) = storage.place({"disks": [one]}, source, destination)
    return answer


@pytest.mark.parametrize(
    ("path", "source", "destination", "there"),
    [
        ("/images/web.qcow2", {}, {}, "/images/web.qcow2"),
        ("/images/a/web.qcow2", {}, {"images": "/srv/images"}, "/srv/images/a/web.qcow2"),
        ("/data/vms/web.qcow2", {"fast": "/data/vms"}, {"fast": "/srv/vms"}, "/srv/vms/web.qcow2"),
        ("/images/fast/web.qcow2", {"fast": "/images/fast"}, {"fast": "/nvme"}, "/nvme/web.qcow2"),
        ("/images/web.qcow2", {"fast": "/images/fast"}, {"fast": "/nvme"}, "/images/web.qcow2"),
        ("/images/fast/web.qcow2", {"fast": "/"}, {"fast": "/nvme", "images": "/i"}, "/i/fast/web.qcow2"),
        ("/data/vms2/web.qcow2", {"fast": "/data/vms"}, {"fast": "/srv/vms"}, "/data/vms2/web.qcow2"),
        ("/data/vms/../web.qcow2", {"fast": "/data/vms"}, {"fast": "/srv/vms"}, "/data/vms/../web.qcow2"),
        ("/data/vms/web.qcow2", {"fast": "/data/vms"}, {}, None),
    ],
)
def test_files_keep_their_place_in_the_directory_of_the_same_name(path, source, destination, there):
    answer = placed(disk(path), host(**source), host("kvm2", **destination))
    assert (answer["what"], answer["source"], answer["path"]) == ("copied", path, there)


def test_volumes_go_where_the_pool_is():
    volume = disk("/pool/x", pool="vms", volume="x")
    answer = placed(volume, host(), host("kvm2", pools=[("vms", "/other")]))
    assert (answer["path"], answer["text"]) == ("/other/x", "vda: copied from /pool/x to /other/x (volume x of the storage pool vms)")
    assert placed(volume, host(), host("kvm2"))["path"] is None


def test_network_storage_is_left_alone_everywhere():
    network = disk(network={"protocol": "rbd", "name": "p/i"})
    assert {placed(network, host(), host(name))["what"] for name in ("kvm1", "kvm2")} == {"left"}


def test_on_the_same_host_what_the_guest_writes_is_layered():
    assert placed(disk("/images/a"), host(), host())["what"] == "layered"
    assert placed(disk("/images/a.iso", device="cdrom", readonly=True), host(), host())["what"] == "left"


def test_what_a_host_must_have():
    disks = [disk("/pool/x", pool="vms", volume="x"), disk("/fast/a"), disk("/images/b"), disk(network={"protocol": "nbd", "name": None}), disk()]
    assert storage.needs({"disks": disks}, host(fast="/fast", slow="/slow")) == {"pools": ["vms"], "directories": ["fast"]}
