# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Says now and then how far the copy is while the module runs. A copy that is shorter than the interval costs no further round trip."""

from __future__ import annotations

import contextlib
import copy
import json
import os
import select
import shlex
import signal
from collections.abc import Iterator
from typing import Any

from ansible.errors import AnsibleError
from ansible.utils.display import Display

from ansible_collections.kvmfleet.compute.plugins.action import migration
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.planning.status import copy_progress

_STATE_PATH = "/var/lib/kvmfleet"
_INTERVAL = 10.0
_COPYING = ("precopied", "started")
_ENDING = (signal.SIGTERM, signal.SIGINT)
_display = Display()


class ActionModule(migration.ActionModule):
    """Runs the module, and reads the progress document of the host through a connection of its own meanwhile."""

    def _run_module(self, task_vars: dict[str, Any]) -> dict[str, Any]:
        interval = float(self._task.args.get("progress_interval", _INTERVAL))
        with self._told(interval) if self._copies() and interval > 0 else contextlib.nullcontext():
            return super()._run_module(task_vars)

    def _copies(self) -> bool:
        """Whether the module copies anything."""
        return self._task.args.get("state") in _COPYING

    def _what(self) -> str:
        """What is copied, where that is not the guest's disks."""
        return ""

    @contextlib.contextmanager
    def _told(self, interval: float) -> Iterator[None]:
        """Say every `interval` seconds how far the copy is, from a process of its own.

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
        arguments = self._task.args
        path = os.path.join(str(arguments.get("state_path", _STATE_PATH)), "exports", f"{arguments.get('migration_uuid')}.peer", "progress.json")
        while not select.select([ended], [], [], interval)[0]:
            try:
                answer = self._low_level_execute_command(f"cat {shlex.quote(path)}")
                progress = json.loads(answer["stdout"]) if answer["rc"] == 0 else None
            except (AnsibleError, ValueError, RecursionError):
                continue  # the module's own connection says what is wrong with the host
            if progress:
                _say(f"{self._task.delegate_to or 'destination'}: {self._what()}{copy_progress(progress)}")


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
