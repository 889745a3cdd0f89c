# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Commands to the TPM of a guest that has no tools for it: seal a secret under the owner's primary key, and unseal it.

The primary key comes from a seed in the TPM and a template, so that it is the same as long as the TPM is. Structures: TPM 2.0 Library, parts 2 and 3.
"""

from __future__ import annotations

from struct import pack, unpack_from

from .guest import Guest

_SECRET = b"the key of the disk"
_STATES = "/var/lib/libvirt/swtpm"
_OWNER = 0x40000001
_PASSWORD_SESSION = pack(">IHBH", 0x40000009, 0, 0, 0)
_CREATE_PRIMARY, _CREATE, _LOAD, _UNSEAL, _FLUSH = 0x131, 0x153, 0x157, 0x15E, 0x165
_ECC, _KEYED_HASH, _SHA256, _NULL = 0x23, 0x08, 0x0B, 0x10
_STORAGE_KEY = 0x30072  # fixed to TPM and parent, made in it, with authorization; restricted, decrypts
_SEALED_DATA = 0x52
_NO_PCRS = pack(">I", 0)
_HEADER = 10
_AFTER_SIZE = _HEADER + 4


def device(inner: str = "") -> str:
    """The element of an emulated TPM."""
    return f"<tpm model='tpm-crb'><backend type='emulator' version='2.0'>{inner}</backend></tpm>"


class Sealed:
    """A secret that the TPM of a running guest has sealed."""

    def __init__(self, guest: Guest) -> None:
        self.guest = guest
        self._uuid = guest.host.virsh("domuuid", guest.name).strip()
        self._blob = _seal(guest, _SECRET)
        assert self.opens()

    def opens(self) -> bool:
        """Whether it is still the same TPM; an error of the TPM fails the test."""
        return _unseal(self.guest, self._blob) == _SECRET

    @property
    def keepers(self) -> list[str]:
        """The hosts that keep what the TPM remembers."""
        return [name for name, host in self.guest.lab.hosts.items() if host.sh(f"ls -d {_STATES}/{self._uuid}* 2>/dev/null", check=False)]


def _seal(guest: Guest, secret: bytes) -> bytes:
    """Seal it; the blob that only the same TPM can unseal."""
    parent = _primary(guest)
    sensitive = _sized(_sized(b"") + _sized(secret))
    public = _sized(pack(">HHI", _KEYED_HASH, _SHA256, _SEALED_DATA) + _sized(b"") + pack(">H", _NULL) + _sized(b""))
    answer = _command(guest, _CREATE, [parent], sensitive + public + _sized(b"") + _NO_PCRS)
    _flush(guest, parent)
    private_end = _end(answer, _AFTER_SIZE)
    return answer[_AFTER_SIZE : _end(answer, private_end)]


def _unseal(guest: Guest, blob: bytes) -> bytes:
    parent = _primary(guest)
    (item,) = unpack_from(">I", _command(guest, _LOAD, [parent], blob), _HEADER)
    answer = _command(guest, _UNSEAL, [item], b"")
    for handle in (item, parent):
        _flush(guest, handle)
    return answer[_AFTER_SIZE + 2 : _end(answer, _AFTER_SIZE)]


def _primary(guest: Guest) -> int:
    aes = pack(">HHH", 0x06, 128, 0x43)
    template = pack(">HHI", _ECC, _SHA256, _STORAGE_KEY) + _sized(b"") + aes + pack(">HHH", _NULL, 0x03, _NULL) + _sized(b"") + _sized(b"")
    answer = _command(guest, _CREATE_PRIMARY, [_OWNER], _sized(_sized(b"") + _sized(b"")) + _sized(template) + _sized(b"") + _NO_PCRS)
    return unpack_from(">I", answer, _HEADER)[0]


def _flush(guest: Guest, handle: int) -> None:
    _exchange(guest, pack(">HII", 0x8001, _HEADER + 4, _FLUSH) + pack(">I", handle))


def _command(guest: Guest, code: int, handles: list[int], parameters: bytes) -> bytes:
    body = b"".join(pack(">I", handle) for handle in handles) + pack(">I", len(_PASSWORD_SESSION)) + _PASSWORD_SESSION + parameters
    return _exchange(guest, pack(">HII", 0x8002, _HEADER + len(body), code) + body)


def _exchange(guest: Guest, request: bytes) -> bytes:
    text = "".join(f"\\{byte:03o}" for byte in request)
    said = guest.exec("sh", "-c", f"exec 3<>/dev/tpm0; printf '{text}' >&3; dd bs=4096 count=1 <&3 2>/dev/null | hexdump -v -e '1/1 \"%02x\"'")
    answer = bytes.fromhex(said)
    (status,) = unpack_from(">I", answer, 6)
    assert status == 0, f"the TPM answers {status:#x} to command {unpack_from('>I', request, 6)[0]:#x}"
    return answer


def _sized(content: bytes) -> bytes:
    return pack(">H", len(content)) + content


def _end(answer: bytes, at: int) -> int:
    return at + 2 + unpack_from(">H", answer, at)[0]
