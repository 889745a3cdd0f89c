# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What leaves the controller as an artifact: plain JSON of Python's own types, without what nobody else may see, and not larger than anybody reads."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

LARGEST = 20_000
"""Characters of one value as JSON: an artifact is handed on from job to job as an extra variable."""
# A whole word at the end, since the keys of a mapping may also be names of guests and hosts, such as keycloak1.
_SECRET = re.compile(r"(^|_)(key|keys|pass|passw(or)?d|passphrase|secret|token|proofs?|credentials?)$", re.IGNORECASE)
_USER_IN_URL = re.compile(r"(\b[a-z][a-z0-9+.-]*://)[^/@\s'\"]+@", re.IGNORECASE)
_HIDDEN = "(hidden)"


def plain(value: Any) -> Any:
    """The value in plain types; what a key calls secret, and who logs in where, is hidden."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return float(value) if abs(value) < float("inf") else None
    if isinstance(value, Mapping):
        return {text(key): _hidden(value[key]) if _SECRET.search(text(key)) else plain(value[key]) for key in value}
    if isinstance(value, Sequence) and not isinstance(value, (str, bytes)):
        return [plain(item) for item in value]
    return text(value)


def _hidden(value: Any) -> Any:
    """Without any text that is the secret itself; a list has the names of several, such as the secrets of libvirt that a host lacks."""
    if isinstance(value, (str, bytes)):
        return _HIDDEN
    return {text(key): _hidden(value[key]) for key in value} if isinstance(value, Mapping) else plain(value)


def small(value: Any) -> Any:
    """The same, or None for what is too large to be handed on."""
    told = plain(value)
    return told if len(json.dumps(told)) <= LARGEST else None


def text(value: Any) -> str:
    """Text of Python's own type, whatever marks Ansible has put on it, without who logs in where."""
    return _USER_IN_URL.sub(r"\1", "".join(str(value)))


def integer(value: Any, default: int | None = 0) -> int | None:
    """A whole number, also one that a template has made text of; the default for what is none."""
    told = number(value)
    return default if told is None else int(told)


def number(value: Any) -> float | None:
    """A number, also one that a template has made text of; None for what is none."""
    if value is None or isinstance(value, bool):
        return None
    try:
        told = float(value)
    except (TypeError, ValueError):
        return None
    return told if abs(told) < float("inf") else None


def flag(value: Any) -> bool:
    """A boolean, also one that a template has made text of."""
    return value is True or (isinstance(value, str) and value.strip().lower() in ("true", "yes", "on", "1"))
