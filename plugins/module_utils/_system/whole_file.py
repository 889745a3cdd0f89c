# Copyright: kvmfleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A file of a guest is written whole or not at all, whatever ends the process, the filesystem or the power meanwhile.

It lies under a temporary name beside its own until its content, its owner and its mode are on the disk, and only then gets its name, which is on the
disk when the call returns. That a file exists says nothing about what it contains: whoever relies on it later notes its `stamp` in the journal
and compares.

Directories such as that of firmware variables belong to the user of QEMU. Nothing is opened through a link that anybody but root has made.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import shutil
import stat
from collections.abc import Iterator, Mapping
from typing import Any, BinaryIO, NamedTuple

from .._rules.errors import KvmfleetError
from .._rules.file_names import NEW as NEW_SUFFIX
from .walking import directory, link

NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_STAYS = frozenset({errno.ENOTEMPTY, errno.EEXIST, errno.EBUSY, errno.ENOTDIR, errno.EPERM, errno.EACCES, errno.EROFS})
"""Why a directory cannot be removed that is not wanted any more; none of that is worth keeping an operation open for."""
_BLOCK = 64 * 1024
_ZERO = bytes(_BLOCK)
_LABELS = "security."
_REGULAR = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class Look(NamedTuple):
    """Who may do what with a file. A user or group of -1 is the one of whoever writes the file."""

    uid: int
    gid: int
    mode: int


PRIVATE = Look(-1, -1, 0o600)


def write(path: str, content: bytes, *, look: Look = PRIVATE, durable: bool = True, through: str | None = None) -> None:
    """Let the file hold this content, in place of what bore the name.

    :param durable: False for a file that is worth nothing after a crash of the host, and that nobody shall wait for.
    :param through: the temporary name, where it must not lie beside the file.
    """
    temporary = through or path + NEW_SUFFIX
    _forget(temporary)
    try:
        with make(temporary, look) as stream:
            stream.write(content)
            _end(stream, temporary, len(content), durable)
        replace(temporary, path, durable=durable)
    except BaseException:
        _forget(temporary)
        raise


def write_tree(path: str, files: Mapping[str, bytes], *, through: str, mode: int) -> None:
    """Make a directory that holds these files (content by path below it), private but for itself; it does not exist yet.

    :param through: the temporary name of the directory, beside its own; :param mode: of the directory itself.
    :raises KvmfleetError: `invalid_name` for a file that would lie elsewhere.
    """
    with _place(through) as (where, name):
        shutil.rmtree(through, ignore_errors=True)
        os.mkdir(name, 0o700, dir_fd=where)
    made = [through]
    for below, content in files.items():
        inside = os.path.normpath(os.path.join(through, below))
        if not inside.startswith(through + os.sep):
            raise KvmfleetError("invalid_name", f"{below!r} names no file below {path}.", value=below)
        for parent in reversed([*_parents(inside, through)]):
            if parent not in made:
                os.mkdir(parent, 0o700)
                made.append(parent)
        with make(inside) as stream:
            stream.write(content)
            _end(stream, inside, len(content), True)
    for each in reversed(made):
        sync_directory(each)
    os.chmod(through, mode)
    rename(through, path)


def copy(source: str, path: str, *, through: str | None = None) -> dict[str, Any]:
    """Make a file, in place of what bore the name, with the content, owner, mode and label of another one; holes stay holes.

    :param through: the temporary name; the path itself, where that is a temporary one already.
    :returns: its `stamp`.
    :raises KvmfleetError: `copy_differs` where the source is being written to, or the disk gives back something else than was written.
    """
    temporary = through or path + NEW_SUFFIX
    _forget(temporary)
    try:
        with opened(source) as reader, _about(temporary):
            before = os.fstat(reader)
            look = Look(before.st_uid, before.st_gid, stat.S_IMODE(before.st_mode))
            with make(temporary) as stream:
                told = _checksum(reader, stream)
                os.ftruncate(stream.fileno(), told["size"])
                _label(reader, stream.fileno())
                _dress(stream.fileno(), look)
                _end(stream, temporary, before.st_size, True)
            after = os.fstat(reader)
        if (after.st_size, after.st_mtime_ns) != (before.st_size, before.st_mtime_ns) or stamp(temporary) != told:
            raise KvmfleetError("copy_differs", f"{path} did not become what {source} is; something writes to it, or the disk is broken.", path=source)
        if temporary != path:
            replace(temporary, path)
    except BaseException:
        _forget(temporary)
        raise
    return told


@contextlib.contextmanager
def make(path: str, look: Look = PRIVATE) -> Iterator[BinaryIO]:
    """A new file under a temporary name, which nothing bears yet. It is for the caller to complete it."""
    with _about(path), _place(path) as (where, name):
        descriptor = os.open(name, os.O_RDWR | os.O_CREAT | os.O_EXCL | _REGULAR, 0o600, dir_fd=where)
        with os.fdopen(descriptor, "w+b") as stream:
            _dress(descriptor, look)
            yield stream


@contextlib.contextmanager
def part(path: str) -> Iterator[int]:
    """The descriptor of a temporary file that is filled bit by bit, begun or gone on with."""
    with _about(path), _place(path) as (where, name):
        descriptor = os.open(name, os.O_RDWR | os.O_CREAT | _REGULAR, 0o600, dir_fd=where)
        try:
            _require_regular(descriptor, path)
            yield descriptor
        finally:
            os.close(descriptor)


def complete(path: str, look: Look = PRIVATE) -> os.stat_result:
    """Bring to the disk what another program has written under a temporary name, owner and mode included; what is known of the file then."""
    with opened(path) as descriptor, _about(path):
        _dress(descriptor, look)
        os.fsync(descriptor)
        status = os.fstat(descriptor)
    sync_directory(os.path.dirname(path))
    return status


def publish(temporary: str, path: str) -> None:
    """Give a complete file its name, which another file never loses by that.

    :raises KvmfleetError: `path_taken`.
    """
    with _about(path), _place(temporary) as (source, old), _place(path) as (target, new):
        try:
            os.link(old, new, src_dir_fd=source, dst_dir_fd=target, follow_symlinks=False)
        except FileExistsError:
            # A run that died in between has left both names.
            if not _same(source, old, target, new):
                raise KvmfleetError("path_taken", f"{path} exists on this host and does not belong to this operation.", path=path) from None
        os.unlink(old, dir_fd=source)
        os.fsync(target)


def replace(temporary: str, path: str, *, durable: bool = True) -> None:
    """Give a complete file its name, in place of what bore it."""
    with _about(path), _place(temporary) as (source, old), _place(path) as (target, new):
        os.replace(old, new, src_dir_fd=source, dst_dir_fd=target)
        if durable:
            os.fsync(target)


def rename(path: str, new_path: str) -> None:
    """Give a file or directory another name that nothing bears, in the same directory."""
    with _about(path), _place(path) as (where, old):
        new = os.path.basename(new_path)
        if _exists(where, new):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), new_path)
        os.rename(old, new, src_dir_fd=where, dst_dir_fd=where)
        os.fsync(where)


def remove(path: str) -> None:
    """Delete a file; that it is gone is on the disk when this returns."""
    with _about(path), _place(path) as (where, name):
        os.unlink(name, dir_fd=where)
        os.fsync(where)


@contextlib.contextmanager
def opened(path: str, *, writable: bool = False) -> Iterator[int]:
    """The descriptor of a regular file that exists, to read.

    :param writable: to add to it as well, which is for files that grow anyway.
    """
    with _about(path), _place(path) as (where, name):
        descriptor = os.open(name, (os.O_RDWR if writable else os.O_RDONLY) | _REGULAR, dir_fd=where)
    try:
        _require_regular(descriptor, path)
        yield descriptor
    finally:
        os.close(descriptor)


def stamp(path: str) -> dict[str, Any] | None:
    """What tells a file's content from any other: its `size` and `sha256`; None where there is no file."""
    try:
        with opened(path) as descriptor:
            return _checksum(descriptor)
    except FileNotFoundError:
        return None


def make_directory(path: str, mode: int) -> None:
    """A directory of this mode, whatever the umask lets nobody do; the mode of one that is there already is the site's own matter."""
    try:
        os.mkdir(path, 0o700)
    except FileExistsError:
        return
    os.chmod(path, mode)


def make_directories(path: str, looks: Mapping[str, Look]) -> dict[str, int]:
    """Make a directory under a temporary name, and those below it.

    :param looks: of each, by its path below this one, which itself is `.`.
    :returns: their inodes, by the same.
    """
    inodes = {}
    with contextlib.ExitStack() as opened_ones:
        made: dict[str, int] = {}
        for name in sorted(looks, key=lambda name: (name != ".", name.count("/"))):
            whole = os.path.normpath(os.path.join(path, name))
            where = opened_ones.enter_context(directory(os.path.dirname(whole))) if name == "." else made[os.path.dirname(name) or "."]
            with _about(whole):
                os.mkdir(os.path.basename(whole), 0o700, dir_fd=where)
                made[name] = os.open(os.path.basename(whole), os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=where)
                opened_ones.callback(os.close, made[name])
                inodes[name] = os.fstat(made[name]).st_ino
        for name, descriptor in reversed(made.items()):
            with _about(os.path.join(path, name)):
                _dress(descriptor, looks[name])
                os.fsync(descriptor)
    sync_directory(os.path.dirname(path))
    return inodes


def remove_directory(path: str, inode: int) -> bool:
    """Remove a directory if it is this one and empty; whether it was. A link in its place, and a mount, stay."""
    with _about(path), _place(path) as (where, name):
        status = os.stat(name, dir_fd=where, follow_symlinks=False)
        if not stat.S_ISDIR(status.st_mode) or status.st_ino != inode:
            return False
        try:
            os.rmdir(name, dir_fd=where)
        except OSError as exc:
            if exc.errno not in _STAYS:
                raise
            return False
        os.fsync(where)
    return True


def sync_directory(path: str) -> None:
    """Make the directory's entries (renames, unlinks) durable."""
    with directory(path) as descriptor:
        os.fsync(descriptor)


@contextlib.contextmanager
def _place(path: str) -> Iterator[tuple[int, str]]:
    """The directory of a path and its name there."""
    with directory(os.path.dirname(path)) as descriptor:
        yield descriptor, os.path.basename(path)


@contextlib.contextmanager
def _about(path: str) -> Iterator[None]:
    """Errors that name the file, which is known to the system as a name in a directory."""
    try:
        yield
    except OSError as exc:
        if exc.errno in NO_ROOM:
            raise KvmfleetError("no_space", f"Writing {path} failed: {exc.strerror}.", path=path) from exc
        if exc.errno == errno.ELOOP:
            raise link(path) from exc
        if exc.errno == errno.ENXIO:
            raise _no_file(path) from exc
        raise OSError(exc.errno, exc.strerror, path) from exc


def _no_file(path: str) -> KvmfleetError:
    return KvmfleetError("not_a_regular_file", f"{path} is not a regular file.", path=path)


def _require_regular(descriptor: int, path: str) -> None:
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        raise _no_file(path)


def _dress(descriptor: int, look: Look) -> None:
    os.fchown(descriptor, look.uid, look.gid)
    os.fchmod(descriptor, look.mode)  # after the owner, whose change takes bits away


def _label(source: int, target: int) -> None:
    """What SELinux and the like say of a file, where the filesystem keeps it."""
    with contextlib.suppress(OSError):
        for name in os.listxattr(source):
            if name.startswith(_LABELS):
                os.setxattr(target, name, os.getxattr(source, name))


def _end(stream: BinaryIO, path: str, size: int, durable: bool) -> None:
    stream.flush()
    if durable:
        os.fsync(stream.fileno())
    have = os.fstat(stream.fileno()).st_size
    if have != size:
        raise KvmfleetError("copy_differs", f"{path} has {have} bytes, not the {size} that were written.", path=path, have=have, need=size)


def _checksum(reader: int, into: BinaryIO | None = None) -> dict[str, Any]:
    """The stamp of what is read; it is written as well, zeros as holes, where `into` is given."""
    hasher, size = hashlib.sha256(), 0
    os.lseek(reader, 0, os.SEEK_SET)
    while block := os.read(reader, _BLOCK):
        hasher.update(block)
        if into is not None and block != _ZERO[: len(block)]:
            into.seek(size)
            into.write(block)
        size += len(block)
    if into is not None:
        into.flush()
    return {"size": size, "sha256": hasher.hexdigest()}


def _parents(path: str, top: str) -> Iterator[str]:
    while (path := os.path.dirname(path)) != top:
        yield path


def _exists(where: int, name: str) -> bool:
    try:
        os.stat(name, dir_fd=where, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def _same(where: int, name: str, other: int, other_name: str) -> bool:
    return os.path.samestat(os.stat(name, dir_fd=where, follow_symlinks=False), os.stat(other_name, dir_fd=other, follow_symlinks=False))


def _forget(path: str) -> None:
    with contextlib.suppress(OSError, KvmfleetError), _place(path) as (where, name):
        os.unlink(name, dir_fd=where)
