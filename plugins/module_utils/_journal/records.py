# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The journal: one durable record per operation on each host that takes part in it.

A record is written *before* each step whose effect cannot be undone by repeating it, so that recovery needs nothing but the journals
of both hosts and what their libvirt says. Statuses are those of Nova's migration record; `step` tells where inside a status.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from .._rules.errors import KvmfleetError
from .._rules.statuses import CLOSED, TRANSITIONS
from .._system import watchdog as _watchdog
from . import desertion as _desertion, maintenance as _maintenance
from .state_dir import StateDir

PRIVATE = ("private", "before_keeping")
_DETAILS = ("history", "disks", "probes", "secrets", "console_logs", "published", "requirements", "directories", "own_directories", "made_directories")
_HISTORY_LIMIT = 200
_AT_ONCE = 1.0  # seconds that a look takes at most on a busy host
_TELLING_BYTES = 8 * 1024 * 1024
_OWN_PACE = 0.5  # of its limit: what is slower was held up by something else


class Journal:
    """The migration records of one host."""

    def __init__(self, state: StateDir, lease: float = 30.0) -> None:
        self.state = state
        self.lease = lease

    def get(self, uuid: str) -> dict[str, Any]:
        record = self.state.read("migrations", uuid)
        if record is None:
            raise KvmfleetError("unknown_migration", f"There is no migration {uuid} in the journal {self.state.path}/migrations.", migration_uuid=uuid)
        return record

    def find(self, uuid: str) -> dict[str, Any] | None:
        return self.state.read("migrations", uuid)

    def all(self) -> list[dict[str, Any]]:
        return sorted(self.state.read_all("migrations"), key=lambda record: record["created_at"])

    def open_for(self, instance_uuid: str) -> dict[str, Any] | None:
        """The unfinished or unconfirmed record of an instance, or None."""
        return next((record for record in self.all() if record["instance_uuid"] == instance_uuid and record["status"] not in CLOSED), None)

    def begin(self, record: dict[str, Any]) -> dict[str, Any]:
        """Write a new record with status `pre-migrating`; an instance has at most one open record a host."""
        with self.state.lock(f"instance-{record['instance_uuid']}"):
            other = self.open_for(record["instance_uuid"])
            if other is not None:
                raise KvmfleetError(
                    "operation_in_progress",
                    f"Instance {record['instance_name']} already has the open migration {other['uuid']} (status {other['status']}, step {other['step']}, "
                    f"{other['source_host']} -> {other['destination_host'] or 'undecided'}): confirm, revert or recover it first.",
                    migration_uuid=other["uuid"],
                    status=other["status"],
                )
            now = time.time()
            fresh = dict(record, status="pre-migrating", step="begun", created_at=now, history=[], error=None)
            return self._write(fresh, now, note="begun", **_who(record.get("requested_by"), record.get("reason")))

    def update(self, record: dict[str, Any], *, status: str | None = None, step: str | None = None, note: str | None = None, **changes: Any) -> dict[str, Any]:
        """Write the next state of a record; a transition that the table does not know is a defect and raises."""
        wanted = status or record["status"]
        if wanted not in TRANSITIONS[record["status"]]:
            raise KvmfleetError(
                "wrong_status",
                f"Migration {record['uuid']} of {record['instance_name']} is {record['status']}; it cannot become {wanted}.",
                migration_uuid=record["uuid"],
                have=record["status"],
                need=wanted,
            )
        record.update(changes, status=wanted, step=step or record["step"])
        return self._write(record, time.time(), note)

    def close(self, record: dict[str, Any], status: str, note: str | None = None, error: str | None = None) -> dict[str, Any]:
        """Final status: what only recovery needed (archived definition) is dropped, the audit trail stays."""
        for key in PRIVATE:
            record.pop(key, None)
        return self.update(record, status=status, step=status, note=note, error=error)

    def renew(self, record: dict[str, Any]) -> dict[str, Any]:
        """Say that the run of an operation lives while it waits for another host."""
        now = time.time()
        record.update(updated_at=now, lease_until=now + self.lease, boot_id=_boot_id())
        self.state.write("migrations", record["uuid"], record)
        return record

    def is_at_work(self, part_of: str) -> bool:
        """Whether a run works here on anything that is part of a drain or a restore (by its UUID)."""
        for record in self.all():
            if record["status"] not in CLOSED and (record.get("part_of") or {}).get("uuid") == part_of:
                if record["status"] not in ("finished",) and record["lease_until"] > time.time():
                    return True
                try:
                    with self.state.lock(f"migration-{record['uuid']}", timeout=0):
                        pass
                except KvmfleetError as exc:
                    if exc.code != "locked":
                        raise
                    return True
        return False

    @contextlib.contextmanager
    def working(self, uuid: str, owner: str, timeout: float = 10.0) -> Iterator[dict[str, Any]]:
        """Work on a record: locked against every other process of this host, and only for the run that owns the operation.

        A run whose operation was taken over (its lease had expired) is refused, so that a controller that was thought dead cannot go on. One that goes
        meanwhile leaves the operation to others at once.
        """
        with self.state.lock(f"migration-{uuid}", timeout=timeout):
            record = self.get(uuid)
            if record["owner"] != owner:
                raise KvmfleetError(
                    "not_owner",
                    f"Migration {uuid} of {record['instance_name']} has been taken over by another run; this one may not touch it any more.",
                    migration_uuid=uuid,
                )
            try:
                yield record
            finally:
                if _watchdog.is_gone():
                    self._leave(uuid)

    def _leave(self, uuid: str) -> None:
        """Note that the run of the operation has gone, so that nobody waits for it."""
        record = self.get(uuid)
        if record["status"] not in CLOSED:
            self._write(record, time.time(), note="its run has gone", abandoned=True)

    def take_over(
        self,
        uuid: str,
        owner: str,
        timeout: float,
        settled: bool = False,
        by: dict[str, Any] | None = None,
        reason: str | None = None,
        gone: str | None = None,
    ) -> dict[str, Any]:
        """Become the owner of an operation once its lease has expired and no process of this host works on it.

        A lease that is not renewed for as long as it was given has expired too: the clock may have been set back since it was written.

        :param timeout: seconds to wait for both.
        :param settled: the operation is finished at both ends, so that nobody needs the rest of the lease.
        :param gone: the owner that the other host has seen go, who needs it no more either.
        :param by: who wants it, as `user` and `job`; :param reason: what for. Both are for the audit trail.
        """

        def take(record: dict[str, Any]) -> dict[str, Any]:
            who = _who(by, reason)
            record.update(owner=owner, taken_over_by=who)
            return self._write(record, time.time(), note="taken over", **who)

        return self._once_idle(uuid, owner, timeout, lambda record: settled or record["owner"] == gone, take)

    def await_idle(self, uuid: str, owner: str, timeout: float, gone: str | None = None) -> bool:
        """Return as soon as `take_over` would take the operation, which is left as it is; whether that had to be waited for.

        A run that lives renews only the lease of the host on which it works. So it is taken to be dead only when both hosts were found idle together.
        """
        began = time.monotonic()
        self._once_idle(uuid, owner, timeout, lambda record: record["owner"] == gone, lambda record: record)
        return time.monotonic() - began > _AT_ONCE

    def _once_idle(
        self,
        uuid: str,
        owner: str,
        timeout: float,
        unleased: Callable[[dict[str, Any]], bool],
        then: Callable[[dict[str, Any]], dict[str, Any]],
    ) -> dict[str, Any]:
        """The record, which is handed to `then`, under the lock, if another run has it and neither its lock nor its lease any more, or none is needed."""
        deadline = time.monotonic() + timeout
        seen: dict[float, float] = {}

        def look(patience: float) -> dict[str, Any] | None:
            # The lock is held for a look, not for the wait: the run that owns the operation needs it to go on.
            with self.state.lock(f"migration-{uuid}", timeout=patience):
                record = self.get(uuid)
                if record["owner"] == owner or record["status"] in CLOSED:
                    return record
                since = seen.setdefault(record["lease_until"], time.monotonic())
                unrenewed = time.monotonic() - since >= record["lease_until"] - record["updated_at"]
                return then(record) if unleased(record) or unrenewed or record["lease_until"] <= time.time() else None

        try:
            found = look(0)
        except KvmfleetError as exc:
            if exc.code != "locked":
                raise
            found = None
        if found is not None:
            return found
        with _desertion.wanted(self.state, uuid, timeout):
            while True:
                found = look(timeout)
                if found is not None:
                    return found
                record = self.get(uuid)
                if time.monotonic() >= deadline:
                    raise KvmfleetError(
                        "operation_alive",
                        f"Migration {uuid} of {record['instance_name']} is being worked on by another run (step {record['step']}); its lease was still "
                        f"renewed within the {timeout:g} s waited. Let it finish.",
                        migration_uuid=uuid,
                    )
                time.sleep(min(1.0, max(0.05, min(record["lease_until"] - time.time(), deadline - time.monotonic()))))

    def give_up(self, record: dict[str, Any], lost_host: str) -> dict[str, Any]:
        """Note, before anything else is done, that the operation is brought to an end without its other host, and who says so."""
        if (record.get("forced") or {}).get("lost_host") == lost_host:
            return record
        now, who = time.time(), record.get("taken_over_by") or {}
        record["forced"] = {"lost_host": lost_host, "at": now, **who}
        return self._write(record, now, note=f"{lost_host} was given up as lost", **who)

    def release(self, uuid: str) -> bool:
        """Note that the host without which an operation was ended has come back and holds nothing of it; False where there is nothing to note."""
        with self.state.lock(f"migration-{uuid}"):
            record = self.get(uuid)
            if record["status"] not in CLOSED or not may_be_needed(record):
                return False
            now = time.time()
            record["forced"]["released_at"] = now
            # When it ended stays what it was, so no `_write`.
            record["history"].append({"at": now, "status": record["status"], "step": record["step"], "note": f"{record['forced']['lost_host']} was seen clean"})
            self.state.write("migrations", uuid, record)
            return True

    def _write(self, record: dict[str, Any], now: float, note: str | None, abandoned: bool = False, **who: Any) -> dict[str, Any]:
        record["updated_at"] = now
        record["lease_until"] = now + (0.0 if abandoned else self.lease)
        record["abandoned"] = abandoned
        record["boot_id"] = _boot_id()
        entry = {"at": now, "status": record["status"], "step": record["step"], **who}
        if note:
            entry["note"] = note
        record["history"] = (record["history"] + [entry])[-_HISTORY_LIMIT:]
        self.state.write("migrations", record["uuid"], record)
        _maintenance.follow(self.state, record)
        return record


def failures_in_a_row(records: Iterable[dict[str, Any]]) -> int:
    """How many operations ended in an error on this host since the last one that a guest came up from; Nova's rule for failed builds.

    What a host gives away says nothing about what it can take: the records of a source do not count.
    """
    ends = [end for record in records if record.get("role") != "source" and (end := _end(record)) is not None]
    failures = 0
    for _at, succeeded in sorted(ends):
        failures = 0 if succeeded else failures + 1
    return failures


def copy_rates(records: Iterable[dict[str, Any]]) -> dict[str, int]:
    """Source host -> bytes a second of the latest copy from there that was large enough, and not so slow by its own limit, to say something."""
    told = [
        record
        for record in records
        if record.get("copy_rate")
        and record.get("bytes_transferred", 0) >= _TELLING_BYTES
        and record["copy_rate"] < _OWN_PACE * (record.get("copy_limit") or math.inf)
    ]
    return {record["source_host"]: record["copy_rate"] for record in sorted(told, key=lambda record: record["created_at"])}


def _who(by: dict[str, Any] | None, reason: str | None) -> dict[str, Any]:
    """`by` and `reason` of an entry of the history; what is not known is left out."""
    known = {key: value for key, value in (by or {}).items() if value not in (None, "")}
    return {**({"by": known} if known else {}), **({"reason": reason} if reason else {})}


def _end(record: dict[str, Any]) -> tuple[float, bool] | None:
    """When an operation succeeded or failed; what became of it after that (confirm, revert) is another matter."""
    if record["status"] == "error":
        return record["updated_at"], False
    finished = [entry["at"] for entry in record["history"] if entry["status"] == "finished"]
    return (finished[0], True) if finished else None


def require_same_boot(record: dict[str, Any]) -> None:
    """This host has not been restarted since a run acted on the record: meanwhile it may have been given up as lost, and the guest be elsewhere."""
    if record.get("boot_id") not in (None, _boot_id()):
        raise KvmfleetError(
            "host_restarted",
            f"This host was restarted while migration {record['uuid']} of {record['instance_name']} was at work, and may have been given up as lost: "
            "nothing is started here. Run kvmfleet.compute.recover.",
            migration_uuid=record["uuid"],
        )


def _boot_id() -> str:
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as stream:
        return stream.read().strip()


def may_be_needed(record: dict[str, Any]) -> bool:
    """Whether an operation was ended without a host that was given up as lost and has not been seen clean since."""
    return bool(record.get("forced")) and not record["forced"].get("released_at")


def public(record: dict[str, Any]) -> dict[str, Any]:
    """The record without what is only for recovery on this host (the archived definition may hold passwords)."""
    return {key: value for key, value in record.items() if key not in PRIVATE}


def summary(record: dict[str, Any]) -> dict[str, Any]:
    """The public record without its history: what facts and playbook decisions need."""
    return {key: value for key, value in public(record).items() if key not in _DETAILS}
