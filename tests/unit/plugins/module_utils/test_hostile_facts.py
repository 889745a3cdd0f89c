# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What libvirt tells of a host, made worse at random: facts that are plain JSON, or an error of ours."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from typing import Any

import pytest

from ansible_collections.kvmfleet.compute.plugins.module_utils._domain import definition as _definition
from ansible_collections.kvmfleet.compute.plugins.module_utils._host import bindings as _bindings, capabilities as _capabilities
from ansible_collections.kvmfleet.compute.tests.unit.plugins.module_utils.mutation import mutated, ours

CAPABILITIES = """
<capabilities><host><uuid>2c6ea8d5-4b3c-4f0e-9d1a-0d6c1d1a2b3c</uuid>
  <cpu><arch>x86_64</arch><model>EPYC</model><vendor>AMD</vendor><topology sockets='1' dies='1' cores='4' threads='2'/>
    <maxphysaddr mode='emulate' bits='48'/><feature name='aes'/></cpu>
  <topology><cells num='2'>
    <cell id='0'><memory unit='KiB'>2097152</memory><pages unit='KiB' size='4'>1</pages><cpus num='2'><cpu id='0'/><cpu id='1'/></cpus></cell>
    <cell id='1'><memory unit='KiB'>1048576</memory><pages unit='KiB' size='2048'>1</pages><cpus num='1'><cpu id='2'/></cpus></cell>
  </cells></topology></host>
  <guest><os_type>hvm</os_type><arch name='x86_64'><emulator>/usr/bin/qemu-system-x86_64</emulator><machine maxCpus='288'>pc-q35-7.2</machine>
    <domain type='qemu'/><domain type='kvm'/></arch></guest></capabilities>
"""
DOMAIN_CAPABILITIES = """
<domainCapabilities><domain>kvm</domain><arch>x86_64</arch>
  <os supported='yes'><enum name='firmware'><value>efi</value></enum>
    <loader supported='yes'><value>/usr/share/OVMF/OVMF_CODE.fd</value><enum name='secure'><value>yes</value></enum></loader></os>
  <cpu><mode name='host-model' supported='yes'><model>EPYC</model></mode><mode name='custom' supported='yes'><model usable='yes'>EPYC</model></mode></cpu>
  <devices><tpm supported='yes'><enum name='model'><value>tpm-crb</value></enum></tpm></devices></domainCapabilities>
"""
DEVICE = """
<device><driver><name>vfio-pci</name></driver><capability type='pci'><domain>0</domain><bus>193</bus><slot>1</slot><function>0</function>
  <product id='0x20b0'>A100</product><vendor id='0x10de'>NVIDIA</vendor><numa node='1'/></capability></device>
"""
READERS: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "capabilities": (CAPABILITIES, _capabilities.platform_facts),
    "cells": (CAPABILITIES, lambda root: _capabilities.numa_cells(root, {}, {1})),
    "pages": (CAPABILITIES, _capabilities.page_sizes),
    "cpu": (DOMAIN_CAPABILITIES, lambda root: _capabilities.cpu(root, None)),
    "firmware": (DOMAIN_CAPABILITIES, _capabilities.firmware),
    "tpm": (DOMAIN_CAPABILITIES, _capabilities.tpm),
    "devices": (DEVICE, lambda root: _capabilities.pci_pools([root], set())),
}


@pytest.mark.parametrize("reader", READERS)
def test_mutated_capabilities(reader: str) -> None:
    text, read = READERS[reader]
    answers = []
    for seed in range(300):
        root = ours(lambda seed=seed: _definition.parse_document(mutated(text, random.Random(seed))))  # noqa: S311 - no secret
        if root is not None:
            answers.append(json.dumps(ours(lambda root=root: read(root))))
    assert len(set(answers)) > 1, "nothing was mutated"


SOUND = "<domain><vcpu cpuset='3'>1</vcpu><devices><interface type='user'><mac address='52:54:00:00:00:01'/></interface></devices></domain>"


def test_a_guest_with_a_mutated_definition_does_not_hide_the_host(definitions: dict[str, str]) -> None:
    """Its own numbers are left out; those of the other guests are there."""
    for seed in range(500):
        chance = random.Random(seed)  # noqa: S311 - no secret
        root = ours(lambda chance=chance: _definition.parse(mutated(definitions[chance.choice(sorted(definitions))], chance)))
        if root is not None:
            bound = _bindings.of_definitions([[root], [_definition.parse(SOUND)]])
            assert 3 in bound.cpus
            assert "52:54:00:00:00:01" in bound.macs
