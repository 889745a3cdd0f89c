# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import secrets
from pathlib import Path

import pytest

from ansible_collections.kvmfleet.compute.plugins.module_utils._channel import ciphers as _ciphers
from ansible_collections.kvmfleet.compute.plugins.module_utils._channel.export import Server
from ansible_collections.kvmfleet.compute.plugins.module_utils._channel.protocol import MANIFEST
from ansible_collections.kvmfleet.compute.plugins.module_utils._channel.pull import Client
from ansible_collections.kvmfleet.compute.plugins.module_utils._channel.serving import TRANSPORTS
from ansible_collections.kvmfleet.compute.plugins.module_utils._journal.state_dir import StateDir
from ansible_collections.kvmfleet.compute.plugins.module_utils._rules.errors import KvmfleetError

UBUNTU = "[overrides]\ndisabled-version = tls1.0\ndisabled-version = tls1.1\n"
CHACHA20 = "CHACHA20-POLY1305"
AES = ("AES-256-GCM", "AES-128-GCM", "AES-256-CCM", "AES-128-CCM", "AES-256-CBC", "AES-128-CBC")


@pytest.fixture(autouse=True)
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A host with AES and no policy but the file that is returned, which does not exist."""
    monkeypatch.setattr(_ciphers, "_has_aes", lambda: True)
    monkeypatch.setattr(_ciphers, "_CONFIG", str(tmp_path / "config"))
    monkeypatch.setattr(_ciphers, "_CRYPTO_POLICY", str(tmp_path / "crypto-policy"))
    return tmp_path / "config"


@pytest.mark.parametrize("policy", ["", UBUNTU])
@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_channel_uses_aes(tmp_path: Path, host: Path, monkeypatch: pytest.MonkeyPatch, policy: str, transport: str) -> None:
    """A client that knows nothing but ChaCha20 cannot talk to it, one that knows nothing but AES can; the host's own policy holds too."""
    if policy:
        host.write_text(policy)
    key = secrets.token_hex(32)
    server = Server(StateDir(str(tmp_path / "source")), "m-1")
    port = server.open(address="127.0.0.1", ports="27200-27263", key=key, idle_timeout=30, transport=transport)
    server.offer_manifest({"files": {}})

    def talk(*disabled: str) -> dict:
        restricted = tmp_path / "restricted"
        restricted.write_text("[overrides]\n" + "".join(f"tls-disabled-cipher = {cipher}\n" for cipher in disabled))
        monkeypatch.setenv("GNUTLS_SYSTEM_PRIORITY_FILE", str(restricted))
        with Client(StateDir(str(tmp_path / "there")), "m-1", address="127.0.0.1", port=port, key=key, stall_timeout=1) as client:
            return client.document(MANIFEST)

    try:
        assert talk(CHACHA20) == {"files": {}}
        with pytest.raises(KvmfleetError):
            talk(*AES)
        assert (tmp_path / "source" / "exports" / "m-1" / "gnutls.config").read_text().startswith(policy)
    finally:
        server.close()


def test_a_policy_that_lists_what_is_allowed_is_left_alone(tmp_path: Path, host: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    host.write_text("[global]\noverride-mode = allowlist\n")
    assert _ciphers.variables(str(tmp_path)) == {}
    host.unlink()
    (tmp_path / "crypto-policy").touch()
    assert _ciphers.variables(str(tmp_path)) == {}


def test_a_processor_without_aes_keeps_chacha20(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_ciphers, "_has_aes", lambda: False)
    assert _ciphers.variables(str(tmp_path)) == {}
