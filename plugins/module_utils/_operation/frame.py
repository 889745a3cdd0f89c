# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The frame of the modules whose `state` names what is to become of one end of an operation."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Collection, Mapping
from typing import Any

from .. import _module
from .._guest import late_shutdown as _late_shutdown
from .._journal import retention as _retention
from .._journal.records import CLOSED, Journal
from .._journal.state_dir import StateDir
from .._libvirt import connection as _connection
from .._options import HISTORY_ARGS, OPERATION_ARGS
from .._rules.errors import KvmfleetError
from .._system import watchdog as _watchdog

Action = Callable[[dict[str, Any], Any, Journal, dict[str, Any]], dict[str, Any]]
_UNFINISHED = ("pre-migrating", "migrating", "post-migrating")  # what has come further is taken back by nobody but a person


def run(
    actions: Mapping[str, Action],
    done: Mapping[str, tuple[str, ...]],
    argument_spec: dict[str, Any],
    *,
    changes_nothing: Collection[str] = (),
    taken_back: Mapping[str, Action] | None = None,
    **kwargs: Any,
) -> None:
    """Run the action of the wanted state on the operation's record, unless the record says that it is done; what ended long ago goes with its end.

    The result tells the time by the clock of this host as `answered_at`, so that nobody has to compare another time in it with his own clock.

    :param actions: state -> function of the parameters, the libvirt connection, the journal and the record.
    :param done: state -> statuses of the record in which there is nothing (left) to do.
    :param changes_nothing: states that only look.
    :param taken_back: state -> what undoes it here when its run goes meanwhile, which nobody but this host can have to do with.
    """

    def act(module: Any) -> dict[str, Any]:
        params = module.params
        journal = Journal(StateDir(params["state_path"]), params["lease"])
        if journal.get(params["migration_uuid"])["status"] in done[params["state"]]:
            return {"changed": False}
        if module.check_mode:
            return {"changed": params["state"] not in changes_nothing}
        with journal.working(params["migration_uuid"], params["owner"]) as record, _connection.connect(params["uri"]) as conn:
            _late_shutdown.settle(conn, journal.state)
            if params.get("lost_host"):
                record = journal.give_up(record, params["lost_host"])
            try:
                result = actions[params["state"]](params, conn, journal, record)
            except _watchdog.RunGoneError:
                left = journal.get(params["migration_uuid"])
                take_back = (taken_back or {}).get(params["state"])
                if take_back is not None and left["status"] in _UNFINISHED:
                    take_back(params, conn, journal, left)
                raise
        if journal.get(params["migration_uuid"])["status"] in CLOSED:
            with contextlib.suppress(KvmfleetError, OSError):  # the operation has ended, whatever else lies in the journal
                _retention.prune(journal.state, params["history_days"])
        return {**result, "answered_at": time.time()}

    state = {"type": "str", "choices": list(actions), "required": True}
    _module.run(act, {**OPERATION_ARGS, **HISTORY_ARGS, **_module.STATE_ARGS, **_module.LIBVIRT_ARGS, **argument_spec, "state": state}, **kwargs)
