# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Interfaces of guests: of which types libvirt limits the bandwidth."""

from __future__ import annotations

LIMITED_INTERFACES = ("network", "bridge", "direct", "ethernet")
