# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Documentation of the state directory."""

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  state_path:
    description: Directory of this host's journal, claims and locks, mode 0700.
    type: path
    default: /var/lib/kvmfleet
"""
