# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The connection to libvirt, and what else happens to a process while it waits for an answer."""

from __future__ import annotations

import ast
import signal
import socket
import threading
import time
from pathlib import Path

import pytest

from ansible_collections.kvmfleet.compute.plugins.module_utils._libvirt import connection as _connection
from ansible_collections.kvmfleet.compute.tests.unit.plugins.module_utils.sources import sources


class GoneError(BaseException):
    """What a signal raises."""


def test_a_signal_during_a_call_that_fails_ends_it_as_that_signal_and_not_as_a_fault_of_libvirt(tmp_path: Path) -> None:
    """The run goes while libvirt is silent, and the call fails after that."""

    def gone(_number: int, _frame: object) -> None:
        raise GoneError

    path = tmp_path / "socket"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()

        def hang_up() -> None:
            caller, _address = listener.accept()
            time.sleep(1)
            caller.close()

        thread = threading.Thread(target=hang_up)
        thread.start()
        before = signal.signal(signal.SIGALRM, gone)
        try:
            signal.setitimer(signal.ITIMER_REAL, 0.3)
            with pytest.raises(GoneError), _connection.connect(f"qemu+unix:///system?socket={path}"):
                pass
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)
            thread.join()


def test_libvirt_calls_no_python_of_a_process_that_a_signal_may_end() -> None:
    """But for the one that waits for the reset of a guest and does nothing else, in a process of its own."""
    given = {
        f"{name}.{function.name}"
        for name, _path, tree in sources()
        for function in ast.walk(tree)
        if isinstance(function, ast.FunctionDef)
        for call in ast.walk(function)
        if isinstance(call, ast.Call) and getattr(call.func, "attr", "").startswith(("register", "domainEventRegister", "virEventAdd"))
        if any(isinstance(argument, (ast.Lambda, ast.Name)) and getattr(argument, "id", "") != "domain" for argument in call.args)
        if "libvirt" in ast.unparse(call.func) or "connection" in ast.unparse(call.func)
    }
    assert given == {"_libvirt.lifecycle.wait_for_reset"}
