# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether KVM works here: known by booting a guest, since a device that exists may still run none."""

from __future__ import annotations

import json
import subprocess
import tempfile
import time
from pathlib import Path

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
BOOT_TIMEOUT = 15.0
READY = "kvmfleet-guest ready"
BROKEN = "KVM internal error"


def kvm_works(image: Path, cache: Path) -> bool:
    """Boot the image under KVM; the answer is remembered until the machine restarts."""
    if not Path("/dev/kvm").exists():
        return False
    question = {"boot_id": BOOT_ID.read_text().strip(), "image": image.name}
    answer_file = cache / "kvm.json"
    try:
        answer = json.loads(answer_file.read_text())
        if {name: answer.get(name) for name in question} == question:
            return answer["works"]
    except (FileNotFoundError, ValueError):
        pass
    works = _boots(image)
    answer_file.write_text(json.dumps({**question, "works": works}) + "\n")
    return works


def _boots(image: Path) -> bool:
    with tempfile.TemporaryDirectory(prefix="kvmfleet-lab-") as directory:
        console, errors = Path(directory, "console"), Path(directory, "errors")
        drive = f"file={image},if=virtio,format=qcow2,snapshot=on"
        options = ["-machine", "q35,accel=kvm", "-cpu", "host", "-m", "256", "-nodefaults", "-display", "none", "-drive", drive, "-serial", f"file:{console}"]
        with errors.open("w") as log:
            guest = subprocess.Popen(["qemu-system-x86_64", *options], stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        try:
            deadline = time.monotonic() + BOOT_TIMEOUT
            while time.monotonic() < deadline and guest.poll() is None and BROKEN not in errors.read_text():
                if console.exists() and READY in console.read_text(errors="replace"):
                    return True
                time.sleep(0.1)
            return False
        finally:
            guest.kill()
            guest.wait()
