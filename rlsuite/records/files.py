"""Files that are written and read: whole or not at all, never through a link, and only where they are files.

Whoever can write into a run directory can put a link, a pipe or a device where a file is expected. What is written
replaces such a thing instead of following it; what is read must be a file.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from rlsuite.errors import UserError

TEMPORARY = ".tmp-"
LARGEST_TEXT = 64 << 20  # bytes of a manifest, a config or a record: none of ours comes near


def write_atomically(path: Path, content: str | bytes) -> None:
    """Write a file so that readers, and survivors of a kill, see the old or the new content.

    A link in its place is replaced, and what the link points to is left as it is.

    Raises:
        OSError: it cannot be written; the old content is still there.
    """
    temporary = path.with_name(TEMPORARY + path.name)
    data = content.encode() if isinstance(content, str) else content
    try:
        with contextlib.suppress(FileNotFoundError):  # of a killed process, or a link that someone put there
            os.unlink(temporary)
        with open(temporary, "xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise
    sync_directory(path.parent)


def sync_directory(path: Path) -> None:
    """Make renames in a directory survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def require_inside(path: Path, folder: Path) -> None:
    """Raise UserError if `path`, which lies below `folder` by its name, is somewhere else because of a link."""
    if not is_inside(path, folder):
        raise UserError(
            f"{path} is a link out of {folder}, and nothing is written there; remove the link, or make {folder} itself "
            "the link"
        )


def is_inside(path: Path, folder: Path) -> bool:
    """Say whether `path` lies below `folder` when all links are followed."""
    try:
        return path.resolve().is_relative_to(folder.resolve())
    except (OSError, RuntimeError):  # links in a circle
        return False


def require_file(path: Path, largest: int | None = None) -> None:
    """Raise OSError unless `path` is a regular file, of at most `largest` bytes: reading a pipe would wait for ever."""
    status = os.stat(path)
    if not stat.S_ISREG(status.st_mode):
        kind = "a folder" if stat.S_ISDIR(status.st_mode) else "a pipe or device"
        raise OSError(errno.EINVAL, f"it is {kind}, no file")
    if largest is not None and status.st_size > largest:
        raise OSError(errno.EFBIG, f"it has {status.st_size} bytes, more than {largest}")


def read_text(path: Path, largest: int = LARGEST_TEXT) -> str:
    """Return a text file's content; bytes that are no UTF-8 become replacement characters.

    Raises:
        OSError: it is missing, no regular file, or larger than `largest` bytes.
    """
    require_file(path, largest)
    return path.read_bytes().decode("utf-8", errors="replace")


def open_unlinked(path: Path, mode: str, encoding: str | None = "utf-8") -> IO:
    """Open a file for writing that is neither a link nor a pipe or device; it is made if missing.

    Raises:
        OSError: it is one of these, or cannot be written.
    """

    def opener(name: str, flags: int) -> int:
        # A link fails with ELOOP; NONBLOCK keeps a pipe without a reader from waiting, and matters to no file.
        descriptor = os.open(name, flags | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0), 0o666)
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise OSError(errno.EINVAL, "it is a pipe or device, no file")
        return descriptor

    return open(path, mode, encoding=encoding, opener=opener)


def new_folder(folder: Path) -> Path:
    """Make a folder that was not there, and return it: `folder`, or with a number behind it where that is taken.

    Of several processes that ask at one time, each gets its own.

    Raises:
        OSError: none can be made.
    """
    for number in itertools.count(1):
        chosen = folder if number == 1 else folder.with_name(f"{folder.name}-{number}")
        with contextlib.suppress(FileExistsError):
            chosen.mkdir(parents=True)
            return chosen
    raise AssertionError("unreachable")


@contextlib.contextmanager
def claimed(folder: Path, key: str = "run_dir") -> Iterator[Path]:
    """Give a folder of one's own as `new_folder` does; what nothing was put into is gone again at the end.

    Raises:
        UserError: naming the key, if none can be made.
    """
    had_parent = folder.parent.exists()
    try:
        chosen = new_folder(folder)
    except OSError as error:
        raise UserError(f"cannot write to {key} {folder} ({error.strerror}); choose another {key}=") from None
    try:
        yield chosen
    finally:
        for empty in [chosen] if had_parent else [chosen, chosen.parent]:
            with contextlib.suppress(OSError):  # it is not empty
                empty.rmdir()


def require_writable(path: Path, key: str = "output") -> None:
    """Make a file's folder, and leave the file itself as it is.

    Raises:
        UserError: naming the key, if no file can be written there.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        new = not path.exists()
        path.open("ab").close()
        if new:
            path.unlink()
    except OSError as error:
        raise UserError(f"{key}={path}: cannot be written ({error.strerror}); choose another {key}=") from None
