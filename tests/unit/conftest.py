# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What all unit tests share; ansible-test, which brings a configuration of its own, reads this too."""

from __future__ import annotations

import pytest


def pytest_configure(config: pytest.Config) -> None:
    """Make the mark known, since each has to be."""
    config.addinivalue_line("markers", "invariant(*numbers): a witness of these guarantees of the README; docs/guarantees.md names all of them")
