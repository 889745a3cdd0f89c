# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""`kvmfleet_check`: which hosts are ready and which guests can move, for programs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible_collections.kvmfleet.compute.plugins.plugin_utils.artifacts.plain import small, text
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.planning import check


def checked(verdicts: Mapping[str, Any]) -> dict[str, Any]:
    """What `check.check` returns; without the sentences where these are too many to be handed on."""
    guests = [guest for host in verdicts["hosts"] for guest in host["guests"]]
    told = {
        "complete": check.complete(verdicts),
        "message": text(check.summary(verdicts)),
        "guests": len(guests),
        "can_move": sum(guest["code"] is None for guest in guests),
        "problems": [text(problem["reason"]) for problem in verdicts["problems"]],
    }
    full, short = ({**told, "hosts": {text(host["host"]): _host(host, sentences) for host in verdicts["hosts"]}} for sentences in (True, False))
    return small(full) or small(short) or told


def _host(host: Mapping[str, Any], sentences: bool) -> dict[str, Any]:
    cannot = {text(guest["instance"]): guest for guest in host["guests"] if guest["code"] is not None}
    return {
        "answers": host["answers"],
        "ready": host["ready"],
        "guests": len(host["guests"]),
        "can_move": len(host["guests"]) - len(cannot),
        "cannot_move": {name: {"code": guest["code"], **({"reason": guest["reason"]} if sentences else {})} for name, guest in cannot.items()},
        **({key: host[key] for key in ("problems", "to_do", "hints")} if sentences else {}),
    }
