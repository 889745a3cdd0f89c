# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Runs the modules of an operation (meta/runtime.yml). A lost connection is a failure of the task, since Ansible ends a play without its rescue otherwise.

While a module runs that may take long, it says now and then how far that is. One that is done before the interval costs no further round trip.

A host that has as many moves in hand as it may is asked again from here, where the wait holds no connection to it.
"""

from __future__ import annotations

import contextlib
import copy
import json
import os
import select
import shlex
import signal
import time
from collections.abc import Callable, Iterator
from typing import Any

from ansible.errors import AnsibleConnectionFailure, AnsibleError
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

from ansible_collections.kvmfleet.compute.plugins.plugin_utils.inventory_name import tell_host_its_name
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.liveness import keep_asking
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.planning.progress import copy_progress

_STATE_PATH = "/var/lib/kvmfleet"
_INTERVAL = 10.0
_SLOT_INTERVAL = 2.0
_SAID_INTERVAL = 300.0
_SIGN_INTERVAL = 15.0  # seconds between signs of life, however seldom somebody wants to read (see `_journal.desertion.SILENCE`)
_WAITING = ("idle", "taken_over")
_ENDING = (signal.SIGTERM, signal.SIGINT)
_display = Display()


class ActionModule(ActionBase):
    """Nobody knows how far the module came: what is, the rescue reads from the hosts."""

    TRANSFERS_FILES = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        self._supports_async = True
        result = super().run(tmp, task_vars)
        tell_host_its_name(self._task, task_vars or {})
        keep_asking(self._connection, self._task.args)
        result.update(self._once_free(lambda: self._run_module(task_vars or {})))
        return result

    def _once_free(self, ask: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """The answer of the module, once its host is not busy any more, or nothing there has got on for `slot_timeout`.

        The operation may have begun at its other host, which has to hear of it: `slot_patience` seconds end the wait as well, and `slot` tells how far it is.
        """
        limit, patience = (float(self._task.args.get(name) or 0) for name in ("slot_timeout", "slot_patience"))
        began = time.monotonic()
        before = self._task.args.get("slot") or {}
        seen, since, said = before.get("seen"), float(before.get("since") or began), float(before.get("said") or began - _SAID_INTERVAL)
        while True:
            answer = ask()
            details = answer.get("details") or {}
            if answer.get("error_code") != "busy" or limit <= 0:
                return answer
            now = time.monotonic()
            if details.get("seen") != seen or details.get("moving"):
                seen, since = details.get("seen"), now
            if now - since >= limit:
                stalled = f"{answer['msg']} None of them has got on for {limit:.0f} s. Nothing was begun; see kvmfleet.compute.status, and run recover."
                return {**answer, "msg": stalled, "error_code": "slots_stalled"}
            if patience and now - began >= patience:
                return {**answer, "slot": {"seen": seen, "since": since, "said": said}}
            if now - said >= _SAID_INTERVAL:
                said = now
                _say(f"{answer['msg']} It is asked again.")
            time.sleep(_SLOT_INTERVAL)

    def _run_module(self, task_vars: dict[str, Any]) -> dict[str, Any]:
        interval = float(self._task.args.get("progress_interval", _INTERVAL))
        try:
            with self._told(interval) if self._takes_long() and interval > 0 else contextlib.nullcontext():
                answer = self._execute_module(task_vars=task_vars, wrap_async=bool(self._task.async_val))
            # One clock for what several hosts answer, which nobody sets.
            return {**answer, "received_at": time.monotonic()}
        except AnsibleConnectionFailure as exc:
            return {"failed": True, "error_code": "host_unreachable", "msg": f"{self._task.args['host']} is unreachable: {exc.message}"}

    def _takes_long(self) -> bool:
        """Whether the module may have to wait for another run."""
        return self._task.args.get("state") in _WAITING

    def _command(self, state: str, copies: str) -> str:
        """What says how far it is: the document of a copy that runs, null for none, and nothing where nobody is waited for, though the host may be slow.

        :param state: the state directory; :param copies: the document.
        """
        waits = shlex.quote(os.path.join(state, "wanted", f"{self._task.args.get('migration_uuid')}.json"))
        return f"[ ! -e {waits} ] || cat {shlex.quote(copies)} 2>/dev/null || echo null"

    def _line(self, progress: dict[str, Any] | None, seconds: float) -> str | None:
        """What to say after so many seconds, with the document of the copy that runs on the host, if one does."""
        far = f", which copies: {copy_progress(progress)}" if progress else ""
        return f"waits for the run that works on it{far} ({seconds:.0f} of at most {float(self._task.args.get('wait', 0)):.0f} s)"

    @contextlib.contextmanager
    def _told(self, interval: float) -> Iterator[None]:
        """Say every `interval` seconds how far it is, from a process of its own.

        Not from a thread: a worker of Ansible is forked while its parent holds the lock of the terminal, which nothing but the main thread gets after
        that. With ansible-runner, a thread that came there would hold up the whole job for ever.
        """
        ended, end = os.pipe()
        teller = os.fork()
        if not teller:
            try:
                os.close(end)
                for number in _ENDING:
                    signal.signal(number, signal.SIG_DFL)
                _display.verbosity = 0  # whatever is said may be cut short by the end; only `_say` may not
                self._beside()._tell(ended, interval)
            finally:
                os._exit(0)
        os.close(ended)
        try:
            yield
        finally:
            os.close(end)
            os.kill(teller, signal.SIGTERM)  # it may wait for a host that does not answer
            os.waitpid(teller, 0)

    def _beside(self) -> ActionModule:
        """This action on a connection whose state is not that of the one which is busy; ssh multiplexes both."""
        other = copy.copy(self)
        other._connection = copy.copy(self._connection)
        if self._connection.become:
            other._connection.set_become_plugin(copy.copy(self._connection.become))
        return other

    def _tell(self, ended: int, interval: float) -> None:
        state = str(self._task.args.get("state_path", _STATE_PATH))
        command = self._command(state, os.path.join(state, "exports", f"{self._task.args.get('migration_uuid')}.peer", "progress.json"))
        began = time.monotonic()
        due = began + interval
        while not select.select([ended], [], [], min(interval, _SIGN_INTERVAL))[0]:
            try:
                said = self._low_level_execute_command(command)["stdout"].strip()
                line = self._line(json.loads(said), time.monotonic() - began) if said else None
            except (AnsibleError, ValueError, RecursionError):
                continue  # the module's own connection says what is wrong with the host
            if line and time.monotonic() >= due:
                due = time.monotonic() + interval
                _say(f"{self._task.args['host']}: {line}")


def _say(line: str) -> None:
    """Hand a line to the process of the playbook, as `Display.display` does in a worker, and whole.

    What stands in for `Display.display`, as that of ansible-runner does, would write to the terminal around that.
    """
    queue = getattr(_display, "_final_q", None)
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, _ENDING)  # all workers share the lock of the queue
    try:
        if queue is None:
            _display.display(line)
        else:
            queue.send_display("display", line)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
