# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The kinds of values that hosts hand to each other: identifiers, paths, checksums and the like, each with what it may be."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Sequence
from typing import Any

from .image_formats import FORMATS
from .values import Field, one_of, text

DOCUMENT_LIMIT = 16 * 1024 * 1024
"""Bytes of a document of the channel, the checksums of the largest file included."""
NVRAM_DIRECTORY = "/var/lib/libvirt/qemu/nvram"
"""Where libvirt keeps firmware variables."""
LOG_DIRECTORY = "/var/log/libvirt"
"""Where libvirt keeps the logs of consoles."""
TPM_BYTES = 1024 * 1024
"""Of the state of a TPM, which has some kilobytes as a rule."""
RESERVED_TARGETS = ("nvram", "manifest", "definition")
"""What else is offered in the channel beside the disks, which bear their targets there."""

MOST_FILES = 128
_LARGEST = 2**63 - 1

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]{0,63}")
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_DOMAIN = re.compile(r"\w([\w .,+@:()\[\]&#=~!-]{0,126}[\w.,+@:()\[\]&#=~!-])?")
_HOST = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+@:-]{0,252}")
_TARGET = re.compile(r"[A-Za-z][A-Za-z0-9]{0,31}")
_FILE = re.compile(r"[^/\x00-\x1f\x7f]{1,255}")
_LABEL = re.compile(r"[^\x00-\x1f\x7f]{1,255}")
_MAC = re.compile(r"[0-9A-Fa-f]{2}(:[0-9A-Fa-f]{2}){5}")
_HEX = re.compile(r"[0-9a-f]{2,128}")
_SHA256 = re.compile(r"[0-9a-f]{64}")


def _is_integer(value: Any, least: int = 0, most: int = _LARGEST) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most


def _is_path(value: Any) -> bool:
    """Without a way back up; OpenNebula writes double slashes."""
    if not isinstance(value, str) or not 1 < len(value) <= 4096 or not value.startswith("/") or not value.isprintable():
        return False
    return not value.endswith("/") and not {".", ".."} & set(value.split("/"))


def _is_file_name(value: Any) -> bool:
    return isinstance(value, str) and bool(_FILE.fullmatch(value)) and value not in (".", "..")


def _is_domain_name(value: Any) -> bool:
    return isinstance(value, str) and bool(_DOMAIN.fullmatch(value)) and ".." not in value


def _is_base64(value: Any) -> bool:
    try:
        return isinstance(value, str) and base64.b64decode(value, validate=True) is not None
    except (binascii.Error, ValueError):
        return False


def _is_state_path(value: Any) -> bool:
    return _is_path("/" + value) if isinstance(value, str) else False


def logs_below(directories: Sequence[str]) -> Sequence[str]:
    """Where logs of guests may lie on a host with these directories of images."""
    return [LOG_DIRECTORY, *directories]


def variables_below(directories: Sequence[str]) -> Sequence[str]:
    """The same for firmware variables."""
    return [NVRAM_DIRECTORY, *directories]


def is_layer(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 3 and _is_path(value[0]) and value[1] in FORMATS and _is_integer(value[2])


_A_PATH = "an absolute path of a file, without '.', '..' and characters that cannot be printed"
ID = Field("an identifier of letters, digits and '-'", text(_ID))
UUID = Field("a UUID in lower case", text(_UUID))
DOMAIN = Field("a name of a domain that is safe in a path", _is_domain_name)
HOST = Field("a name of a host", text(_HOST))
TARGET = Field("a target of letters and digits, such as vda", lambda value: text(_TARGET)(value) and value not in RESERVED_TARGETS)
CHANNEL = Field("a name in the channel", lambda value: value == "nvram" or TARGET.check(value))
FILE_NAME = Field("a name of a file without '/'", _is_file_name)
LABEL = Field("a printable name of 1 to 255 characters", text(_LABEL))
MAC = Field("a MAC address", text(_MAC))
THING = Field("a printable text of 1 to 4096 characters", lambda value: isinstance(value, str) and 0 < len(value) <= 4096 and value.isprintable())
HEX = Field("hexadecimal digits", text(_HEX))
SHA256 = Field("a SHA-256 in hexadecimal digits", text(_SHA256))
FLAG = Field("true or false", lambda value: isinstance(value, bool))
COUNT = Field("a whole number from 0", _is_integer)
OWNER = Field("the number of a user or group", lambda value: _is_integer(value, 0, 2**32 - 2))
MODE = Field("the mode of a file", lambda value: _is_integer(value, 0, 0o7777))
PORT = Field("a TCP port", lambda value: _is_integer(value, 1, 65535))
BASE64 = Field("Base64", _is_base64)
STATE_PATH = Field("a relative path without detours", _is_state_path)
FORMAT = one_of(*FORMATS)
SOURCE_PATH = Field(_A_PATH, _is_path)
"""Of a file of the other host, which is compared and never opened here."""
IMAGE = Field(_A_PATH, _is_path, lambda directories: directories)
VARIABLES = Field(_A_PATH, _is_path, variables_below)
LOG = Field(_A_PATH, _is_path, logs_below)
PROGRAM = Field(_A_PATH, _is_path)
"""Of a file that this host has already and that `_guest.handed_definition` judges."""
TEXT = Field("a text", lambda value: isinstance(value, str) and len(value) <= DOCUMENT_LIMIT)
OURS = Field("anything", lambda value: True)
"""What the controller made itself, of nothing that a host told."""
