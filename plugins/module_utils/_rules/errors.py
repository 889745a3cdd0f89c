# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The one exception that every expected failure raises, on the hosts and on the controller.

`_module.run` turns it into `fail_json`, `planning.answer` into a result of a filter.
"""

from __future__ import annotations

from typing import Any


class KvmfleetError(Exception):
    """An expected failure with a machine-readable code and a sentence that says what to do.

    :param code: short snake_case identifier, returned as `error_code`.
    :param message: one paragraph for a person: what failed, where, which value, what would be right.
    :param details: plain JSON values (need, have, paths ...), returned as `details`.
    """

    def __init__(self, code: str, message: str, **details: Any) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.details = details

    def as_dict(self) -> dict[str, Any]:
        """What an artifact or the result of a filter tells of it."""
        return {"code": self.code, "message": self.message, "details": self.details}


def shown(text: str, limit: int = 200) -> str:
    """Text that a guest chose, as a message may quote it: one line, printable, at most `limit` characters."""
    line = " ".join("".join(char if char.isprintable() else " " for char in text[: 4 * limit]).split())
    return line if len(line) <= limit else f"{line[: limit - 3]}..."
