# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Documentation of what a host is called."""

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  host:
    description:
      - Inventory name of this host. Messages call it by that, since several inventory names may be one machine's and a machine's own name may be in none.
      - The action plugin of the module gives the inventory name of the host that the task runs on.
    type: str
"""
