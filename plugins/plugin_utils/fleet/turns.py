# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whose turn it is in a run that moves many guests, each in a process of its own: marks in a directory of the controller, which goes with the run.

They only order what this run begins. What may begin at all is said by the hosts, and nothing that another run needs is here.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import time
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from ansible_collections.kvmfleet.compute.plugins.plugin_utils.fleet import progress

PROGRAMME = "moves.json"
_LOCK = "lock"
_MARK = ".mark"


class Turns:
    """The marks of one run."""

    def __init__(self, directory: str) -> None:
        self.directory = directory
        with open(self._path(PROGRAMME), encoding="utf-8") as stream:
            self.moves: list[dict[str, Any]] = json.load(stream)

    def begin(self, uuid: str, *, parallel: int, max_fail: int, lost: Collection[str] = ()) -> progress.Verdict:
        """Let the move of a guest begin, if it may.

        :param parallel: how many moves are under way at once; :param max_fail: see `progress.may_begin`.
        :param lost: UUIDs of guests whose processes Ansible has lost without a word: nobody knows what has become of them.
        """
        with self._locked():
            told = self.results()
            states = {guest: result["state"] for guest, result in told.items()}
            states.update({guest: progress.OPEN for guest in lost if states.get(guest) == progress.MOVING})
            verdict = progress.may_begin(self.moves, states, uuid, max_fail, now=time.time())
            if verdict.do == progress.BEGIN and sum(state == progress.MOVING for state in states.values()) >= max(1, parallel):
                verdict = progress.Verdict(progress.WAIT, f"{parallel} others are under way")
            state = {progress.BEGIN: progress.MOVING, progress.WAIT: progress.WAITING, progress.SKIP: progress.SKIPPED}[verdict.do]
            self._write(uuid, {"state": state, "message": verdict.reason})
            return verdict

    def end(self, uuid: str, result: Mapping[str, Any]) -> None:
        """Note what has become of a guest: `state`, and what else `report.guests` takes."""
        with self._locked():
            self._write(uuid, result)

    def results(self) -> dict[str, dict[str, Any]]:
        """What is noted of each guest, by UUID."""
        found = {}
        for name in os.listdir(self.directory):
            if name.endswith(_MARK):
                with open(self._path(name), encoding="utf-8") as stream:
                    found[name[: -len(_MARK)]] = json.load(stream)
        return found

    def told(self) -> dict[str, dict[str, Any]]:
        """What has become of each guest when all is over; what has no end, Ansible has lost."""
        found = self.results()
        for move in self.moves:
            result = found.setdefault(move["uuid"], {"state": progress.SKIPPED, "message": "it was never begun"})
            if result["state"] == progress.WAITING:
                result.update(state=progress.SKIPPED, message="it was never begun")
            elif result["state"] == progress.MOVING:
                result.update(state=progress.OPEN, message="Ansible has lost it in the middle; recover brings it to an end")
        return found

    def line(self, uuid: str) -> str:
        """What is said of a guest now."""
        told = self.results()
        move = next(move for move in self.moves if move["uuid"] == uuid)
        counts = progress.counts(result["state"] for result in told.values())
        return progress.line(move, max(each["order"] for each in self.moves), told[uuid]["state"], counts, told[uuid])

    def _write(self, uuid: str, result: Mapping[str, Any]) -> None:
        path = self._path(uuid + _MARK)
        with open(path + ".new", "w", encoding="utf-8") as stream:
            json.dump(dict(result), stream)
        os.replace(path + ".new", path)

    def _path(self, name: str) -> str:
        return os.path.join(self.directory, os.path.basename(name))

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        with open(self._path(_LOCK), "w", encoding="utf-8") as stream:
            fcntl.flock(stream, fcntl.LOCK_EX)
            yield
