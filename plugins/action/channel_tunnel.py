# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One end of a tunnel: the controller's own ssh to the host of the task, with all that Ansible knows of how to reach it."""

from __future__ import annotations

import os
from typing import Any

from ansible.errors import AnsibleError
from ansible.plugins.action import ActionBase

from ansible_collections.kvmfleet.compute.plugins.plugin_utils import tunnel


class ActionModule(ActionBase):
    """Everything happens on the controller."""

    TRANSFERS_FILES = False
    _requires_connection = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result = super().run(tmp, task_vars)
        _validation, arguments = self.validate_argument_spec(
            argument_spec={
                "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
                "end": {"type": "str", "choices": list(tunnel.ENDS)},
                "port": {"type": "int"},
                "directory": {"type": "path"},
            },
            required_if=[("state", "present", ["end"]), ("state", "absent", ["directory"]), ("end", "source", ["port"]), ("end", "destination", ["directory"])],
        )
        if self._task.check_mode:
            result.update(changed=True)
        elif arguments["state"] == "absent":
            result.update(changed=tunnel.close(arguments["directory"]))
        else:
            result.update(self._open(arguments), changed=True)
        return result

    def _open(self, arguments: dict[str, Any]) -> dict[str, Any]:
        command, host = self._ssh()
        run = os.getppid()  # of the process that Ansible makes for each task
        directory = arguments["directory"] or tunnel.new_directory()
        try:
            if arguments["end"] == "source":
                tunnel.lead_in(directory, command, host, arguments["port"], run)
                return {"directory": directory}
            return {"directory": directory, "port": tunnel.lead_out(directory, command, host, run)}
        except ConnectionError as exc:
            tunnel.close(directory)
            raise AnsibleError(f"There is no way through ssh to {host}: {exc}. The host must allow the forwarding of ports (AllowTcpForwarding).") from exc

    def _ssh(self) -> tuple[list[str], str]:
        """The command that reaches the host, and what it calls it."""
        connection = self._connection
        if connection.transport != "ssh":
            raise AnsibleError(f"A tunnel needs the connection plugin ssh, {self._task.delegate_to} has {connection.transport}.")
        if connection.get_option("password"):
            raise AnsibleError(f"A tunnel needs a key or an agent for ssh, {self._task.delegate_to} has a password.")
        command = connection._build_command(connection.get_option("ssh_executable"), "ssh")
        return [os.fsdecode(word) for word in command], connection.get_option("host") or self._play_context.remote_addr
