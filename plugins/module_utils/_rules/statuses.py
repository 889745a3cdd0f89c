# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The statuses of an operation, which are those of Nova's migration record, and how one follows another."""

from __future__ import annotations

CLOSED = frozenset({"confirmed", "reverted", "error"})
TRANSITIONS: dict[str, frozenset[str]] = {
    "pre-migrating": frozenset({"pre-migrating", "migrating", "error"}),
    "migrating": frozenset({"migrating", "post-migrating", "finished", "error"}),
    "post-migrating": frozenset({"post-migrating", "finished", "error"}),
    "finished": frozenset({"finished", "confirming", "reverting"}),
    "confirming": frozenset({"confirming", "confirmed", "reverting"}),  # back only where the source was brought back without this host
    "reverting": frozenset({"reverting", "reverted"}),
    "confirmed": frozenset(),
    "reverted": frozenset(),
    "error": frozenset(),
}
