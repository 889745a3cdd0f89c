# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Let the definition of a guest that runs say what it has now (`live_differences=keep`), before the guest stops, and take that back where it does not move."""

from __future__ import annotations

from typing import Any

from .._domain import definition as _definition, edit as _edit
from .._journal.records import Journal
from .._libvirt import binding as _binding, definitions as _definitions, domains as _domains
from .._rules import differences as _differences
from .._rules.errors import KvmfleetError
from . import defining as _defining, live_differences as _live_differences


def keep(conn: Any, journal: Journal, record: dict[str, Any], domain: Any) -> dict[str, Any]:
    """Define the guest of the plan with all that it has, which changes nothing of what runs; the definition of before is in the record.

    :param domain: the guest, whose definition is that of the plan.
    :raises KvmfleetError: `live_differences` where something else differs than the plan says, or cannot be kept; `definition_not_taken`. The definition is as
        before then.
    """
    planned = record.get("live_differences") or {}
    if planned.get("answer") != _differences.KEEP or not planned["found"] or "before_keeping" in record:
        return record
    before = _definitions.inactive_xml(domain)
    live, definition = _definition.parse(_definitions.live_xml(domain)), _definition.parse(before)
    _live_differences.require_named(domain.name(), _live_differences.found(live, definition), _differences.DROP, planned["found"])
    merged = _edit.to_string(_live_differences.kept(live, definition))
    record = journal.update(record, before_keeping=before)
    try:
        _define(conn, domain, merged)
    except KvmfleetError:
        _definitions.define(conn, before)
        journal.update(record, before_keeping=None)
        raise
    kept = _definitions.fingerprint(domain)
    return journal.update(record, xml_digest=kept, kept_digest=kept, note="its definition says what it has")


def take_back(conn: Any, record: dict[str, Any]) -> None:
    """The guest runs where it ran, with all that it had: its definition is as before, unless somebody has changed it since.

    One that is off keeps the definition with all of it, or it would not come back as it was.
    """
    domain = _domains.find_domain(conn, record["instance_uuid"]) if record.get("before_keeping") else None
    if domain is not None and _domains.is_active(domain) and _is_ours(domain, record):
        _definitions.define(conn, record["before_keeping"])


def _is_ours(domain: Any, record: dict[str, Any]) -> bool:
    """Whether the definition is the one that `keep` has made. A module that died before it could note that has left one that says all that runs."""
    if record.get("kept_digest"):
        return bool(_definitions.fingerprint(domain) == record["kept_digest"])
    return not _live_differences.found(_definition.parse(_definitions.live_xml(domain)), _definition.parse(_definitions.inactive_xml(domain)))


def _define(conn: Any, domain: Any, xml: str) -> None:
    try:
        _defining.define(conn, xml)
    except _binding.LibvirtError as exc:
        message = f"libvirt does not take the definition of {domain.name()} with all that it has now: {exc}. Take live_differences=drop, or change it yourself."
        raise KvmfleetError("definition_not_taken", message, missing=[]) from exc
    texts = (_definitions.live_xml(domain), _definitions.inactive_xml(domain))
    left = [item.text for item in _live_differences.found(*map(_definition.parse, texts))]
    if left:
        raise KvmfleetError(
            "live_differences",
            f"live_differences=keep: libvirt does not keep all that {domain.name()} has now: {'; '.join(left)}. Take live_differences=drop, or change it "
            "yourself.",
            differences=left,
        )
