# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Nova is loaded once; `--fleets` says how many random fleets are drawn."""

from __future__ import annotations

import pytest

from bench.placement import nova_scheduler

nova_scheduler.start()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--fleets", type=int, default=2000, help="random fleets for each set of filters and weighers")


@pytest.fixture(scope="session")
def fleets(pytestconfig: pytest.Config) -> int:
    return pytestconfig.getoption("fleets")
