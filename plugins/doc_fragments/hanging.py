# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Documentation of the options that the frame gives to every module of a host (`_module.run`): what it is called, and what becomes of one that hangs."""

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  host:
    description:
      - Inventory name of this host. Messages call it by that, since several inventory names may be one machine's and a machine's own name may be in none.
      - The action plugin of the module gives the inventory name of the host that the task runs on.
    type: str
  hang_timeout:
    description:
      - Seconds for which the module may do nothing at all, since the host's libvirtd, its storage or a program there does not answer. Then it is ended
        with all that it started and fails with the error code V(host_hangs), which says what did not answer.
      - How long the module takes altogether is not bounded. The start of a guest, a look into a storage pool, a new layer under a running guest and
        the end of a merge may be silent for five times as long.
      - The connection through ssh is given up when the host does not answer on it for about as long.
    type: float
    default: 60.0
"""
