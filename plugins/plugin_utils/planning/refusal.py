# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A refusal of the planner: expected, machine-readable, and a sentence that a person can act on."""

from __future__ import annotations

from typing import Any


class Refusal(Exception):
    """The request cannot be carried out and nothing has been changed.

    :param code: short snake_case identifier; :param message: one paragraph; :param details: plain JSON values.
    """

    def __init__(self, code: str, message: str, **details: Any) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.details = details

    def as_dict(self) -> dict[str, Any]:
        return {"code": self.code, "message": self.message, "details": self.details}
