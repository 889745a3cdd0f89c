# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which variables mean something else for a delegated task: what is not looked at is no vault asked for, and no secret kept."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.kvmfleet.compute.plugins.plugin_utils.own_variables import differs, own_names

SAME = {
    "a value": "192.0.2.11",
    "another variable": "{{ management }}",
    "a secret": "{{ vault_password }}",
    "a number": 22,
    "nothing": None,
    "of the host itself": "{{ inventory_hostname_short }}",
    "its groups": "{{ 'root' if 'rack' in group_names else 'admin' }}",
    "a lookup": "{{ lookup('env', 'HOME') }}/.ssh/id",
    "no template": "inventory_hostname",
    "itself": "{{ ansible_host }}",
}
OTHER = {
    "its name": "{{ inventory_hostname }}.mgmt",
    "its name in a statement": "{% if inventory_hostname == 'kvm1' %}a{% else %}b{% endif %}",
    "of all hosts": "{{ hostvars[inventory_hostname].management }}",
    "of another host": "{{ hostvars['bastion'].ansible_host }}",
    "through another variable": "{{ full_name }}",
    "through two, which are mutual": "{{ first }}",
    "through a mapping": "{{ addresses.management }}",
    "through a list": "{{ candidates | first }}",
    "a name that is put together": "{{ lookup('vars', 'address_' ~ zone) }}",
    "the text of a file": "{{ lookup('template', 'address.j2') }}",
    "a list": ["-o", "User={{ inventory_hostname }}"],
    "a key": {"{{ inventory_hostname }}": 1},
}
VARIABLES: dict[str, Any] = {
    "management": "192.0.2.12",
    "vault_password": "hush",
    "full_name": "{{ inventory_hostname }}.example.net",
    "first": "{{ second }}",
    "second": "{{ first if third is undefined else full_name }}",
    "addresses": {"public": "198.51.100.1", "management": "{{ full_name }}"},
    "candidates": ["{{ full_name }}"],
    "zone": "north",
    "ansible_facts": {"hostname": "{{ inventory_hostname }}"},
}


@pytest.mark.parametrize("value", SAME.values(), ids=SAME)
def test_what_does_not_come_down_to_the_name_of_the_host_means_the_same(value: Any) -> None:
    assert not differs("ansible_host", {**VARIABLES, "ansible_host": value})


@pytest.mark.parametrize("value", OTHER.values(), ids=OTHER)
def test_what_comes_down_to_the_name_of_the_host_does_not(value: Any) -> None:
    assert differs("ansible_host", {**VARIABLES, "ansible_host": value})


def test_only_what_is_read_of_a_host_is_looked_at() -> None:
    """Not variables of other roles, whatever these are made of, and not facts."""
    name = "{{ inventory_hostname }}"
    variables = {**VARIABLES, "web_password": name, "ansible_user": name, "kvmfleet_migration_address": name, "ansible_port": 22}
    assert own_names(variables) == ["ansible_user", "kvmfleet_migration_address"]
