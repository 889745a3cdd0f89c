# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The playbook check on an inventory in which every host is wrong in another way: it tells of all of them, and ends well."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

from ansible_collections.kvmfleet.compute.plugins.plugin_utils.given import table

HERE = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}
HOSTS = {
    "unlike": {**HERE, "kvmfleet_cpu_dedicated_set": "x-y", "kvmfleet_zone": "a b/c"},
    "bare": {**HERE, "kvmfleet_images_path": "/srv/no-such-directory"},
    "silent": {"ansible_host": "127.0.0.1", "ansible_port": 9},
    "text": {**HERE, "kvmfleet_disk_directories": "x"},
}


def test_whatever_is_wrong_with_a_host_is_told_and_keeps_nobody_from_hearing_about_the_others(tmp_path: Path) -> None:
    inventory = tmp_path / "inventory.json"
    inventory.write_text(json.dumps({"compute": {"hosts": HOSTS, "vars": {"kvmfleet_become": False}}}))
    environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": str(tmp_path), "ANSIBLE_NOCOLOR": "1"}
    environment["ANSIBLE_COLLECTIONS_PATH"] = str(Path(table.__file__).parents[6])
    command = [str(Path(sys.executable).parent / "ansible-playbook"), "-i", str(inventory), "kvmfleet.compute.check"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    said = " ".join(re.sub(r'[",]*\n\s*"?', " ", done.stdout).split())
    for host in HOSTS:
        assert f"{host} cannot be asked, so its guests are not known:" in said, done.stdout
        assert re.search(rf"{host} : ok=\d+ changed=0 unreachable=0 failed=0 ", said), done.stdout
    assert "kvmfleet_cpu_dedicated_set: expected numbers of CPUs such as 4-11,^8, got 'x-y'" in said
    assert "kvmfleet_zone: expected a name" in said
    assert "kvmfleet_disk_directories: expected a mapping of names to directories, got 'x'" in said
    assert "prepare_host would make the directory /srv/no-such-directory" in said
    assert "127.0.0.1 port 9: Connection refused" in said
    assert "0 of 4 hosts are ready, no guests. The guests of unlike, bare, silent and text are not known." in said
