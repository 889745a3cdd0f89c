# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What AWX writes to people when a job fails or an approval waits.

AWX refuses a template that reaches into an artifact ("Field unavailable"), and takes all artifacts as one text. A workflow has none.
"""

from __future__ import annotations

from typing import Any

_FAILED = "{{ job.name }}: {{ job.status }} {{ url }}"
_WAITS = "{{ approval_node_name }} {{ workflow_url }}"
_BODIES = {
    "webhook": (
        '{"name": {{ job.name | tojson }}, "status": {{ job.status | tojson }}, "url": {{ url | tojson }}, '
        '"artifacts": {{ job.artifacts | default({}) | tojson }}}',
        '{"name": {{ approval_node_name | tojson }}, "status": {{ approval_status | tojson }}, "url": {{ workflow_url | tojson }}}',
    ),
    "email": ("{{ url }}\n\n{{ job.artifacts | default({}) | tojson }}", "{{ workflow_url }}"),
}

CONFIGURED: dict[str, dict[str, Any]] = {
    "webhook": {"http_method": "POST", "headers": {}, "disable_ssl_verification": False, "username": "", "password": ""},
}
"""What AWX fills in where it is not given. Given by us, a second run finds what it wants."""


def written(kind: str) -> dict[str, Any]:
    """The messages of a notification template of this kind: a line, and a body where the kind has one."""
    failed, waits = _BODIES.get(kind, ("", ""))
    return {
        "started": None,
        "success": None,
        "error": {"message": _FAILED, "body": failed},
        "workflow_approval": {"running": {"message": _WAITS, "body": waits}, "approved": None, "denied": None, "timed_out": None},
    }
