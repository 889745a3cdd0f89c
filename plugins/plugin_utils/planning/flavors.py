# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Flavors as a plan takes them: found by name, compared, and told in words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible_collections.kvmfleet.compute.plugins.module_utils._rules.errors import KvmfleetError
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.planning import extra_specs
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.validation import ValidationError, check_name, flavor as validate_flavor


def resolve_flavor(flavors: Any, name: Any) -> dict[str, Any]:
    """The flavor called `name` out of the fleet variable `kvmfleet_flavors`, normalised.

    :raises KvmfleetError: `unknown_flavor`; ValidationError for what is no flavor.
    """
    check_name("flavor", name)
    if not isinstance(flavors, Mapping) or not flavors:
        raise ValidationError("kvmfleet_flavors", flavors, "a mapping of flavor names to vcpus, ram (MiB) and, optionally, disk (GiB)")
    if name not in flavors:
        raise KvmfleetError("unknown_flavor", f"There is no flavor {name!r} in kvmfleet_flavors; known: {', '.join(sorted(map(str, flavors)))}.", flavor=name)
    flavor = validate_flavor(f"kvmfleet_flavors.{name}", flavors[name])
    return {**flavor, "name": str(name)}


def same(old: dict[str, Any], new: dict[str, Any]) -> bool:
    """Whether a guest would be the same with either; names count for nothing."""
    same_specs = extra_specs.changes_guest(old["extra_specs"]) == extra_specs.changes_guest(new["extra_specs"])
    return same_specs and all(old[key] == new[key] for key in ("vcpus", "ram", "disk", "ephemeral", "swap"))


def flavor_field(flavor: dict[str, Any]) -> str:
    """What messages call a flavor."""
    return f"kvmfleet_flavors.{flavor.get('name')}"


def describe(flavor: dict[str, Any]) -> str:
    """`flavor large (2 vCPUs, 512 MiB, 3 GiB, 1 GiB ephemeral, 64 MiB swap)`; of the last two what there is."""
    more = "".join(f", {flavor[role]} {unit} {role}" for role, unit in (("ephemeral", "GiB"), ("swap", "MiB")) if flavor[role])
    name = f"flavor {flavor['name']} " if flavor.get("name") else ""
    return f"{name}({flavor['vcpus']} vCPU{'s' if flavor['vcpus'] != 1 else ''}, {flavor['ram']} MiB, {flavor['disk']} GiB{more})"
