# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is to become of a guest whose host is emptied, as people have said it: the nearest place wins, and within one place the least disruptive word."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ansible_collections.kvmfleet.compute.plugins.plugin_utils.fleet import windows
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.planning.server_groups import is_member
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.validation import ValidationError, boolean, known_mapping, mapping, number, strings

POLICIES = ("refuse", "leave", "move", "stop")
"""The least disruptive first: nothing happens at all, nothing happens to the guest, it is down for a moment, it is down until restore."""
_KEYS = ("policy", "priority", "after", "window", "max_downtime", "approval")
VARIABLE = "kvmfleet_guest_policies"


@dataclass(frozen=True)
class Policy:
    """What holds for one guest.

    :param said: the place that says what `policy` is; :param priority: the greater one goes first; :param after: names or patterns of guests that
        have to run again before this one begins; :param max_downtime: seconds; :param approval: whether a person has to name it.
    """

    policy: str = "move"
    said: str = "default"
    priority: float = 0
    after: tuple[str, ...] = ()
    windows: tuple[windows.Window, ...] = ()
    max_downtime: float | None = None
    approval: bool = False


class Policies:
    """All that is said of guests, but for what they carry themselves.

    :param run: `policies` of this run; :param by_host, :param by_zone: `kvmfleet_guest_policies` of each host or zone; :param default: of the fleet.
    :raises ValidationError: for what is no policy.
    """

    def __init__(self, run: object = None, by_host: object = None, by_zone: object = None, default: object = None) -> None:
        self.run = _place("policies", run)
        self.by_host = {str(name): _place(f"{VARIABLE} of host {name}", said) for name, said in mapping("host_policies", by_host).items()}
        self.by_zone = {str(name): _place(f"{VARIABLE} of zone {name}", said) for name, said in mapping("zone_policies", by_zone).items()}
        self.default = _place(VARIABLE, default)

    def of(self, entry: Mapping[str, Any], host: str, zone: str) -> Policy:
        """What holds for a guest; each key comes from the nearest place that has it.

        :param entry: `name`, `uuid` and `policy` (what its metadata says) of the guest.
        :raises ValidationError: its metadata says what is no policy.
        """
        carried = entry.get("policy")
        own = {entry["uuid"]: _entry(f"policy in the metadata of {entry['name']}", carried)} if carried else {}
        places = {
            "this run": self.run,
            "its metadata": own,
            f"host {host}": self.by_host.get(host, {}),
            f"zone {zone}": self.by_zone.get(zone, {}),
            VARIABLE: self.default,
        }
        found: dict[str, Any] = {}
        for place, said in places.items():
            meant = [given for pattern, given in said.items() if is_member([pattern], entry["name"], entry["uuid"])]
            for key, value in _merged(meant).items():
                if key not in found:
                    found[key] = value
                    if key == "policy":
                        found["said"] = place
        return Policy(**found)


def _place(field: str, value: object) -> dict[str, dict[str, Any]]:
    return {str(pattern): _entry(f"{field}.{pattern}", said) for pattern, said in mapping(field, value).items()}


def _entry(field: str, value: object) -> dict[str, Any]:
    given = known_mapping(field, value, _KEYS) if isinstance(value, Mapping) else {"policy": value}
    return {key: read(f"{field}.{name}", given[name]) for name, (key, read) in _READERS.items() if given.get(name) is not None}


def _word(field: str, value: object) -> str:
    if value not in POLICIES:
        raise ValidationError.not_one_of(field.removesuffix(".policy"), value, POLICIES)
    return str(value)


def _names(field: str, value: object) -> tuple[str, ...]:
    return tuple(map(str, [value] if isinstance(value, str) else strings(field, value)))


_READERS: dict[str, tuple[str, Callable[[str, Any], Any]]] = {
    "policy": ("policy", _word),
    "priority": ("priority", number),
    "after": ("after", _names),
    "window": ("windows", windows.read),
    "max_downtime": ("max_downtime", lambda field, value: number(field, value, 0)),
    "approval": ("approval", lambda field, value: boolean(field, value, False)),
}


def _merged(said: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Of several that mean the guest in one place, what disturbs it least."""
    found: dict[str, Any] = {}
    for given in said:
        for key, value in given.items():
            found[key] = _LEAST[key](found[key], value) if key in found else value
    return found


def _narrower(one: tuple[windows.Window, ...], other: tuple[windows.Window, ...]) -> tuple[windows.Window, ...]:
    """The windows of whoever gives less time; which one that is does not hang on the order in which they were written."""
    return min(one, other, key=lambda given: (sum(len(window.days) * window.length for window in given), [window.text for window in given]))


_LEAST: dict[str, Callable[[Any, Any], Any]] = {
    "policy": lambda one, other: min(one, other, key=POLICIES.index),
    "priority": max,
    "after": lambda one, other: tuple(dict.fromkeys([*one, *other])),
    "windows": _narrower,
    "max_downtime": min,
    "approval": lambda one, other: one or other,
}
