# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest

from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.filters.image_properties import ImagePropertiesFilter
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.validation import ValidationError
from ansible_collections.kvmfleet.compute.tests.unit.plugins.plugin_utils.scheduler.fleet import host, rejection, request

OFFER = {"supported_instances": [["x86_64", "kvm", "hvm"], ["i686", "qemu", "hvm"]], "hypervisor_version": 7002000}


@pytest.mark.parametrize(
    ("properties", "facts", "passes"),
    [
        ({}, {}, True),
        ({"os_distro": "debian"}, {}, True),
        ({"hw_architecture": "x86_64"}, OFFER, True),
        ({"hw_architecture": "amd64"}, OFFER, True),
        ({"architecture": "X86_64"}, OFFER, True),
        ({"hw_architecture": "aarch64"}, OFFER, False),
        ({"hw_architecture": "x86_64"}, {}, False),
        ({"hw_architecture": "x86_64", "img_hv_type": "kvm", "hw_vm_mode": "hvm"}, OFFER, True),
        ({"hw_architecture": "x86_64", "img_hv_type": "qemu"}, OFFER, False),
        ({"img_hv_type": "QEMU"}, OFFER, True),
        ({"hw_vm_mode": "xen"}, OFFER, False),
        ({"img_hv_requested_version": ">=6.0,<8"}, OFFER, True),
        ({"img_hv_requested_version": ">7.2"}, OFFER, False),
        ({"img_hv_requested_version": "==7.2.0"}, OFFER, True),
        ({"img_hv_requested_version": ">=6.0"}, {"supported_instances": OFFER["supported_instances"]}, False),
    ],
)
def test_image_properties(properties, facts, passes):
    refused = rejection(ImagePropertiesFilter, host(**facts), request(image={"properties": properties}))
    assert (refused is None) is passes
    assert passes or refused["code"] == "image_properties"


def test_reasons():
    asked = request(image={"properties": {"hw_architecture": "aarch64", "hw_vm_mode": "hvm"}})
    assert rejection(ImagePropertiesFilter, host(**OFFER), asked)["reason"] == "the image needs aarch64 hvm, the host offers x86_64 kvm hvm, i686 qemu hvm"
    asked = request(image={"properties": {"img_hv_requested_version": ">=8.0"}})
    assert rejection(ImagePropertiesFilter, host(**OFFER), asked)["reason"] == "img_hv_requested_version is '>=8.0', the host's hypervisor is 7.2.0"


def test_a_malformed_version_is_an_error():
    with pytest.raises(ValidationError, match="request.image.properties.img_hv_requested_version: expected version bounds"):
        rejection(ImagePropertiesFilter, host(**OFFER), request(image={"properties": {"img_hv_requested_version": "7.x"}}))


@pytest.mark.parametrize(("asked", "bits", "passes"), [("42", 48, True), (48, 48, True), ("52", 48, False), ("52", None, True)])
def test_address_bits(asked, bits, passes):
    state = host(capabilities={"cpu_info": {"maxphysaddr": {} if bits is None else {"bits": bits}}})
    assert (rejection(ImagePropertiesFilter, state, request(image={"properties": {"hw_maxphysaddr_bits": asked}})) is None) is passes
