# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A request, checked, and the one host that defines its instance."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible_collections.kvmfleet.compute.plugins.plugin_utils.planning.extra_specs import tuning
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.planning.flavors import flavor_field, resolve_flavor
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.planning.fleet import Fleet
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.planning.request import check_request
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.validation import ignored_flavor_keys


def locate(fleet: Fleet, request: Mapping[str, Any]) -> dict[str, Any]:
    """`host` (None where an interrupted operation has to be ended first), `request` as planning takes it, and the open `migrations` of the instance.

    :raises KvmfleetError: those of `check_request`, `resolve_flavor` and `Fleet.locate`; ValidationError for what is no name.
    """
    checked = check_request(dict(request), list(fleet.hosts))
    resizing, flavors = "flavor" in checked, checked.pop("flavors", None)
    flavor = checked["flavor"] = resolve_flavor(flavors, checked["flavor"]) if resizing else None
    checked["ignored_flavor_keys"] = ignored_flavor_keys(flavors[flavor["name"]]) if flavor else []
    checked["tuning"] = tuning(flavor_field(flavor), flavor) if flavor else None
    migrations = fleet.open_migrations(checked["instance"])
    unfinished = any(record["status"] != "finished" for record in migrations)
    host = None if unfinished else fleet.locate(checked["instance"])[0]
    return {"host": host, "request": checked, "migrations": migrations}
