# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""NUMA cells of a guest, each on a node of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterable


def seats(cells: int, nodes: Iterable[int], fits: Callable[[int, int], bool]) -> dict[int, int] | None:
    """Node -> cell, for cells 0 to `cells` - 1; None if there is no way. Nodes are tried in the order given.

    :param fits: whether a cell and a node go together.
    """
    order = tuple(nodes)
    seated: dict[int, int] = {}

    def seat(cell: int, tried: set[int]) -> bool:
        """A cell that was seated moves on where it can, so that a way is found if there is one."""
        for node in order:
            if node not in tried and fits(cell, node):
                tried.add(node)
                if node not in seated or seat(seated[node], tried):
                    seated[node] = cell
                    return True
        return False

    return seated if all(seat(cell, set()) for cell in range(cells)) else None
