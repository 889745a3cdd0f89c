# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Documents made worse at random, and what their readers may say about them."""

from __future__ import annotations

import contextlib
import random
import xml.etree.ElementTree as ET
from collections.abc import Callable
from typing import Any

from ansible_collections.kvmfleet.compute.plugins.module_utils._rules.errors import KvmfleetError

TEXTS = ("", "0", "-1", "9" * 40, "1e9", "/etc/shadow", "../../etc/shadow", "nbd://192.0.2.1/x", "qcow2", "\u202e", "yes", " ", "NaN")


def mutated(text: str, chance: random.Random) -> str:
    """A definition in which a few elements were removed, doubled, emptied, renamed or given other texts."""
    root = ET.fromstring(text)  # noqa: S314 - a fixture
    for _change in range(chance.randint(1, 6)):
        parents = [element for element in root.iter() if len(element)]
        if not parents:
            break
        parent = chance.choice(parents)
        child = chance.choice(list(parent))
        change = chance.randrange(6)
        if change == 0:
            parent.remove(child)
        elif change == 1:
            parent.append(child)
        elif change == 2:
            child.attrib.clear()
        elif change == 3 and child.attrib:
            child.set(chance.choice(list(child.attrib)), chance.choice(TEXTS))
        elif change == 4:
            child.text = chance.choice(TEXTS)
        else:
            child.tag = chance.choice([element.tag for element in root.iter()])
    return ET.tostring(root, encoding="unicode")


def ours(call: Callable[[], Any]) -> Any:
    """The result; an error has to be one of ours, which is no result."""
    with contextlib.suppress(KvmfleetError):
        return call()
    return None
