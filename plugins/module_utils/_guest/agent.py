# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the agent in a guest says, and the programs that it runs there.

A guest may be hostile: every value of an answer has a kind and a bound before anybody reads it. Programs have an absolute path and arguments, and
there is no shell.
"""

from __future__ import annotations

import base64
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from .._libvirt import guest_agent as _guest_agent
from .._rules.errors import KvmfleetError

RUN = ("guest-exec", "guest-exec-status")
"""Commands that `GuestAgent.run` needs."""

_ANSWER_TIMEOUT = 30  # seconds
_POLL = 0.2
_MOST = {str: 4096, list: 1024}
_LARGEST = 2**63
_MAX_OUTPUT = 64 * 1024  # characters of base64
_ENVIRONMENT = ("PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C")


@dataclass(frozen=True)
class Ended:
    """A program that has ended in the guest; the status of one that a signal ended is 128 and its number."""

    status: int
    stdout: str
    stderr: str


class GuestAgent:
    """The agent of a running guest.

    :param timeout: seconds from now on, after which nothing more is asked.
    """

    def __init__(self, domain: Any, timeout: float) -> None:
        self._domain = domain
        self._timeout = timeout
        self._deadline = time.monotonic() + timeout

    def enabled(self) -> set[str]:
        """The commands that the agent carries out now."""
        listed = field(self.ask("guest-info"), "supported_commands", list)
        return {field(command, "name", str) for command in listed if field(command, "enabled", bool)}

    def require(self, commands: Iterable[str]) -> None:
        """KvmfleetError `agent_command_disabled` unless the agent carries these commands out; `no_agent` where there is none."""
        enabled = self.enabled()
        missing = [command for command in commands if command not in enabled]
        if missing:
            raise KvmfleetError(
                "agent_command_disabled",
                f"The guest agent of {self._domain.name()} does not carry out {', '.join(missing)}: allow them in the guest "
                "(allow-rpcs or block-rpcs of qemu-ga, /etc/sysconfig/qemu-ga where there is one).",
                commands=missing,
            )

    def ask(self, command: str, **arguments: Any) -> Any:
        """What the agent returns; nothing of it is checked yet (see `field`).

        :raises KvmfleetError: `no_agent`, `guest_timeout`, `agent_command_failed`.
        """
        return self._ask(command, arguments, command)

    def run(self, *argv: str) -> Ended:
        """Run a program to its end, with an environment of its own.

        :param argv: absolute path and arguments.
        :raises KvmfleetError: as `ask`; a program that is not there is `agent_command_failed`.
        """
        request = {"path": argv[0], "arg": list(argv[1:]), "env": list(_ENVIRONMENT), "capture-output": True}
        pid = field(self._ask("guest-exec", request, argv[0]), "pid", int)
        while True:
            state = self._ask("guest-exec-status", {"pid": pid}, argv[0])
            if field(state, "exited", bool):
                break
            time.sleep(_POLL)
        status = field(state, "exitcode", int, optional=True)
        if status is None:
            status = 128 + field(state, "signal", int)
        return Ended(status, _output(state, "out-data"), _output(state, "err-data"))

    def _ask(self, command: str, arguments: dict[str, Any], what: str) -> Any:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise KvmfleetError(
                "guest_timeout",
                f"{what} was not done in guest {self._domain.name()} within {self._timeout:g} s; it may still run there.",
                timeout=self._timeout,
            )
        request = {"execute": command, **({"arguments": arguments} if arguments else {})}
        answer = _guest_agent.agent_command(self._domain, request, timeout=max(1, int(min(_ANSWER_TIMEOUT, left))))
        if answer is None:
            raise KvmfleetError("no_agent", f"No guest agent answers {command} in {self._domain.name()}.", command=command)
        return answer.get("return") if isinstance(answer, dict) else None


def field(answer: Any, name: str, kind: type, *, optional: bool = False) -> Any:
    """One value of what an agent said; None for an optional one that is not there.

    :raises KvmfleetError: `invalid_agent_answer` for a value of another kind, or larger than any guest needs.
    """
    value = answer.get(name) if isinstance(answer, dict) else None
    if value is None and optional:
        return None
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool) or (kind is int and abs(value) > _LARGEST):
        raise _invalid(name, f"expected {kind.__name__}, got {type(value).__name__}")
    if kind in _MOST and len(value) > _MOST[kind]:
        raise _invalid(name, f"expected at most {_MOST[kind]} of {kind.__name__}, got {len(value)}")
    return value


def _output(state: Any, name: str) -> str:
    """The beginning of what a program printed."""
    data = state.get(name, "")
    try:
        return base64.b64decode(str(data)[:_MAX_OUTPUT], validate=True).decode(errors="replace")
    except ValueError as exc:
        raise _invalid(name, "expected base64") from exc


def _invalid(name: str, why: str) -> KvmfleetError:
    return KvmfleetError("invalid_agent_answer", f"The guest agent answers with {name}: {why}.", field=name)
