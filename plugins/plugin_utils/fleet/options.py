# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a drain or a restore was told, checked once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.kvmfleet.compute.plugins.plugin_utils.fleet.policies import Policies
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.validation import ValidationError, boolean, integer, known_mapping, mapping, number, strings

ON_UNMOVABLE = ("refuse", "stop", "leave")
UNTIL = ("evacuated", "empty")
_ANSWERS = ("keep", "drop")
_BACK = ("none", "all")


@dataclass(frozen=True)
class DrainOptions:
    """`downtimes` are seconds that a guest was down the last time, by UUID; `max_downtime` is that of guests of which nobody else says one."""

    policies: Policies = field(default_factory=Policies)
    reason: str = ""
    until: str = "evacuated"
    on_unmovable: str = "refuse"
    approve: tuple[str, ...] = ()
    canary: int = 1
    eject: bool = False
    live_differences: str | None = None
    server_groups: Mapping[str, Any] = field(default_factory=dict)
    downtimes: Mapping[str, float] = field(default_factory=dict)
    max_downtime: float | None = None

    @classmethod
    def build(cls, value: object) -> DrainOptions:
        """Read the argument; what is null or empty counts as not given.

        :raises ValidationError: for what is no option, or no value of it.
        """
        known = (*cls.__dataclass_fields__, "host_policies", "zone_policies", "guest_policies")
        given = {key: said for key, said in known_mapping("options", value, known).items() if said not in (None, "")}
        said = {key: given.pop(key, None) for key in ("policies", "host_policies", "zone_policies", "guest_policies")}
        policies = Policies(said["policies"], said["host_policies"], said["zone_policies"], said["guest_policies"])
        return cls(policies=policies, **{key: _READERS[key](key, item) for key, item in given.items()})


def one_of(*known: str) -> Any:
    """A reader of a word."""

    def read(path: str, value: object) -> str:
        if value not in known:
            raise ValidationError.not_one_of(path, value, known)
        return str(value)

    return read


def names(path: str, value: object) -> tuple[str, ...]:
    """A list of names, also written as Ansible's comma separated string."""
    listed = value.split(",") if isinstance(value, str) else strings(path, value)
    return tuple(name.strip() for name in map(str, listed) if name.strip())


def _seconds(path: str, value: object) -> dict[str, float]:
    return {str(uuid): number(f"{path}.{uuid}", seconds, 0) for uuid, seconds in mapping(path, value).items()}


_READERS: dict[str, Any] = {
    "reason": lambda _path, value: str(value),
    "until": one_of(*UNTIL),
    "on_unmovable": one_of(*ON_UNMOVABLE),
    "approve": names,
    "canary": lambda path, value: integer(path, value, 0),
    "eject": lambda path, value: boolean(path, value, False),
    "live_differences": one_of(*_ANSWERS),
    "server_groups": mapping,
    "downtimes": _seconds,
    "max_downtime": lambda path, value: number(path, value, 0),
}


def back(value: object) -> str | Sequence[str]:
    """Who is to go home: `none`, `all`, or names.

    :raises ValidationError: for what is none of them.
    """
    return "none" if value in (None, "") else str(value) if value in _BACK else names("back", value)
