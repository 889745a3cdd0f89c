# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Disk images through `qemu-img`: the format is always told, one call opens one file, and no file outside the given directories is read."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import signal
import stat
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from .._rules.errors import KvmfleetError
from .._rules.image_formats import FORMATS, MAX_DEPTH
from .._system import processes as _processes, whole_file as _whole_file

DIRTY = (
    "{path} was not closed cleanly, so what its tables count may be wrong (dirty bit). 1. Start the guest and shut it down once, which repairs it; or 2. "
    "repair it while the guest is off (qemu-img check -r all -f qcow2 {path})."
)

_KEY = "key"  # what QEMU's tools call the secret of an image
_GIB = 1024**3
_BOUNDS = _processes.Bounds(address_space=_GIB, cpu=30)  # what OpenStack grants qemu-img for a look at an image that nobody vouches for
_QCOW2_MAGIC = b"QFI\xfb"
_DATA_FILE_BIT = 1 << 2
_PROTOCOL = re.compile(r"[A-Za-z0-9+.-]+:")
_CHECK_UNSUPPORTED = 63
_CHECK_WITH_FINDINGS = (0, 2, 3)


@dataclass(frozen=True)
class Layer:
    """One image file as its header tells. Sizes are bytes: `virtual_size` for the guest, `actual_size` allocated, `file_size` apparent.

    `backing_path` is the name in the header, made absolute against the layer's directory where it is relative.
    """

    path: str
    format: str
    virtual_size: int
    actual_size: int
    file_size: int
    backing_path: str | None
    backing_format: str | None
    data_file: str | None
    encrypted: bool
    corrupt: bool
    dirty: bool
    snapshots: tuple[str, ...]
    cluster_size: int | None


@dataclass(frozen=True)
class CheckResult:
    """What `qemu-img check` found apart from corruption, which is an error: leaked clusters waste space and harm nothing."""

    leaks: int


def info(path: str, fmt: str, force_share: bool = False) -> Layer:
    """Read the header of one image; its backing file is not opened.

    :param force_share: read although a running guest writes to it (never for a copy).
    :raises KvmfleetError: `image_missing`, `image_is_symlink`, `not_a_regular_file`, `image_format_unsupported`, `image_has_data_file`,
        `image_in_use`, `qemu_img_failed`.
    """
    status = _inspect(path, fmt)
    output = _run("info", "--output=json", *(["-U"] if force_share else []), "-f", fmt, "--", path, path=path)
    header = json.loads(output)
    specific = header.get("format-specific", {}).get("data", {})
    if specific.get("data-file"):
        raise _data_file_error(path)
    return Layer(
        path=path,
        format=fmt,
        virtual_size=header["virtual-size"],
        actual_size=status.st_blocks * 512,
        file_size=status.st_size,
        backing_path=_absolute_backing(path, header.get("backing-filename")),
        backing_format=header.get("backing-filename-format"),
        data_file=specific.get("data-file"),
        encrypted=bool(header.get("encrypted")),
        corrupt=bool(specific.get("corrupt")),
        dirty=bool(header.get("dirty-flag")),
        snapshots=tuple(snapshot["name"] for snapshot in header.get("snapshots", ())),
        cluster_size=header.get("cluster-size"),
    )


def bitmaps(path: str) -> dict[str, bool]:
    """Name of each persistent bitmap of a qcow2 image that nothing has open -> whether it is valid: QEMU closed it, and did not crash."""
    _inspect(path, "qcow2")
    header = json.loads(_run("info", "--output=json", "-f", "qcow2", "--", path, path=path))
    found = header.get("format-specific", {}).get("data", {}).get("bitmaps", ())
    return {bitmap["name"]: "in-use" not in bitmap["flags"] for bitmap in found}


def chain(path: str, fmt: str, allowed_directories: Sequence[str], force_share: bool = False) -> list[Layer]:
    """All layers of a disk, the guest-writable one first; each layer's format is the one that the layer above tells.

    :param allowed_directories: every layer must lie below one of these, with no symbolic link on the way.
    :raises KvmfleetError: as `info`, and `image_outside_directories`, `backing_outside_directories`, `backing_format_missing`,
        `backing_is_json_or_protocol`, `chain_loop`, `chain_too_deep`.
    """
    layers: list[Layer] = []
    current, current_format = path, fmt
    while True:
        where = check_path(current, allowed_directories, backing_of=layers[-1].path if layers else None)
        if any(layer.path == where for layer in layers):
            raise KvmfleetError("chain_loop", f"The backing chain of {path} comes back to {where}.", path=path, layer=where)
        if len(layers) == MAX_DEPTH:
            raise KvmfleetError("chain_too_deep", f"The backing chain of {path} has more than {MAX_DEPTH} layers.", path=path, limit=MAX_DEPTH)
        layer = info(where, current_format, force_share)
        layers.append(layer)
        if layer.backing_path is None:
            return layers
        current, current_format = _next_layer(layer)


def check_path(path: str, allowed_directories: Sequence[str], backing_of: str | None = None) -> str:
    """The real path of an image below one of the directories; a symbolic link below the directory is refused, not followed."""
    lexical = os.path.normpath(path)
    for directory in allowed_directories:
        for prefix in (os.path.normpath(directory), os.path.realpath(directory)):
            if os.path.isabs(path) and lexical.startswith(prefix.rstrip("/") + "/"):
                expected = os.path.join(os.path.realpath(directory), os.path.relpath(lexical, prefix))
                if os.path.realpath(path) != expected:
                    raise KvmfleetError("image_is_symlink", f"{path} is, or is reached through, a symbolic link (to {os.path.realpath(path)}).", path=path)
                return expected
    where = f"The backing file {path} of {backing_of}" if backing_of else f"The image {path}"
    raise KvmfleetError(
        "backing_outside_directories" if backing_of else "image_outside_directories",
        f"{where} lies outside the image directories {', '.join(allowed_directories) or '(none)'}: move it there, or add its directory.",
        path=path,
        allowed=list(allowed_directories),
    )


def may_lie(path: str, directories: Sequence[str]) -> bool:
    """Whether a file of a guest may lie there at all."""
    try:
        check_path(path, directories)
    except KvmfleetError:
        return False
    return True


def resize(path: str, fmt: str, size: int, key: bytes | None = None) -> None:
    """Grow the image to `size` bytes; qemu-img itself refuses to shrink.

    :param key: of an image that is encrypted with LUKS, whose `size` is what the guest sees.
    """
    _inspect(path, fmt)
    _run("resize", "-q", *(["-f", fmt, "--", path] if key is None else ["--", _node(path, fmt, key)]), str(size), path=path, key=key)


def luks_size(path: str, force_share: bool = False) -> int:
    """The bytes that a guest sees of a raw image that is encrypted with LUKS; KvmfleetError `qemu_img_failed` for one that is not."""
    _inspect(path, "raw")
    return json.loads(_run("info", "--output=json", *(["-U"] if force_share else []), "-f", "luks", "--", path, path=path))["virtual-size"]


def rebase_unsafe(path: str, fmt: str, backing: str, backing_fmt: str) -> None:
    """Write another backing file name into the header; the caller has proven that it holds the same content."""
    _inspect(path, fmt)
    _run("rebase", "-q", "-u", "-f", fmt, "-b", backing, "-F", backing_fmt, "--", path, path=path)


def check(path: str, fmt: str, key: bytes | None = None) -> CheckResult:
    """Check the metadata of one image, without its backing file. Leaks are returned, corruption is KvmfleetError `image_corrupt`.

    :param key: of an image that is encrypted with LUKS.
    """
    # It reads all metadata, and keeps a counter of two bytes for each cluster of the file: 64 KiB as a rule, and where there is data in them, small ones
    # have room too. Measured: 10 to 20 million clusters a second from memory, and a second for each GiB is ten times what the smallest take.
    status = _inspect(path, fmt)
    allocated = status.st_blocks * 512
    bounds = _processes.Bounds(_BOUNDS.address_space + allocated // 1024 + status.st_size // 16384, _BOUNDS.cpu + allocated // _GIB)
    result = _execute("check", "--output=json", _node(path, fmt, key), path=path, key=key, bounds=bounds)
    if result.returncode == _CHECK_UNSUPPORTED:
        return CheckResult(leaks=0)
    if result.returncode not in _CHECK_WITH_FINDINGS:
        raise _failure("check", path, result)
    findings = json.loads(result.stdout)
    broken = findings.get("corruptions", 0) + findings.get("check-errors", 0)
    if broken:
        raise KvmfleetError("image_corrupt", f"qemu-img check found {broken} errors in {path}: repair it (qemu-img check -r) first.", path=path, errors=broken)
    return CheckResult(leaks=findings.get("leaks", 0))


def create_overlay(path: str, backing: str, backing_fmt: str, size: int | None = None) -> None:
    """Create a qcow2 overlay, mode 0600, that did not exist before; `size` bytes, or as large as its backing file."""
    _make(path)
    try:
        _run("create", "-q", "-f", "qcow2", "-b", backing, "-F", backing_fmt, "--", path, *([] if size is None else [str(size)]), path=path)
    except KvmfleetError:
        os.unlink(path)
        raise


def convert_raw(source: str, path: str, fmt: str) -> None:
    """Make an image in the format `fmt`, mode 0600, that did not exist before, out of a raw file of this host; holes stay holes."""
    _make(path)
    _inspect(source, "raw")
    _run("convert", "-q", "-f", "raw", "-O", fmt, "--", source, path, path=path, bounds=None)


def _make(path: str) -> None:
    try:
        with _whole_file.make(path):
            pass
    except FileExistsError as exc:
        raise KvmfleetError("image_exists", f"{path} exists already.", path=path) from exc


def commit(path: str, base: str) -> None:
    """Merge the qcow2 overlay `path`, and what lies between, into `base`, for an image that no guest uses; `path` itself is left as it is.

    The base is always named: without it qemu-img would write into the image right below, which other guests may share.
    """
    _inspect(path, "qcow2")
    _run("commit", "-q", "-d", "-f", "qcow2", "-b", base, "--", path, path=path, bounds=None)


def assert_no_snapshots(path: str) -> None:
    """KvmfleetError `layer_has_snapshots` where a layer that is to be merged holds internal snapshots, which the image below would not get."""
    names = info(path, "qcow2", force_share=True).snapshots
    if names:
        raise KvmfleetError(
            "layer_has_snapshots",
            f"{path} holds snapshots of the guest ({', '.join(names)}), made since the operation began; merging it would lose them. "
            "Delete them (virsh snapshot-delete) and repeat.",
            path=path,
            snapshots=list(names),
        )


def assert_not_in_use(path: str, fmt: str) -> None:
    """KvmfleetError `image_in_use` while a process holds QEMU's lock on the image."""
    info(path, fmt, force_share=False)


def has_driver(name: str) -> bool:
    """Whether QEMU has a block driver, which distributions package apart."""
    return f"Unknown driver '{name}'" not in _execute("info", "json:" + json.dumps({"driver": name}), path=name, bounds=None).stderr


def _inspect(path: str, fmt: str) -> os.stat_result:
    """What must hold before qemu-img may open the file; even asking an old qemu-img about a planted header is not safe."""
    if fmt not in FORMATS:
        raise KvmfleetError("image_format_unsupported", f"{path} has the format {fmt!r}; {' and '.join(FORMATS)} images can be moved.", path=path, format=fmt)
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as exc:
        if exc.errno == errno.ELOOP:
            raise KvmfleetError("image_is_symlink", f"{path} is a symbolic link (to {os.path.realpath(path)}).", path=path) from exc
        if exc.errno in (errno.ENOENT, errno.ENOTDIR):
            raise KvmfleetError("image_missing", f"{path} does not exist.", path=path) from exc
        if exc.errno == errno.ENXIO:
            raise KvmfleetError("not_a_regular_file", f"{path} is not a regular file.", path=path) from exc
        raise
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise KvmfleetError("not_a_regular_file", f"{path} is not a regular file.", path=path)
        header = os.pread(descriptor, 80, 0) if fmt == "qcow2" else b""
    finally:
        os.close(descriptor)
    version = int.from_bytes(header[4:8], "big")
    if header[:4] == _QCOW2_MAGIC and version >= 3 and int.from_bytes(header[72:80], "big") & _DATA_FILE_BIT:
        raise _data_file_error(path)
    return status


def is_qcow2(path: str) -> bool:
    """Whether a file begins as a qcow2 image does; only for telling that something is none, never for choosing a format."""
    with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC), "rb") as stream:
        return stream.read(len(_QCOW2_MAGIC)) == _QCOW2_MAGIC


def _data_file_error(path: str) -> KvmfleetError:
    return KvmfleetError(
        "image_has_data_file", f"{path} keeps its data in a second file that its header names; convert it to a plain qcow2 image first.", path=path
    )


def _absolute_backing(path: str, name: str | None) -> str | None:
    if name is None or _PROTOCOL.match(name):
        return name
    return os.path.join(os.path.dirname(path), name)


def _next_layer(layer: Layer) -> tuple[str, str]:
    backing = layer.backing_path or ""
    if _PROTOCOL.match(backing):
        raise KvmfleetError(
            "backing_is_json_or_protocol", f"The backing file of {layer.path} is {backing!r}; it must be a plain path.", path=layer.path, backing=backing
        )
    if layer.backing_format is None:
        raise KvmfleetError(
            "backing_format_missing",
            f"{layer.path} does not tell the format of its backing file {backing}. Write it, once you know it: "
            f"qemu-img rebase -u -f {layer.format} -b {backing} -F FORMAT {layer.path}",
            path=layer.path,
            backing=backing,
        )
    return backing, layer.backing_format


def _node(path: str, fmt: str, key: bytes | None) -> str:
    """An image without its backing file, for QEMU's tools."""
    node: dict[str, Any] = {"driver": fmt, "file": {"driver": "file", "filename": path}}
    if fmt == "qcow2":
        node["backing"] = None
        node.update({"encrypt": {"format": "luks", "key-secret": _KEY}} if key is not None else {})
    elif key is not None:
        node.update({"driver": "luks", "key-secret": _KEY})
    return "json:" + json.dumps(node)


def _run(command: str, *arguments: str, path: str, bounds: _processes.Bounds | None = _BOUNDS, key: bytes | None = None) -> str:
    result = _execute(command, *arguments, path=path, bounds=bounds, key=key)
    if result.returncode:
        raise _failure(command, path, result)
    return result.stdout


def _execute(
    command: str, *arguments: str, path: str, bounds: _processes.Bounds | None = _BOUNDS, key: bytes | None = None
) -> subprocess.CompletedProcess[str]:
    """Run qemu-img for as long as it gets on, within the bounds; those of a merge or a conversion are what there is to copy."""
    try:
        with _in_memory(key) as descriptors:
            secrets = [word for number in descriptors for word in ("--object", f"secret,id={_KEY},file=/dev/fd/{number}")]
            words = ["qemu-img", command, *secrets, *arguments]
            what, environment = f"{command} {path}", {**os.environ, "LC_ALL": "C"}
            result = _processes.run(words, what=what, bounds=bounds, env=environment, pass_fds=descriptors)
    except FileNotFoundError as exc:
        raise KvmfleetError("qemu_img_missing", "qemu-img is not installed: install qemu-utils (Debian, Ubuntu) or qemu-img (Fedora, RHEL).") from exc
    if bounds is not None and result.returncode in (-signal.SIGXCPU, -signal.SIGKILL):
        message = f"qemu-img {command} {path} needed more than {bounds.cpu} s of a processor, which no sound image of its size does."
        raise KvmfleetError("qemu_img_failed", message, path=path, limit=bounds.cpu)
    return result


@contextlib.contextmanager
def _in_memory(key: bytes | None) -> Iterator[tuple[int, ...]]:
    """The descriptor of a file that is on no disk and holds the key, or none: a child opens it by its number."""
    if key is None:
        yield ()
        return
    descriptor = os.memfd_create("key")
    try:
        os.write(descriptor, key)
        yield (descriptor,)
    finally:
        os.close(descriptor)


def _failure(command: str, path: str, result: subprocess.CompletedProcess[str]) -> KvmfleetError:
    said = result.stderr.strip()
    if " lock" in said and "Failed to get" in said:
        return KvmfleetError("image_in_use", f"{path} is open in another process (a guest, a backup): QEMU holds its lock.", path=path)
    reason = said.splitlines()[0] if said else f"exit status {result.returncode}"
    return KvmfleetError("qemu_img_failed", f"qemu-img {command} {path} failed: {reason}", path=path)
