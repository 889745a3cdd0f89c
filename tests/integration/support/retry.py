# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Only what the lab itself has broken is tried again: a test that failed while a program of the lab died of itself fails of that, a `LabFault`.

An assertion has no second try. The last lines count the faults.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from lab import fleet
from lab.errors import LabFault
from lab.faults import Watch

_WATCH = pytest.StashKey[Watch]()
_BROKEN = pytest.StashKey[bool]()


@pytest.fixture(autouse=True)
def watched(lab: object, request: pytest.FixtureRequest) -> Iterator[None]:
    """The programs of the lab are watched as long as the test runs."""
    hosts = fleet.all_hosts(fleet.existing_lab())
    watch = request.node.stash[_WATCH] = Watch(hosts, time.time())
    yield
    del request.node.stash[_WATCH]
    watch.close()
    if request.node.stash.get(_BROKEN, False):
        del request.node.stash[_BROKEN]
        for host in hosts:
            if host.pid is not None:
                host.start()  # what is missing of it


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    """A failure becomes the `LabFault` that lies behind it, if there is proof of one."""
    if call.excinfo and _WATCH in item.stash and (faults := item.stash[_WATCH].faults()):
        item.stash[_BROKEN] = True
        try:
            raise LabFault("; ".join(faults)) from call.excinfo.value
        except LabFault:
            call.excinfo = pytest.ExceptionInfo.from_current()
    return (yield)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Show in full why a test had to be run a second time, and count."""
    reports = terminalreporter.stats.get("rerun", [])
    for report in reports:
        terminalreporter.section(f"lab fault: {report.nodeid}")
        terminalreporter.write_line(report.longreprtext)
    if terminalreporter.config.getoption("reruns"):
        terminalreporter.write_line(f"lab faults: {len(reports)} tests tried again")
