# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import errno
import os
import time
from pathlib import Path

import pytest

from ansible_collections.kvmfleet.compute.plugins.module_utils._channel import writeback as _writeback


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Which syncs there were."""
    calls: list[str] = []
    for name in ("fsync", "fdatasync"):
        monkeypatch.setattr(_writeback.os, name, lambda _descriptor, name=name: calls.append(name))
    monkeypatch.setattr(_writeback, "_INTERVAL", 0.01)
    return calls


def test_it_goes_to_the_disk_while_it_is_written_and_wholly_at_the_end(tmp_path: Path, synced: list[str]) -> None:
    (tmp_path / "file").touch()
    writeback = _writeback.Writeback(str(tmp_path / "file"))
    while len(synced) < 3:
        time.sleep(0.01)
    writeback.wait()
    assert set(synced[:-1]) == {"fdatasync"}
    assert synced[-1] == "fsync"


def test_a_sync_that_fails_is_told_at_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(_writeback.os, "fsync", full)
    (tmp_path / "file").touch()
    writeback = _writeback.Writeback(str(tmp_path / "file"))
    writeback.complete()
    with pytest.raises(OSError, match="No space left"):
        writeback.wait()
