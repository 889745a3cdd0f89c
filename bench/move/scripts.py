# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The ways that are shell scripts, as root of the source would run them: each takes the guest down, copies, starts it, and prints when.

They differ in how often they look whether the guest is off, in what they copy, and with what. All ask libvirt to shut the guest down, which asks the
guest's agent, as our modules do. The definition is at the destination before the guest goes down.
"""

from __future__ import annotations

from dataclasses import dataclass

INCOMING = "/var/lib/libvirt/incoming"
"""A directory of the destination into which a user who may not write among the images can copy."""
NBD_PORT = 10809

_PREPARE = """\
set -euo pipefail
mark() {{ echo "mark $1 $(date +%s.%N)"; }}
# there COMMAND : as root of the destination
there() {{ ssh {peer} sudo -n bash -euo pipefail -c "$(printf %q "$(declare -f mark); $1")" </dev/null; }}
virsh dumpxml --inactive --security-info {guest} | ssh {peer} "cat >{incoming}/{guest}.xml"
mark down
virsh --quiet shutdown {guest}
until [[ $(virsh domstate {guest}) == 'shut off'* ]]; do sleep {poll}; done
mark off
"""
_START = """\
there "{place}
virsh --quiet define {incoming}/{guest}.xml
virsh --quiet start {guest}
mark started
until virsh --quiet qemu-agent-command {guest} '{{\\"execute\\": \\"guest-ping\\"}}' >/dev/null 2>&1; do sleep 0.1; done
mark agent"
"""
_REBASE = "mv {incoming}/{guest}.qcow2 {disk}\nqemu-img rebase -u -f qcow2 -F qcow2 -b {base} {disk}"
_SCP = "scp -q {disk} {peer}:{incoming}/{guest}.qcow2"


@dataclass(frozen=True)
class Move:
    """What a script has to know: the guest, its disk and base (under the same path on both hosts), and the destination."""

    guest: str
    disk: str
    base: str
    peer: str
    address: str


@dataclass(frozen=True)
class Script:
    """`copy` is what travels and how, `place` makes a disk of it at the destination.

    :param poll: seconds between two looks whether the guest is off.
    """

    copy: str
    place: str = _REBASE
    poll: float = 0.1

    def text(self, move: Move) -> str:
        names = {**vars(move), "incoming": INCOMING, "poll": self.poll, "port": NBD_PORT}
        place = self.place.format(**names)
        parts = [_PREPARE.format(**names), "mark copy", self.copy.format(**names), "mark copied", _START.format(**names, place=place)]
        return "\n".join(parts)


# nova/virt/libvirt/driver.py, migrate_disk_and_power_off: looks once a second, tries whether the storage is shared, moves the directory out of the way.
_NOVA = """\
ssh {peer} "mkdir -p {incoming} && touch {incoming}/probe" </dev/null
[[ ! -e {incoming}/probe ]]
ssh {peer} "rm {incoming}/probe" </dev/null
mv {disk} {disk}_resize
scp -q -r {disk}_resize {peer}:{incoming}/{guest}.qcow2
"""
# The same before release 12.0: what travels is the overlay and its base in one.
_NOVA_OLD = """\
qemu-img convert -f qcow2 -O qcow2 {disk} {disk}_rbase
scp -q {disk}_rbase {peer}:{incoming}/{guest}.qcow2
rm {disk}_rbase
"""
_NBDCOPY = """\
nbdkit --readonly --pidfile /run/bench-nbdkit.pid --ipaddr {address} --port {port} file {disk}
ssh {peer} nbdcopy nbd://{address}:{port} {incoming}/{guest}.qcow2 </dev/null
kill "$(cat /run/bench-nbdkit.pid)"
"""

SCRIPTS: dict[str, Script] = {
    "nova-old": Script(_NOVA_OLD, place="mv {incoming}/{guest}.qcow2 {disk}", poll=1),
    "nova": Script(_NOVA, poll=1),
    "rsync": Script("rsync --sparse --rsh ssh {disk} {peer}:{incoming}/{guest}.qcow2"),
    "nbdcopy": Script(_NBDCOPY),
    "script": Script(_SCP),
}


def marks(output: str) -> dict[str, float]:
    """The instants that a script has printed."""
    lines = [line.split() for line in output.splitlines() if line.startswith("mark ")]
    return {name: float(at) for _mark, name, at in lines}
