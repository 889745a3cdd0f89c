# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Guests on the lab's hosts."""

from __future__ import annotations

from .agent import AgentResult
from .manage import GuestOrder, create, delete, execute, hosts_defining, listing, wait

__all__ = ["AgentResult", "GuestOrder", "create", "delete", "execute", "hosts_defining", "listing", "wait"]
