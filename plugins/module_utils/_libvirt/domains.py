# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The domains of a host: which there are, and in what state."""

from __future__ import annotations

import contextlib
import uuid
from typing import Any

from .binding import libvirt, lookup, supported, unless

_STATES = ("nostate", "running", "blocked", "paused", "shutdown", "shutoff", "crashed", "pmsuspended")
_PAUSED = {1: "by a user", 2: "migration", 3: "save", 4: "dump", 5: "I/O error", 6: "watchdog", 9: "snapshot", 10: "crashed", 14: "a call of libvirt failed"}
_SHUTOFF = {1: "it shut down", 2: "its power was cut", 3: "it crashed", 5: "its memory was saved", 6: "libvirt could not start it"}
"""Why a guest is in that state, by libvirt's numbers, as far as it says more."""


def find_domain(connection: Any, key: str) -> Any | None:
    """The domain with this UUID or name; None where neither is defined."""
    with contextlib.suppress(ValueError):
        found = lookup(connection.lookupByUUIDString, str(uuid.UUID(key)))
        if found is not None:
            return found
    return lookup(connection.lookupByName, key)


def state_name(domain: Any) -> str:
    """libvirt's own word for the state: running, paused, shutdown (going down), shutoff, crashed, pmsuspended, blocked, nostate."""
    return state_word(domain.state()[0])


def state_reason(domain: Any) -> tuple[str, str]:
    """The same, and why; the reason is empty where libvirt knows none, or none that says more than the state."""
    state, reason = domain.state()
    word = state_word(state)
    return word, {"paused": _PAUSED, "shutoff": _SHUTOFF}.get(word, {}).get(reason, "")


def disk_errors(domain: Any) -> dict[str, str]:
    """Target of each disk that QEMU stopped the guest for -> what was wrong: no space, or an I/O error."""
    errors = supported(lambda: unless(libvirt.VIR_ERR_OPERATION_INVALID, domain.diskErrors), None) or {}
    return {target: "no space" if error == libvirt.VIR_DOMAIN_DISK_ERROR_NO_SPACE else "I/O error" for target, error in errors.items()}


def state_word(state: int) -> str:
    return _STATES[state] if 0 <= state < len(_STATES) else f"unknown-{state}"


def all_domain_stats(connection: Any) -> list[tuple[Any, dict[str, Any]]]:
    """State, vCPU, balloon and block figures of every domain, in one call; a driver leaves out what it does not know."""
    wanted = libvirt.VIR_DOMAIN_STATS_STATE | libvirt.VIR_DOMAIN_STATS_VCPU | libvirt.VIR_DOMAIN_STATS_BALLOON | libvirt.VIR_DOMAIN_STATS_BLOCK
    return [(domain, stats) for domain, stats in connection.getAllDomainStats(wanted, 0) if not _is_trial(domain)]


def trial_name(uuid: str) -> str:
    """What a definition is called that is only tried, and bears the UUID of the operation. No list of guests has it."""
    return f"kvmfleet-trial-{uuid}"


def _is_trial(domain: Any) -> bool:
    return domain.name() == trial_name(domain.UUIDString())


def domain_uuids(connection: Any, *, persistent: bool = False, autostart: bool = False, flags: int = 0) -> set[str]:
    """UUIDs of the domains that are persistent and (or) started with the host, or whatever other flags of libvirt's say."""
    flags |= (libvirt.VIR_CONNECT_LIST_DOMAINS_PERSISTENT if persistent else 0) | (libvirt.VIR_CONNECT_LIST_DOMAINS_AUTOSTART if autostart else 0)
    return {domain.UUIDString() for domain in connection.listAllDomains(flags)}


def has_managed_save(domain: Any) -> bool:
    """Whether the memory of the guest lies in a file that libvirt would start it from, with the definition of then."""
    return bool(domain.isPersistent() and supported(domain.hasManagedSaveImage, 0))


def is_active(domain: Any) -> bool:
    """Whether a QEMU process of the domain exists (running, paused, shutting down, crashed but kept ...)."""
    return bool(domain.isActive())


def set_autostart(domain: Any, autostart: bool) -> None:
    if bool(domain.autostart()) != autostart:
        domain.setAutostart(int(autostart))


def writable_paths(connection: Any) -> set[str]:
    """Paths of the top layer of every disk of every domain, in one call."""
    return {str(value) for _domain, stats in all_domain_stats(connection) for key, value in stats.items() if key.startswith("block.") and key.endswith(".path")}


def all_domains(connection: Any) -> list[Any]:
    """Every domain of the host, running or not."""
    return [domain for domain in connection.listAllDomains(0) if not _is_trial(domain)]
