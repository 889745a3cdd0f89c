# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a guest's definition names, as another host calls it."""

from __future__ import annotations

from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.context import Context
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.host_state import HostState
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.validation import ValidationError, mapping


def local(context: Context, host: HostState, kind: str, value: str) -> tuple[str | None, str]:
    """The host's own name of what the source calls `value`, None where the host has no such thing; and what it is called in a message.

    What has no name of the fleet at the source is called the same everywhere.

    :param kind: bridges, networks, pools, emulators or firmware.
    """
    name = context.request.requirements.named.get(kind, {}).get(value)
    if name is None:
        return value, value
    path = f"{host.path}.mappings.{kind}"
    found = mapping(path, (host.mapping("mappings") or {}).get(kind)).get(name)
    if found is not None and not isinstance(found, str):
        raise ValidationError(f"{path}.{name}", found, "a string")
    return found, f"{found} ({name})" if found else f"{name} in kvmfleet_mappings.{kind}"
