# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Roots of other generations of Debian, for hosts that do not share the machine's programs."""

from __future__ import annotations

import hashlib
import platform
import re
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from .errors import LabError
from .image.build import WORK_PREFIX
from .locking import exclusive
from .packages import HOST_PACKAGES, ensure_installed
from .shell import run

KNOWN = ("bookworm", "trixie")
PACKAGES = (*HOST_PACKAGES, "iptables", "procps")
"""What a host has, and what else tests find on the machine itself."""
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"


def ensure_root(generation: str, cache: Path) -> Path:
    """Return the root of a release of Debian, making it from the machine's mirror if the cache does not hold it."""
    root = cache / f"root-{generation}-{_digest_of_builder()}"
    if not root.exists():
        with exclusive(cache):
            if not root.exists():
                build(generation, root)
    return root


def _digest_of_builder() -> str:
    return hashlib.sha256(Path(__file__).read_bytes() + " ".join(PACKAGES).encode()).hexdigest()[:16]


def build(generation: str, root: Path, packages: Sequence[str] = PACKAGES, finish: Callable[[Path], None] = lambda _unfinished: None) -> None:
    """Make a root with these packages.

    :param finish: what else is done to it before it has its name.
    """
    ensure_installed(("debian-archive-keyring", "mmdebstrap"))
    source = f"deb [signed-by={KEYRING}] {_mirror()} {generation} main"
    # The cache is closed to the user that apt downloads as.
    options = [f"--aptopt={line}" for line in ('APT::Sandbox::User "root";', *_proxies())]
    with tempfile.TemporaryDirectory(prefix=WORK_PREFIX, dir=root.parent) as directory:
        unfinished = Path(directory, "root")
        # With mounts of its own, nothing of a build that is killed stays mounted.
        command = ["unshare", "--mount", "--propagation=private", "mmdebstrap", "--mode=root", "--variant=minbase", f"--include={','.join(packages)}"]
        run([*command, *options, generation, str(unfinished), source])
        finish(unfinished)
        unfinished.rename(root)


def _mirror() -> str:
    """Where the machine gets Debian from."""
    codename = platform.freedesktop_os_release()["VERSION_CODENAME"]
    wanted = ("Created-By: Packages", "Origin: Debian", f"Codename: {codename}", "Component: main")
    found = run(["apt-get", "indextargets", "--format", "$(REPO_URI)", *wanted]).stdout.split()
    if not found:
        raise LabError(f"apt knows no mirror of Debian {codename}: run `apt-get update`")
    return found[0]


def _proxies() -> list[str]:
    """The machine's lines about proxies in apt's configuration."""
    return re.findall(r"^Acquire::https?::Proxy\b.*", run(["apt-config", "dump"]).stdout, re.MULTILINE)
