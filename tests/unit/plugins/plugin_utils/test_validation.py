# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest

from ansible_collections.kvmfleet.compute.plugins.plugin_utils.validation import (
    ValidationError,
    check_domain_name,
    check_name,
    flavor,
    ignored_flavor_keys,
)


@pytest.mark.parametrize("name", ["web1", "web-1.example.org", "a_b+c@d:e", "0", "x" * 128])
def test_names_that_are_safe(name):
    assert check_name("instance", name) == name


@pytest.mark.parametrize(
    "name",
    ["", " ", "web 1", "web\n1", "web1\n", "\u00e4pfel", "a;b", "a|b", "$(x)", "`x`", "a&b", "a'b", 'a"b', "a/b", "../a", "a..b", "-rf", ".hidden", "x" * 129]
    + [None, 1, 1.5, True, ["web1"], {}, b"web1"],
)
def test_names_that_are_not(name):
    with pytest.raises(ValidationError, match="^instance: expected a name of 1 to 128 characters"):
        check_name("instance", name)


@pytest.mark.parametrize(
    "name", ["web1", "\u00e4pfel", "\u6771\u4eac-1", "Windows 10 (new)", "R&D, #2", "_x", "0", "x" * 128, "0f5d8f9c-2c1e-4f0a-9d35-3a2a5cf0a101"]
)
def test_names_of_domains(name):
    assert check_domain_name("instance", name) == name


@pytest.mark.parametrize(
    "name",
    ["", " ", " a", "a ", "web\n1", "web1\n", "a\tb", "a;b", "a|b", "$(x)", "`x`", "a'b", 'a"b', "a/b", "../a", "a..b", "-rf", ".hidden", "x" * 129, "a\\b"]
    + ["{{ x }}", "a{b", "{% x %}", "a\u202eb", "a*", "a?", "<a>", None, 1, True, ["web1"], b"web1"],
)
def test_names_that_no_domain_to_move_may_have(name):
    with pytest.raises(ValidationError, match="^instance: expected a name of 1 to 128 characters out of letters and digits of any script"):
        check_domain_name("instance", name)


def test_a_flavor_becomes_complete():
    assert flavor("kvmfleet_flavors.small", {"vcpus": 1, "ram": "512", "disk": "1"}) == {
        "vcpus": 1,
        "ram": 512,
        "disk": 1,
        "ephemeral": 0,
        "swap": 0,
        "extra_specs": {},
    }
    full = {"name": "m1", "vcpus": 2, "ram": 2048, "disk": 20, "ephemeral": 5, "swap": 512, "extra_specs": {"a": "b"}}
    assert flavor("f", full) == full


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"vcpus": 0}, "f.vcpus: expected a whole number >= 1, got 0"),
        ({"vcpus": None}, "f.vcpus: expected a whole number >= 1, got nothing"),
        ({"ram": -512}, "f.ram: expected a whole number >= 1, got -512"),
        ({"ram": "-512"}, "f.ram: expected a whole number >= 1, got '-512'"),
        ({"ram": 512.0}, "f.ram: expected a whole number >= 1, got 512.0"),
        ({"ram": "512 MB"}, "f.ram: expected a whole number >= 1, got '512 MB'"),
        ({"ram": True}, "f.ram: expected a whole number >= 1, got True"),
        ({"ram": ""}, "f.ram: expected a whole number >= 1, got ''"),
        ({"ram": "\u0661"}, "f.ram: expected a whole number >= 1"),
        ({"ram": 2**60}, "f.ram: expected a whole number >= 1, got"),
        ({"disk": -1}, "f.disk: expected a whole number >= 0, got -1"),
        ({"swap": "x"}, "f.swap: expected a whole number >= 0, got 'x'"),
        ({"extra_specs": "a=b"}, "f.extra_specs: expected a mapping, got 'a=b'"),
        ({"extra_specs": {"a": [1]}}, "f.extra_specs.a: expected a text or a number, got [1]"),
        ({"properties": {"a": {}}}, "f.properties.a: expected a text or a number, got {}"),
        ({"dsk": 1}, "f.dsk: expected one of name, vcpus, ram, disk, ephemeral, swap, extra_specs (did you mean 'disk'?), got 'dsk'"),
        ({"memory": 1}, "f.memory: expected one of name, vcpus, ram, disk, ephemeral, swap, extra_specs, got 'memory'"),
        ({"name": "a b"}, "f.name: expected a name"),
    ],
)
def test_a_malformed_flavor_names_field_and_value(change, error):
    with pytest.raises(ValidationError) as caught:
        flavor("f", {"vcpus": 1, "ram": 512, "disk": 1, **change})
    assert str(caught.value).startswith(error)


@pytest.mark.parametrize("disk", [{}, {"disk": None}, {"disk": ""}, {"disk": 0}, {"disk": "0"}])
def test_a_flavor_may_say_nothing_about_the_disk(disk):
    assert flavor("f", {"vcpus": 1, "ram": 512, **disk})["disk"] == 0


def test_a_flavor_is_taken_as_openstack_exports_it():
    """As `openstack flavor show -f json` and Nova's API write it; what has no meaning here is known by name."""
    exported = {
        "OS-FLV-DISABLED:disabled": False, "OS-FLV-EXT-DATA:ephemeral": 0, "access_project_ids": None, "description": None, "disk": 20, "id": "2",
        "name": "m1.small", "os-flavor-access:is_public": True, "properties": {"quota:cpu_shares": 512, "hw:boot_menu": True, "x": 1.5}, "ram": 2048,
        "rxtx_factor": 1.0, "swap": "", "vcpus": 1,
    }  # fmt: skip
    specs = {"quota:cpu_shares": "512", "hw:boot_menu": "true", "x": "1.5"}
    assert flavor("f", exported) == {"name": "m1.small", "vcpus": 1, "ram": 2048, "disk": 20, "ephemeral": 0, "swap": 0, "extra_specs": specs}
    ignored = ["OS-FLV-DISABLED:disabled", "OS-FLV-EXT-DATA:ephemeral", "access_project_ids", "description", "id", "os-flavor-access:is_public", "rxtx_factor"]
    assert ignored_flavor_keys(exported) == ignored
    assert ignored_flavor_keys({"vcpus": 1, "ram": 512}) == []


@pytest.mark.parametrize("value", [None, "m1.small", 1, ["vcpus"]])
def test_a_flavor_is_a_mapping(value):
    with pytest.raises(ValidationError, match="^f: expected a mapping with vcpus"):
        flavor("f", value)
