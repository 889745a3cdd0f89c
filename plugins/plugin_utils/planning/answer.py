# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The one place where a refusal becomes an answer, and where Ansible's containers are left behind on the way out."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from ansible_collections.kvmfleet.compute.plugins.module_utils._rules.errors import KvmfleetError


def answer(decide: Callable[[], dict[str, Any]], **nothing: Any) -> dict[str, Any]:
    """The result of `decide` with `error: null`, or `nothing` with the error; plain JSON values only.

    :param nothing: the keys of the result with their values for the case of an error.
    """
    try:
        result = {"error": None, **decide()}
    except KvmfleetError as exc:
        result = {"error": exc.as_dict(), **nothing}
    return json.loads(json.dumps(result))
