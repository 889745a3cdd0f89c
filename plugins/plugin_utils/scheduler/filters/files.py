# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whether a file is on a host, by the listing that host_facts makes of the places for emulators and firmware."""

from __future__ import annotations

from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.host_state import HostState
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.validation import strings


def missing(host: HostState, path: str) -> bool:
    """True when the directory was listed, without the file; an unlisted directory says nothing."""
    directory, _slash, name = path.rpartition("/")
    names = (host.mapping("files") or {}).get(directory)
    return names is not None and name not in strings(f"{host.path}.files.{directory}", names)
