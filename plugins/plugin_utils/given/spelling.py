# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Names that nobody reads and that somebody has misspelt: what they ask for would silently not be done."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator

from ansible_collections.kvmfleet.compute.plugins.plugin_utils.given.table import ARTIFACTS, INPUTS, WORDS

_UNMISTAKABLE = {known.unmistakable for known in WORDS.values()}
_READ = {*WORDS, *_UNMISTAKABLE, *INPUTS}
_FOREIGN = ("ansible_", "awx_", "tower_")
"""Of Ansible, and what AWX tells every job."""
_LIKENESS = 0.85
"""Of `difflib`: twice the letters that two names share in order, by the letters of both. C(flavour) and C(flavor) are 0.92 alike, two others 0.5."""


def misspelt(names: Iterable[str]) -> Iterator[str]:
    """A sentence for each of these extra variables, or variables of a host, that is nearly the name of one that is read.

    Longer names that begin with one that is read are somebody's own, such as C(zones); so is what is given beside its right spelling.
    """
    given = set(names)
    for name in sorted(given - _READ - ARTIFACTS):
        if name.startswith(_FOREIGN):
            continue
        near = difflib.get_close_matches(name.lower(), _READ, 1, _LIKENESS)
        if near and not name.startswith(near[0]) and near[0] not in given:
            yield f"{name}: no variable has this name, so nothing would come of it. Did you mean {near[0]}? If it is one of your own, give it another name."
