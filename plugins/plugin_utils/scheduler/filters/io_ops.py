# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Hosts that are busy building, copying or moving guests."""

from __future__ import annotations

from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.filters.base import LimitFilter


class IoOpsFilter(LimitFilter):
    """`num_io_ops < max_io_ops_per_host`."""

    code = "io_ops"
    what = "operations under way"
    fact = "num_io_ops"
    option = "max_io_ops_per_host"
