# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the inventory says of one host, read on the controller."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible_collections.kvmfleet.compute.plugins.module_utils._rules.errors import KvmfleetError
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.given import read
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.validation import ValidationError


def given_for(hostvars: Mapping[str, Any], host: str, name: str) -> Any:
    """The value of a variable of a host, or its default.

    :raises KvmfleetError: `invalid_value`, with the name of the host.
    """
    try:
        return read.given(str(name), _of(hostvars, host).get(name))
    except ValidationError as error:
        raise KvmfleetError(error.code, f"{host}: {error.message}", **error.details) from error


def address_of(hostvars: Mapping[str, Any], host: str) -> str:
    """Where copies find a host: what its variable says, else where Ansible connects to, else its name."""
    variables = _of(hostvars, host)
    return str(given_for(hostvars, host, "kvmfleet_migration_address") or variables.get("ansible_host") or variables.get("ansible_ssh_host") or host)


def _of(hostvars: Mapping[str, Any], host: str) -> Mapping[str, Any]:
    return hostvars[host] if host in hostvars else {}  # noqa: SIM401 (hostvars answers for an unknown host, with something undefined)
