# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Everything that a person can give: variables of the inventory, options of the roles, words of the playbooks; each with its kind and its default.

The argument specifications of the roles and the tables of README are compared with this by tests. What was not given is "" where it has no default,
or an empty list or mapping.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ansible_collections.kvmfleet.compute.plugins.plugin_utils.given import kinds

NOTHING = ""


@dataclass(frozen=True)
class Input:
    """One variable.

    :param read: what its values mean; :param default: what blank stands for; :param fleet: the variable of the inventory that is asked before that.
    """

    read: kinds.Read
    default: Any = NOTHING
    fleet: str | None = None


@dataclass(frozen=True)
class Word:
    """An extra variable of the playbooks.

    :param unmistakable: the name that no inventory has for anything else.
    """

    unmistakable: str
    read: kinds.Read
    default: Any = NOTHING


_IMAGES = "/var/lib/libvirt/images"
_STATE = "/var/lib/kvmfleet"
_PORTS = "49152-49215"
_TIMEOUT = kinds.one_of("fail", "destroy")
_DIFFERENCES = kinds.one_of("keep", "drop")
_MODES = ("agent", "acpi")
_TUNNEL = kinds.one_of("auto", "never", "always")
_UNTIL = kinds.one_of("evacuated", "empty")
_ON_UNMOVABLE = kinds.one_of("refuse", "stop", "leave")
_CONFIRM = kinds.one_of("never", "healthy", "after")
_PRECOPY = kinds.one_of("auto", "always", "never")

HOST = {
    "kvmfleet_zone": Input(kinds.name),
    "kvmfleet_aggregates": Input(kinds.aggregates, ()),
    "kvmfleet_enabled": Input(kinds.flag, True),
    "kvmfleet_maintenance": Input(kinds.drained_for),
    "kvmfleet_cpu_dedicated_set": Input(kinds.cpu_set),
    "kvmfleet_reserved_host_memory_mb": Input(kinds.whole(0), 512),
    "kvmfleet_reserved_host_cpus": Input(kinds.whole(0), 0),
    "kvmfleet_reserved_host_disk_mb": Input(kinds.whole(0), 0),
    "kvmfleet_cpu_allocation_ratio": Input(kinds.ratio),
    "kvmfleet_ram_allocation_ratio": Input(kinds.ratio),
    "kvmfleet_disk_allocation_ratio": Input(kinds.ratio),
    "kvmfleet_images_path": Input(kinds.directory, _IMAGES),
    "kvmfleet_disk_directories": Input(kinds.directories_by_name, {}),
    "kvmfleet_mappings": Input(kinds.mappings, {}),
    "kvmfleet_migration_address": Input(kinds.text),
    "kvmfleet_migration_peer": Input(kinds.text),
    "kvmfleet_migration_bandwidth_limit": Input(kinds.amount, 0),
    "kvmfleet_max_moves_out": Input(kinds.whole(0), 2),
    "kvmfleet_max_moves_in": Input(kinds.whole(0), 2),
    "kvmfleet_guest_policies": Input(kinds.options, {}),
}
"""Variables of a host, which a group may have for all of its hosts."""

FLEET = {
    "kvmfleet_precopy": Input(_PRECOPY, "auto"),
    "kvmfleet_flavors": Input(kinds.flavors, {}),
    "kvmfleet_scheduler": Input(kinds.options, {}),
    "kvmfleet_server_groups": Input(kinds.options, {}),
    "kvmfleet_decision_dir": Input(kinds.local_path),
    "kvmfleet_image_directories": Input(kinds.directories, (_IMAGES,)),
    "kvmfleet_migration_ports": Input(kinds.ports, _PORTS),
    "kvmfleet_migration_tunnel": Input(_TUNNEL, "auto"),
    "kvmfleet_history_days": Input(kinds.seconds, 90),
    "kvmfleet_resize_confirm_window": Input(kinds.seconds, 0),
    "kvmfleet_hang_timeout": Input(kinds.seconds, 60),
    "kvmfleet_image_store": Input(kinds.url),
    "kvmfleet_hosts_expected": Input(kinds.whole(0)),
    "kvmfleet_become": Input(kinds.flag, True),
}
"""Variables of the group `compute`."""

MIGRATE = {
    "migrate_instance": Input(kinds.domain_name),
    "migrate_reason": Input(kinds.text),
    "migrate_zone": Input(kinds.name),
    "migrate_target_host": Input(kinds.name),
    "migrate_ignore_hosts": Input(kinds.names, ()),
    "migrate_strict": Input(kinds.flag, False),
    "migrate_plan_only": Input(kinds.flag, False),
    "migrate_plan_file": Input(kinds.local_path),
    "migrate_root_disk": Input(kinds.name),
    "migrate_ephemeral_disk": Input(kinds.name),
    "migrate_swap_disk": Input(kinds.name),
    "migrate_resize": Input(kinds.handed_over, {}),
    "migrate_facts_max_age": Input(kinds.seconds, 0),
    "migrate_scheduler": Input(kinds.options, {}, "kvmfleet_scheduler"),
    "migrate_server_groups": Input(kinds.options, {}, "kvmfleet_server_groups"),
    "migrate_scheduler_hints": Input(kinds.options, {}),
    "migrate_project_id": Input(kinds.name),
    "migrate_image_id": Input(kinds.name),
    "migrate_decision_dir": Input(kinds.local_path, fleet="kvmfleet_decision_dir"),
    "migrate_state_path": Input(kinds.directory, _STATE),
    "migrate_image_directories": Input(kinds.directories, (_IMAGES,), "kvmfleet_image_directories"),
    "migrate_shutdown_timeout": Input(kinds.seconds, 60),
    "migrate_shutdown_retry_interval": Input(kinds.seconds, 10),
    "migrate_on_shutdown_timeout": Input(_TIMEOUT, "fail"),
    "migrate_live_differences": Input(_DIFFERENCES),
    "migrate_shutdown_modes": Input(kinds.some_of(*_MODES), _MODES),
    "migrate_revert_on_shutdown_timeout": Input(_TIMEOUT, "destroy"),
    "migrate_settle_time": Input(kinds.seconds, 1),
    "migrate_agent_timeout": Input(kinds.seconds, 120),
    "migrate_filesystem_timeout": Input(kinds.seconds, 120),
    "migrate_stall_timeout": Input(kinds.seconds, 60),
    "migrate_keep_partial": Input(kinds.seconds, 86400),
    "migrate_channel_idle_timeout": Input(kinds.seconds),
    "migrate_without_agent": Input(kinds.flag, False),
    "migrate_hang_timeout": Input(kinds.seconds, 60, "kvmfleet_hang_timeout"),
    "migrate_takeover_timeout": Input(kinds.seconds, 600),
    "migrate_slot_timeout": Input(kinds.seconds, 600),
    "migrate_part_of": Input(kinds.handed_over, {}),
    "migrate_lease": Input(kinds.seconds, 30),
    "migrate_history_days": Input(kinds.seconds, 90, "kvmfleet_history_days"),
    "migrate_resize_confirm_window": Input(kinds.seconds, 0, "kvmfleet_resize_confirm_window"),
    "migrate_ports": Input(kinds.ports, _PORTS, "kvmfleet_migration_ports"),
    "migrate_bandwidth_limit": Input(kinds.amount, 0),
    "migrate_transport": Input(kinds.one_of("auto", "nbdkit", "qemu-nbd"), "auto"),
    "migrate_tunnel": Input(_TUNNEL, "auto", "kvmfleet_migration_tunnel"),
    "migrate_verify": Input(kinds.one_of("extents", "full", "none"), "extents"),
    "migrate_precopy": Input(_PRECOPY, "auto", "kvmfleet_precopy"),
    "migrate_precopy_threshold": Input(kinds.seconds, 10),
    "migrate_precopy_downtime": Input(kinds.seconds, 1),
    "migrate_precopy_max_rounds": Input(kinds.whole(0), 5),
    "migrate_precopy_quiesce": Input(kinds.flag, True),
    "migrate_progress_interval": Input(kinds.seconds, 10),
    "migrate_image_store_url": Input(kinds.url, fleet="kvmfleet_image_store"),
}
"""Options of a move. Those that are about any operation, or about any host, are options of the other roles too, by these names."""

SETTLE = {
    "settle_instance": Input(kinds.domain_name),
    "settle_reason": Input(kinds.text),
    "settle_lost_host": Input(kinds.name),
    "settle_migration_uuid": Input(kinds.uuid),
    "settle_begun": Input(kinds.handed_over, {}),
    "settle_goes_on": Input(kinds.flag, False),
}

GATHER = {
    "gather_hosts": Input(kinds.texts, ()),
    "gather_instance": Input(kinds.domain_name),
    "gather_migration_uuid": Input(kinds.uuid),
    "gather_history_older_than": Input(kinds.seconds),
}

FLEET_ROLE = {
    "fleet_instance": Input(kinds.domain_name),
    "fleet_migration_uuid": Input(kinds.uuid),
    "fleet_images_older_than": Input(kinds.seconds),
    "fleet_images_keep_bytes": Input(kinds.amount),
    "fleet_hosts": Input(kinds.names, ()),
    "fleet_reason": Input(kinds.text),
    "fleet_until": Input(_UNTIL, "evacuated"),
    "fleet_parallel": Input(kinds.whole(1), 10),
    "fleet_max_fail": Input(kinds.whole(0), 1),
    "fleet_canary": Input(kinds.whole(0), 1),
    "fleet_on_unmovable": Input(_ON_UNMOVABLE, "refuse"),
    "fleet_policies": Input(kinds.options, {}),
    "fleet_approve": Input(kinds.names, ()),
    "fleet_eject": Input(kinds.flag, False),
    "fleet_confirm": Input(_CONFIRM, "never"),
    "fleet_max_downtime": Input(kinds.seconds),
    "fleet_pause": Input(kinds.flag, False),
    "fleet_back": Input(kinds.names, ()),
    "fleet_scheduler": Input(kinds.options, {}, "kvmfleet_scheduler"),
    "fleet_server_groups": Input(kinds.options, {}, "kvmfleet_server_groups"),
}

RESIZE = {
    "resize_instance": Input(kinds.domain_name),
    "resize_flavor": Input(kinds.name),
    "resize_flavors": Input(kinds.flavors, {}, "kvmfleet_flavors"),
    "resize_zone": Input(kinds.name),
    "resize_target_host": Input(kinds.name),
    "resize_ignore_hosts": Input(kinds.names, ()),
    "resize_allow_resize_to_same_host": Input(kinds.flag, True),
    "resize_allow_downsize": Input(kinds.flag, False),
    "resize_keep_disk": Input(kinds.flag, False),
    "resize_root_disk": Input(kinds.name),
    "resize_grow_filesystem": Input(kinds.flag, False),
    "resize_ephemeral_disk": Input(kinds.name),
    "resize_swap_disk": Input(kinds.name),
    "resize_plan_only": Input(kinds.flag, False),
    "resize_plan_file": Input(kinds.local_path),
}

PREPARE_HOST = {
    "prepare_host_install": Input(kinds.flag, True),
    "prepare_host_state_path": Input(kinds.directory, _STATE),
    "prepare_host_images_path": Input(kinds.directory, _IMAGES, "kvmfleet_images_path"),
    "prepare_host_image_directories": Input(kinds.directories, (_IMAGES,), "kvmfleet_image_directories"),
    "prepare_host_disk_directories": Input(kinds.directories_by_name, {}, "kvmfleet_disk_directories"),
    "prepare_host_ports": Input(kinds.ports, _PORTS, "kvmfleet_migration_ports"),
    "prepare_host_min_free_disk_mb": Input(kinds.whole(0), 1024),
    "prepare_host_check_base_images": Input(kinds.flag, True),
}

AWX = {
    "awx_state": Input(kinds.one_of("present", "absent"), "present"),
    "awx_name": Input(kinds.text, "kvmfleet"),
    "awx_organization": Input(kinds.text),
    "awx_galaxy_credentials": Input(kinds.texts, ()),
    "awx_collection_in_image": Input(kinds.flag, False),
    "awx_project_url": Input(kinds.text),
    "awx_project_branch": Input(kinds.text),
    "awx_project_credential": Input(kinds.text),
    "awx_inventory": Input(kinds.text),
    "awx_inventory_path": Input(kinds.text, "inventory.yml"),
    "awx_credential": Input(kinds.text),
    "awx_execution_environment": Input(kinds.text),
    "awx_execution_environment_image": Input(kinds.text),
    "awx_registry_credential": Input(kinds.text),
    "awx_instance_groups": Input(kinds.texts, ()),
    "awx_forks": Input(kinds.whole(1), 50),
    "awx_flavors": Input(kinds.names, ()),
    "awx_zones": Input(kinds.names, ()),
    "awx_approval_timeout": Input(kinds.whole(0), 86400),
    "awx_schedules": Input(kinds.options, {}),
    "awx_teams": Input(kinds.options, {"requesters": "kvmfleet requesters", "approvers": "kvmfleet approvers", "operators": "kvmfleet operators"}),
    "awx_notification": Input(kinds.options, {}),
}

ROLES = {
    "migrate": MIGRATE,
    "resize": RESIZE,
    "settle": SETTLE,
    "gather": GATHER,
    "fleet": FLEET_ROLE,
    "prepare_host": PREPARE_HOST,
    "awx": AWX,
}
INPUTS = {**HOST, **FLEET, **{name: known for options in ROLES.values() for name, known in options.items()}}

WORDS = {
    "instance": Word("kvmfleet_instance", kinds.domain_name),
    "flavor": Word("kvmfleet_flavor", kinds.name),
    "zone": Word("kvmfleet_zone_wanted", kinds.name),
    "target_host": Word("kvmfleet_target_host", kinds.name),
    "reason": Word("kvmfleet_reason", kinds.text),
    "lost_host": Word("kvmfleet_lost_host", kinds.name),
    "migration_uuid": Word("kvmfleet_migration_uuid", kinds.uuid),
    "older_than": Word("kvmfleet_older_than", kinds.seconds),
    "keep_bytes": Word("kvmfleet_keep_bytes", kinds.amount),
    "allow_resize_to_same_host": Word("kvmfleet_allow_resize_to_same_host", kinds.flag, True),
    "allow_downsize": Word("kvmfleet_allow_downsize", kinds.flag, False),
    "without_agent": Word("kvmfleet_without_agent", kinds.flag, False),
    "keep_disk": Word("kvmfleet_keep_disk", kinds.flag, False),
    "root_disk": Word("kvmfleet_root_disk", kinds.name),
    "ephemeral_disk": Word("kvmfleet_ephemeral_disk", kinds.name),
    "swap_disk": Word("kvmfleet_swap_disk", kinds.name),
    "grow_filesystem": Word("kvmfleet_grow_filesystem", kinds.flag, False),
    "live_differences": Word("kvmfleet_live_differences", _DIFFERENCES),
    "on_shutdown_timeout": Word("kvmfleet_on_shutdown_timeout", _TIMEOUT, "fail"),
    "scheduler_hints": Word("kvmfleet_scheduler_hints", kinds.options, {}),
    "project_id": Word("kvmfleet_project_id", kinds.name),
    "image_id": Word("kvmfleet_image_id", kinds.name),
    "facts_max_age": Word("kvmfleet_facts_max_age", kinds.seconds, 0),
    "strict": Word("kvmfleet_strict", kinds.flag, False),
    "plan_file": Word("kvmfleet_plan_file", kinds.local_path),
    "host": Word("kvmfleet_host_wanted", kinds.names, ()),
    "hosts": Word("kvmfleet_hosts_wanted", kinds.names, ()),
    "until": Word("kvmfleet_until", _UNTIL, "evacuated"),
    "parallel": Word("kvmfleet_parallel", kinds.whole(1), 10),
    "max_fail": Word("kvmfleet_max_fail", kinds.whole(0), 1),
    "canary": Word("kvmfleet_canary", kinds.whole(0), 1),
    "on_unmovable": Word("kvmfleet_on_unmovable", _ON_UNMOVABLE, "refuse"),
    "policies": Word("kvmfleet_policies", kinds.options, {}),
    "approve": Word("kvmfleet_approve", kinds.names, ()),
    "eject": Word("kvmfleet_eject", kinds.flag, False),
    "confirm": Word("kvmfleet_confirm", _CONFIRM, "never"),
    "max_downtime": Word("kvmfleet_max_downtime", kinds.seconds),
    "pause": Word("kvmfleet_pause", kinds.flag, False),
    "back": Word("kvmfleet_back", kinds.names, ()),
}
"""The extra variables of the playbooks, by their short names."""

ARTIFACTS = frozenset(
    {
        "kvmfleet_awx",
        "kvmfleet_check",
        "kvmfleet_decision",
        "kvmfleet_error",
        "kvmfleet_fleet",
        "kvmfleet_history",
        "kvmfleet_images",
        "kvmfleet_migration",
        "kvmfleet_migrations",
        "kvmfleet_not_gathered",
        "kvmfleet_open_migrations",
        "kvmfleet_plan",
        "kvmfleet_prepared",
    }
)
"""What a run leaves, which a workflow hands to the next one as extra variables."""
