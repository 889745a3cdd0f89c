# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The topology of vCPUs that Nova would choose."""

from __future__ import annotations

from collections.abc import Mapping

PARTS = ("sockets", "cores", "threads")


def choose(vcpus: int, preferred: Mapping[str, int], most: Mapping[str, int]) -> dict[str, int] | None:
    """The best `sockets`, `cores` and `threads` that multiply to the vCPUs; None if the limits allow none.

    As in Nova a preference is a wish: most of them fulfilled first, then few threads, then many sockets.

    :param preferred: wishes; :param most: limits. Both may leave any of the three out.
    """
    possible = [
        {"sockets": vcpus // (cores * threads), "cores": cores, "threads": threads} for threads in _divisors(vcpus) for cores in _divisors(vcpus // threads)
    ]
    allowed = [topology for topology in possible if all(topology[part] <= limit for part, limit in most.items())]
    return max(allowed, key=lambda topology: _rank(topology, preferred), default=None)


def _rank(topology: Mapping[str, int], preferred: Mapping[str, int]) -> tuple[int, int, int]:
    fulfilled = sum(topology[part] == number for part, number in preferred.items())
    return fulfilled, topology["sockets"] * topology["cores"], topology["sockets"]


def _divisors(number: int) -> list[int]:
    return [candidate for candidate in range(1, number + 1) if number % candidate == 0]
