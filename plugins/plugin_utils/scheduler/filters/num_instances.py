# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Hosts that have enough guests."""

from __future__ import annotations

from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.filters.base import LimitFilter


class NumInstancesFilter(LimitFilter):
    """`num_instances < max_instances_per_host`."""

    code = "num_instances"
    what = "guests are here"
    fact = "num_instances"
    option = "max_instances_per_host"
