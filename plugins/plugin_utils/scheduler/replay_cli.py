# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The command line of replay: a saved decision made again, or asked what if."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.capacity import count_fitting
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.replay import Decision
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.scheduler.select import select_destinations
from ansible_collections.kvmfleet.compute.plugins.plugin_utils.validation import ValidationError


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status: 0 the decision stands or was made, 1 the replay differs or nothing fits, 2 the input is malformed."""
    given = _parser().parse_args(arguments)
    try:
        return _run(given)
    except (OSError, ValueError, ValidationError) as error:
        print(f"replay: {error}", file=sys.stderr)
        return 2


def _run(given: argparse.Namespace) -> int:
    decision = Decision(json.loads(given.file.read_text(encoding="utf-8")))
    changed = given.options or given.request or given.without or given.more
    if not changed and not given.how_many:
        answer, same = decision.replay()
        _show(given, answer, answer["message"])
        print("The same decision, bit for bit." if same else f"ANOTHER decision than the one saved: {decision.answer['message']}", file=sys.stderr)
        return 0 if same else 1
    more = [_host(decision, text) for text in given.more]
    hosts, request, scheduler = decision.what_if(dict(given.options), dict(given.request), given.without, more)
    if given.how_many:
        counted = count_fitting(hosts, request, scheduler)
        zones = [f"  {zone}: {room['guests']} on {room['hosts']} hosts" for zone, room in sorted(counted["zones"].items())]
        _show(given, counted, "\n".join([f"{counted['guests']} more guests of this flavor fit:", *zones]))
        return 0 if counted["guests"] else 1
    answer = select_destinations(hosts, request, scheduler)
    _show(given, answer, f"Was: {decision.answer['message']}\nNow: {answer['message']}")
    return 0 if answer["selected"] else 1


def _show(given: argparse.Namespace, answer: dict[str, Any], text: str) -> None:
    print(json.dumps(answer, indent=2) if given.json else text)


def _host(decision: Decision, text: str) -> dict[str, Any]:
    if text.endswith(".json"):
        return json.loads(Path(text).read_text(encoding="utf-8"))
    name, separator, twin = text.partition("=")
    if not separator:
        raise ValidationError("with", text, "HOST=NAME or a file whose name ends in .json")
    return decision.twin(name, twin)


def _setting(text: str) -> tuple[str, Any]:
    """`key=value`, the value as JSON where it is JSON, else as text."""
    key, separator, value = text.partition("=")
    if not separator:
        raise argparse.ArgumentTypeError(f"expected KEY=VALUE, got {text!r}")
    try:
        return key, json.loads(value)
    except ValueError:
        return key, value


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="replay", description="Make a saved decision again, offline, or ask what would have become of it.")
    parser.add_argument("file", type=Path, help="a decision that was saved (migrate_decision_dir)")
    parser.add_argument("--set", dest="options", metavar="KEY=VALUE", type=_setting, action="append", default=[], help="another option of the scheduler")
    parser.add_argument("--request", metavar="KEY=VALUE", type=_setting, action="append", default=[], help="another wish in the request")
    parser.add_argument("--without", metavar="HOST", action="append", default=[], help="a host less")
    parser.add_argument("--with", dest="more", metavar="HOST=NAME|FILE.json", action="append", default=[], help="a host more")
    parser.add_argument("--how-many", action="store_true", help="how many more guests of the request's flavor fit, for each zone")
    parser.add_argument("--json", action="store_true", help="print the whole answer")
    return parser


if __name__ == "__main__":
    sys.exit(main())
