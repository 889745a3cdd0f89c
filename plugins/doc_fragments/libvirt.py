# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Documentation of the connection to libvirt."""

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  uri:
    description:
      - libvirt connection URI, as the host itself sees it.
      - It must be that of the system instance. The libvirt of a single user, C(qemu:///session), is refused (V(unsupported_uri)).
    type: str
    default: qemu:///system
requirements:
  - Python >= 3.9
  - libvirt >= 7.0 and its Python binding (C(python3-libvirt)) on the managed host
notes:
  - The module runs under C(/usr/bin/python3) or C(/usr/libexec/platform-python) where the interpreter that Ansible chose has no libvirt binding.
  - V(qemu:///system) needs root or the group C(libvirt), and guests' images are readable by root only. Set C(become) in the play or inventory.
"""
