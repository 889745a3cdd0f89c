# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Documentation of what becomes of a module whose host hangs."""

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
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
