# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A guest image with systemd and cloud-init, for what the small one cannot show. It takes minutes to build, once it is asked for."""

from __future__ import annotations

import platform
import shutil
from pathlib import Path

from .. import packages
from ..errors import LabError
from ..shell import run
from .build import ensure

KIND = "debian"
PACKAGES = ("cloud-init", "dbus", "openssh-server", "qemu-guest-agent", "systemd-sysv", "udev")
SIZE_MIB = 1024
INODES = 65536
BALLAST = ("usr/share/doc", "usr/share/locale", "usr/share/man", "var/cache/apt", "var/lib/apt/lists")
# Nothing here needs a network, and cloud-init does no more than what tells whether it takes the guest for a new instance.
CONFIGURATION = """\
datasource_list: [NoCloud]
network: {config: disabled}
users: []
disable_root: false
ssh_genkeytypes: [ed25519]
cloud_init_modules: [bootcmd, set_hostname, ssh]
cloud_config_modules: [runcmd]
cloud_final_modules: [scripts-user]
"""
# In namespaces of its own, so that neither a mount nor a process outlives it.
_INSTALL = """
root=$1
shift
mount -t proc proc "$root/proc"
printf '#!/bin/sh\nexit 101\n' >"$root/usr/sbin/policy-rc.d"
chmod 755 "$root/usr/sbin/policy-rc.d"
export DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8
chroot "$root" apt-get -q -y --no-install-recommends install "$@"
rm "$root/usr/sbin/policy-rc.d" "$root"/etc/ssh/ssh_host_*
"""


def ensure_debian_image(cache: Path) -> Path:
    """Return the image, building it if the cache does not hold it."""
    return ensure(KIND, cache, _root_file_system, SIZE_MIB, INODES)


def _root_file_system(work: Path, _tools: Path) -> Path:
    root = work / "rootfs"
    packages.ensure_installed(("debootstrap",))
    suite = platform.freedesktop_os_release()["VERSION_CODENAME"]
    run(["debootstrap", "--variant=minbase", suite, str(root), _mirror(suite)])
    run(["unshare", "--mount", "--pid", "--fork", "--kill-child", "sh", "-euc", _INSTALL, "sh", str(root), *PACKAGES])
    for name in BALLAST:
        shutil.rmtree(root / name)
        (root / name).mkdir()
    (root / "etc/machine-id").write_text("")
    (root / "etc/cloud/cloud.cfg.d/90_lab.cfg").write_text(CONFIGURATION)
    return root


def _mirror(suite: str) -> str:
    """Where this machine gets that release from."""
    targets = run(["apt-get", "indextargets", "--format", "$(CODENAME) $(REPO_URI)", "Created-By: Packages", "Component: main"]).stdout
    found = [uri for codename, uri in (line.split(maxsplit=1) for line in targets.splitlines()) if codename == suite]
    if not found:
        raise LabError(f"apt has no package lists of {suite}")
    return found[0]
