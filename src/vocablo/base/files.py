"""Files that are whole or absent: written under a temporary name, flushed to the disk, renamed.

Their mode is the one that the umask says, whatever wrote them (safetensors makes files that only their owner can read).
A killed process leaves at most a ``.tmp-*`` name behind, which the next writer of the same folder removes. A full disk or
a folder without permission is a ``StorageError`` that says how much room is needed, and the old file stays.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

from vocablo.base.errors import StorageError

TEMPORARY = ".tmp-"


@contextlib.contextmanager
def storage_errors(path: Path) -> Iterator[None]:
    """Turn the system's errors about ``path`` into a StorageError that says what to do."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            free = _free(path) / 2**20
            raise StorageError(
                f"No space left to write {path} ({free:.1f} MiB free): free some space or choose another folder. "
                "What was there before is intact."
            ) from error
        if error.errno == errno.EFBIG:
            raise StorageError(
                f"Can't write {path}: this system allows no file so large; raise the limit (ulimit -f) or choose another disk."
            ) from error
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise StorageError(f"No permission to write {path}: choose another folder.") from error
        raise StorageError(f"Can't write {path}: {error.strerror or error}.") from error


def require_space(path: Path, size: int, what: str) -> None:
    """Raise StorageError before work starts when ``path``'s disk has less than ``size`` bytes free."""
    free = _free(path)
    if free < size:
        raise StorageError(
            f"{what} needs about {size / 2**20:.0f} MiB at {path}, and {free / 2**20:.0f} MiB are free: "
            "free some space or choose another folder."
        )


def _free(path: Path) -> int:
    path = path.absolute()
    while not path.exists():
        path = path.parent
    return shutil.disk_usage(path).free


def write_text(path: Path, text: str) -> None:
    """Write a text file whole or not at all."""
    write_bytes(path, text.encode("utf-8"))


def write_bytes(path: Path, data: bytes) -> None:
    """Write a file whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_bytes(data)


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary name to write a file, or a folder, under; on success it takes the place of ``path`` in one rename.

    A folder that exists already is moved aside first and removed afterwards, so that one of the two is always whole.
    """
    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.parent / f"{TEMPORARY}{os.getpid()}-{path.name}"
        _remove(temporary)
    try:
        with storage_errors(path):
            yield temporary
            _open_to_others(temporary)
            _flush(temporary)
            if path.is_dir() and temporary.is_dir():
                aside = path.parent / f"{TEMPORARY}old-{path.name}"
                _remove(aside)
                path.rename(aside)
                temporary.rename(path)
                _remove(aside)
            else:
                temporary.replace(path)
            _flush_folder(path.parent)
    except BaseException:
        _remove(temporary)
        raise


def sweep(folder: Path) -> None:
    """Remove what killed writers left in ``folder``, after putting back a folder that was moved aside and not replaced."""
    if not folder.is_dir():
        return
    for leftover in folder.glob(f"{TEMPORARY}*"):
        original = folder / leftover.name.removeprefix(f"{TEMPORARY}old-")
        if leftover.name.startswith(f"{TEMPORARY}old-") and not original.exists():
            leftover.rename(original)
        else:
            _remove(leftover)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _files(path: Path) -> list[Path]:
    return [path] if path.is_file() else [inner for inner in path.rglob("*") if inner.is_file()]


def _open_to_others(path: Path) -> None:
    """Give files the mode of an ordinary new one, which is learnt from one: asking for the umask would change it."""
    probe = path.with_name(f"{path.name}-mode")
    _remove(probe)
    handle = os.open(probe, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)
    try:
        mode = stat.S_IMODE(os.fstat(handle).st_mode)
    finally:
        os.close(handle)
        _remove(probe)
    for file in _files(path):
        if stat.S_IMODE(file.stat().st_mode) != mode:
            file.chmod(mode)


def _flush(path: Path) -> None:
    for file in _files(path):
        handle = os.open(file, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _flush_folder(folder: Path) -> None:
    with contextlib.suppress(OSError):  # some file systems refuse to open a folder for this
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
