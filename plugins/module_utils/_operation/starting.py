# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Start a guest on the copy that an operation completed, once: the journal says before and right after it what was done.

From `started` on only a person's revert goes back, whatever the guest does meanwhile. So a guest that somebody shuts down after that is where it was
started, and is not started again.
"""

from __future__ import annotations

import time
from typing import Any

from .._guest import power as _power, proof as _proof
from .._journal.records import Journal
from .._libvirt import binding as _binding, domains as _domains
from .._rules.errors import KvmfleetError
from .._storage import run_evidence as _run_evidence
from .._system import watchdog as _watchdog

OFF = {"started_at": None, "came_up": None, "agent_answered": None, "agent_at": None}


def bring_up(journal: Journal, record: dict[str, Any], domain: Any, *, settle: float, agent_timeout: float, resumed: bool) -> dict[str, Any]:
    """Start the defined guest if it ran before, and watch it come up.

    :param resumed: an earlier run got here, so that the guest may have been started meanwhile.
    :returns: what `_guest.power.watch` returns and `started_at` (Unix seconds); all None for a guest that is to stay off.
    :raises KvmfleetError: `did_not_come_up`.
    """
    if not record["was_running"]:
        return dict(OFF)
    why = _run_evidence.has_run(domain, record) if resumed else None
    if why is not None:
        if record["step"] != "started":
            journal.update(record, step="started", withdrawing=False, note=f"counts as started: {why}")
        return {**OFF, "started_at": record.get("started_at"), "came_up": _proof.not_running(domain) is None}
    record = _start(journal, record, domain)
    watched = _power.watch(domain, settle=settle, agent_timeout=agent_timeout)
    problem = _proof.not_running(domain)
    if problem:
        raise _did_not_come_up(journal, record, domain, problem, max(settle, agent_timeout))
    return {"started_at": record["started_at"], **watched}


def _start(journal: Journal, record: dict[str, Any], domain: Any) -> dict[str, Any]:
    with _watchdog.finishing():
        record = journal.update(record, step="starting")
        try:
            _power.start(domain)
        except _binding.LibvirtError:
            # libvirt answers that it has not started it, though QEMU may have opened the files meanwhile.
            if not _domains.is_active(domain):
                journal.update(record, step="defined", note="libvirt could not start it", published=_run_evidence.stamps(record["published"]))
            raise
        return journal.update(record, step="started", started_at=time.time())


def _did_not_come_up(journal: Journal, record: dict[str, Any], domain: Any, problem: str, watched: float) -> KvmfleetError:
    """A guest that went off without a write is as if it had never been started; one that may have written stays where it is."""
    if not _domains.is_active(domain) and _run_evidence.written(record) is None:
        journal.update(record, step="defined", note="it went off without having written anything")
        left = "It has written nothing."
    else:
        left = "It may have written, so it is not taken back by itself: repair or start it here, or revert."
    return KvmfleetError(
        "did_not_come_up",
        f"Guest {domain.name()} was started here and did not run after {watched:g} s: {problem}. See its log in /var/log/libvirt/qemu. {left}",
        instance=domain.name(),
    )
