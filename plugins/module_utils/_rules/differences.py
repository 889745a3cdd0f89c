# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A difference between a running guest and its definition, and what its owner is told of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

KEEP, DROP = "keep", "drop"


class Difference(NamedTuple):
    """One thing that differs.

    :param what: of the guest; :param now: what it is, :param defined: what its definition says, both in words.
    :param unkeepable: why the definition cannot be given what the guest has, if so.
    """

    what: str
    now: str
    defined: str
    unkeepable: str = ""

    @property
    def text(self) -> str:
        return f"{self.what}: {self.now} now, {self.defined} by the definition"


FIRST_BOOT = Difference("action for a reboot", "destroy", "restart")
"""virt-install starts a guest with another definition than it leaves behind, so that the installed system is what starts next."""


def refusal(name: str, texts: Sequence[str]) -> str:
    """The sentence, with the ways out."""
    first_boot = (
        " This is the first boot of a guest of virt-install, as far as the action for a reboot tells: drop is right, unless an installation goes on in it."
        if FIRST_BOOT.text in texts
        else ""
    )
    return (
        f"{name} is not what its definition says, and a restart would make it so: {'; '.join(texts)}. Either 1. make both the same (virsh attach-device, "
        "detach-device, change-media, set-lifecycle-action and the like with --config or --live); or 2. repeat with live_differences=keep, and what it has now "
        f"becomes part of its definition; or 3. repeat with live_differences=drop, and it goes on as its definition says.{first_boot}"
    )
