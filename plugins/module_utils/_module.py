# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The frame of every module: argument handling, the right interpreter, and the one place where an exception becomes `fail_json`."""

from __future__ import annotations

import contextlib
import platform
from typing import Any, Callable

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.common.respawn import has_respawned, probe_interpreters_for_module, respawn_module

from ._journal import desertion as _desertion
from ._journal.state_dir import DEFAULT_STATE_PATH, StateDir
from ._libvirt import binding as _binding
from ._options import require_directories
from ._rules.errors import KvmfleetError
from ._system import watchdog as _watchdog

HOST_ARGS: dict[str, Any] = {"host": {"type": "str"}}
STATE_ARGS: dict[str, Any] = {"state_path": {"type": "path", "default": DEFAULT_STATE_PATH}}
LIBVIRT_ARGS: dict[str, Any] = {"uri": {"type": "str", "default": "qemu:///system"}}
WATCHDOG_ARGS: dict[str, Any] = {"hang_timeout": {"type": "float", "default": _watchdog.DEFAULT_LIMIT}}

_INTERPRETERS = ("/usr/bin/python3", "/usr/libexec/platform-python")


def run(main: Callable[[AnsibleModule], dict[str, Any]], argument_spec: dict[str, Any], *, needs_libvirt: bool = True, **kwargs: Any) -> None:
    """Run `main(module)` and exit with the dict it returns, or fail with `msg`, `error_code` and `details`, at the latest when it hangs.

    A message begins with what the inventory calls the host. The action plugins say that; the machine's own name is for whoever calls a module without one.

    :param needs_libvirt: start again under an interpreter that has the libvirt binding when this one has not.
    :param kwargs: further arguments of AnsibleModule; check mode is supported unless they say otherwise.
    """
    module = AnsibleModule(argument_spec={**HOST_ARGS, **WATCHDOG_ARGS, **argument_spec}, **{"supports_check_mode": True, **kwargs})
    if needs_libvirt and not _binding.HAS_LIBVIRT:
        _respawn()
    try:
        require_directories(module.params)
        result = _watchdog.run(lambda: told_as_ours(lambda: main(module)), module.params["hang_timeout"], lambda: _is_deserted(module.params))
    except KvmfleetError as exc:
        module.fail_json(msg=f"{module.params['host'] or platform.node()}: {exc.message}", error_code=exc.code, details=exc.details)
    module.exit_json(**result)


def _is_deserted(params: dict[str, Any]) -> bool:
    """What cannot be read says nothing."""
    with contextlib.suppress(KvmfleetError):
        if params.get("migration_uuid") and params.get("owner"):
            return _desertion.is_deserted(StateDir(params["state_path"]), params["migration_uuid"], params["owner"])
    return False


def told_as_ours(act: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What it returns; every failure that the world around can cause is a KvmfleetError."""
    try:
        return act()
    except _binding.LibvirtError as exc:
        raise KvmfleetError("libvirt_error", f"libvirt refused a request: {exc}.", libvirt_error_code=exc.get_error_code()) from exc
    except OSError as exc:
        raise KvmfleetError("os_error", f"The operating system refused a request: {exc}.", errno=exc.errno, path=exc.filename) from exc


def _respawn() -> None:
    """Hand over to an interpreter that has libvirt, if there is one; without one, connecting says what is missing."""
    if not has_respawned():
        interpreter = probe_interpreters_for_module(_INTERPRETERS, "libvirt")
        if interpreter:
            respawn_module(interpreter)
