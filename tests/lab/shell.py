# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Running programs."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence

from .errors import LabError

SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def run(
    argv: Sequence[str],
    *,
    stdin: str | None = None,
    check: bool = True,
    env: Mapping[str, str] | None = None,
    cwd: str | None = None,
    pass_fds: tuple[int, ...] = (),
    shown: Sequence[str] = (),
) -> subprocess.CompletedProcess[str]:
    """Run a program with its output captured; unless told otherwise, a failure raises `LabError` with its last line of output.

    `shown` is what the message calls the command, if it is not `argv`.
    """
    source = {"input": stdin} if stdin is not None else {"stdin": subprocess.DEVNULL}
    try:
        done = subprocess.run(argv, check=False, capture_output=True, text=True, env=env, cwd=cwd, pass_fds=pass_fds, **source)
    except FileNotFoundError as error:
        raise LabError(f"program not found: {argv[0]}") from error
    if check and done.returncode:
        output = (done.stderr.strip() or done.stdout.strip() or "no output").splitlines()
        raise LabError(f"`{' '.join(shown or argv)}` failed with status {done.returncode}: {output[-1]}")
    return done
