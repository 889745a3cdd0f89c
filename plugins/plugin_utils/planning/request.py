# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The caller's words, checked: every name and choice that a playbook was given, before any host is asked."""

from __future__ import annotations

from typing import Any

from ansible_collections.kvmfleet.compute.plugins.module_utils._rules.errors import KvmfleetError
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.validation import check_domain_name, check_name, sequence

_NAMES = ("instance", "zone", "target_host")


def check_request(request: dict[str, Any], inventory_hosts: list[str]) -> dict[str, Any]:
    """Normalise a request: an empty string (an AWX survey question left blank) counts as not given.

    :param request: `instance` (required), `zone`, `target_host`, `ignore_hosts`.
    :raises KvmfleetError: `unknown_host`; ValidationError for what is no name.
    """
    checked = {key: None if value == "" else value for key, value in request.items()}
    for field in _NAMES:
        value = checked.get(field)
        if field == "instance":
            check_domain_name(field, value)
        elif value is not None:
            check_name(field, value)
    ignored = _list("ignore_hosts", checked.get("ignore_hosts"))
    checked["ignore_hosts"] = ignored
    for field, names in (("target_host", [checked.get("target_host")]), ("ignore_hosts", ignored)):
        for name in names:
            if name is not None and name not in inventory_hosts:
                known = ", ".join(sorted(inventory_hosts)) or "none"
                raise KvmfleetError("unknown_host", f"{field}: {name!r} is not in inventory group compute; known: {known}.")
    return {key: str(value) if key in _NAMES and value is not None else value for key, value in checked.items()}


def _list(field: str, value: object) -> list[Any]:
    """A list, also written as Ansible's comma separated string (extra variables given as key=value)."""
    return [item.strip() for item in value.split(",")] if isinstance(value, str) else list(sequence(field, value))
