# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is to be placed: the instance, its new flavor, and what the caller wants of the destination."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, NamedTuple

from ansible_collections.kvmfleet.compute.plugins.module_utils._rules.capacity import disk_need_mb
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.requirements import Requirements
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.validation import (
    FLAVOR_KEYS,
    ValidationError,
    boolean,
    check_domain_name,
    check_name,
    integer,
    known_mapping,
    mapping,
    number,
    optional_name,
    sequence,
)

ANY_ZONE = "any"


@dataclass(frozen=True, slots=True)
class Flavor:
    """The size of a guest: vCPUs, MiB of memory and swap, GiB of disk and ephemeral disk.

    Fractions are allowed here, unlike in a flavor that a user writes: the disk of a guest that exists need not be a whole number of GiB.
    """

    name: str | None
    vcpus: float
    ram: float
    disk: float
    ephemeral: float
    swap: float
    extra_specs: Mapping[str, str]

    @property
    def disk_mb(self) -> float:
        """MiB promised on disk."""
        return disk_need_mb(self.disk, self.ephemeral, self.swap)

    @classmethod
    def build(cls, path: str, value: object) -> Flavor:
        """Read a flavor; `vcpus`, `ram` and `disk` are required."""
        if not isinstance(value, Mapping):
            raise ValidationError(path, value, "a mapping with vcpus, ram and disk")
        given = known_mapping(path, value, FLAVOR_KEYS)
        return cls(
            name=optional_name(f"{path}.name", given.get("name")),
            vcpus=number(f"{path}.vcpus", given.get("vcpus"), 1),
            ram=number(f"{path}.ram", given.get("ram"), 1),
            disk=number(f"{path}.disk", given.get("disk"), 0),
            ephemeral=number(f"{path}.ephemeral", 0 if given.get("ephemeral") is None else given["ephemeral"], 0),
            swap=number(f"{path}.swap", 0 if given.get("swap") is None else given["swap"], 0),
            extra_specs=_strings(f"{path}.extra_specs", given.get("extra_specs")),
        )


@dataclass(frozen=True, slots=True)
class Instance:
    """The guest as it is now; `flavor` is the one in force, known only when the caller tells it."""

    name: str | None
    uuid: str | None
    host: str | None
    flavor: Flavor | None

    @classmethod
    def build(cls, value: object) -> Instance:
        """Read `request.instance`. Its `availability_zone` is what it was created with, which decides nothing."""
        path = "request.instance"
        given = known_mapping(path, value, ("name", "uuid", "host", "availability_zone", "flavor"))
        optional_name(f"{path}.availability_zone", given.get("availability_zone"))
        flavor = given.get("flavor")
        return cls(
            name=None if given.get("name") in (None, "") else check_domain_name(f"{path}.name", given["name"]),
            uuid=optional_name(f"{path}.uuid", given.get("uuid")),
            host=optional_name(f"{path}.host", given.get("host")),
            flavor=None if flavor is None else Flavor.build(f"{path}.flavor", flavor),
        )


class ServerGroup(NamedTuple):
    """Guests that are to be kept together or apart; `members` are UUIDs."""

    policy: str | None
    members: frozenset[str]
    max_server_per_host: int

    @classmethod
    def build(cls, value: object) -> ServerGroup:
        """Read `request.server_group`."""
        path = "request.server_group"
        given = known_mapping(path, value, cls._fields)
        limit = given.get("max_server_per_host")
        return cls(
            policy=optional_name(f"{path}.policy", given.get("policy")),
            members=frozenset(check_name(f"{path}.members[{index}]", member) for index, member in enumerate(sequence(f"{path}.members", given.get("members")))),
            max_server_per_host=1 if limit is None else integer(f"{path}.max_server_per_host", limit, 1),
        )


@dataclass(frozen=True, slots=True)
class Request:
    """One placement asked for; `image` are the properties of the image, `allow_resize_to_same_host` is None where the options decide."""

    instance: Instance
    flavor: Flavor
    project_id: str | None
    image_id: str | None
    image: Mapping[str, str]
    availability_zone: str | None
    target_host: str | None
    ignore_hosts: tuple[str, ...]
    retry: tuple[str, ...]
    server_group: ServerGroup
    scheduler_hints: Mapping[str, Any]
    requirements: Requirements
    allow_resize_to_same_host: bool | None

    @classmethod
    def build(cls, value: object) -> Request:
        """Read the `request` argument."""
        if not isinstance(value, Mapping):
            raise ValidationError("request", value, "a mapping with instance and flavor")
        given = known_mapping("request", value, [item.name for item in fields(cls) if item.name != "image_id"])
        image = known_mapping("request.image", given.get("image"), ("id", "properties"))
        same_host = given.get("allow_resize_to_same_host")
        ignored = sequence("request.ignore_hosts", given.get("ignore_hosts"))
        return cls(
            instance=Instance.build(given.get("instance")),
            flavor=Flavor.build("request.flavor", given.get("flavor")),
            project_id=optional_name("request.project_id", given.get("project_id")),
            image_id=optional_name("request.image.id", image.get("id")),
            image=_strings("request.image.properties", image.get("properties")),
            availability_zone=optional_name("request.availability_zone", given.get("availability_zone")),
            target_host=optional_name("request.target_host", given.get("target_host")),
            ignore_hosts=tuple(check_name(f"request.ignore_hosts[{index}]", host) for index, host in enumerate(ignored)),
            retry=_tried(given.get("retry")),
            server_group=ServerGroup.build(given.get("server_group")),
            scheduler_hints=mapping("request.scheduler_hints", given.get("scheduler_hints")),
            requirements=Requirements.build(given.get("requirements")),
            allow_resize_to_same_host=None if same_host is None else boolean("request.allow_resize_to_same_host", same_host, default=True),
        )


def _strings(path: str, value: object) -> dict[str, str]:
    """A mapping of scalars, as strings: extra specs and image properties are text in Nova."""
    for key, item in mapping(path, value).items():
        if not isinstance(item, (str, int, float)):
            raise ValidationError(f"{path}.{key}", item, "a string")
    return {str(key): str(item) for key, item in mapping(path, value).items()}


def _tried(value: object) -> tuple[str, ...]:
    """The hosts of `retry`; an entry is a host name or a pair of host and node."""
    path = "request.retry"
    given = known_mapping(path, value, ("hosts", "num_attempts"))
    if given.get("num_attempts") is not None:
        integer(f"{path}.num_attempts", given["num_attempts"], 0)
    hosts = []
    for index, entry in enumerate(sequence(f"{path}.hosts", given.get("hosts"))):
        pair = isinstance(entry, (list, tuple)) and len(entry) == 2
        hosts.append(check_name(f"{path}.hosts[{index}]", entry[0] if pair else entry))
    return tuple(hosts)
