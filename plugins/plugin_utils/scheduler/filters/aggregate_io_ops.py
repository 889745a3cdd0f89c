# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Hosts that are busy, by the limit of their aggregate."""

from __future__ import annotations

from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.filters.io_ops import IoOpsFilter


class AggregateIoOpsFilter(IoOpsFilter):
    """As IoOpsFilter; the lowest `max_io_ops_per_host` of the host's aggregates wins over the option."""

    aggregates = True
