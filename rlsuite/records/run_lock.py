"""One run a directory: an advisory lock that the operating system releases however the process ends."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import stat
import weakref
from pathlib import Path

from rlsuite.errors import UserError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None


class RunLock:
    """Hold ``run_dir/.lock`` (flock) for as long as the ``with`` block lasts.

    The file stays behind when the lock is released: deleting it would let two processes lock two files of
    one name. It holds the owner's pid and host for the message that a second run gets.

    Args:
        run_dir: the run's directory; made if missing.

    Raises:
        UserError: on entry, when another process holds the lock or the directory cannot be written.
    """

    def __init__(self, run_dir: str | Path) -> None:
        self.run_dir = Path(run_dir)
        self._descriptor: int | None = None

    def __enter__(self) -> RunLock:
        if self._descriptor is not None:
            raise ValueError(f"this RunLock already holds {self.run_dir}; make a second one or leave the block")
        if fcntl is None:
            raise UserError("this system has no file locks (fcntl), which keep a run directory to one run; use WSL")
        try:
            self.run_dir.mkdir(parents=True, exist_ok=True)
            # A link in its place is not followed, and a pipe does not keep us waiting.
            flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK
            descriptor = os.open(self.run_dir / ".lock", flags, 0o666)
        except OSError as error:
            raise UserError(
                f"cannot write to run_dir {self.run_dir} ({error.strerror}); choose another run_dir="
            ) from error
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise UserError(f"{self.run_dir}/.lock is a pipe or device, no file; remove it, or choose another run_dir=")
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._sign(descriptor)
        except BlockingIOError:
            owner = _owner(descriptor)
            os.close(descriptor)
            raise UserError(
                f"run_dir {self.run_dir} is in use by {owner}; choose another run_dir= or wait until it ends"
            ) from None
        except OSError as error:
            os.close(descriptor)
            raise UserError(
                f"cannot lock run_dir {self.run_dir} ({error.strerror}); "
                "choose a run_dir= with free space on a file system with locks"
            ) from error
        except BaseException:
            os.close(descriptor)
            raise
        self._descriptor = descriptor
        _held.add(self)
        return self

    def __exit__(self, *exception: object) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
            _held.discard(self)

    @staticmethod
    def _sign(descriptor: int) -> None:
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, json.dumps({"pid": os.getpid(), "host": socket.gethostname()}).encode(), 0)

    def _drop_in_child(self) -> None:
        # A forked child shares the open file: outliving its parent, it would keep the directory locked.
        if self._descriptor is not None:
            with contextlib.suppress(OSError):
                os.close(self._descriptor)
            self._descriptor = None


def _owner(descriptor: int) -> str:
    try:
        owner = json.loads(os.pread(descriptor, 4096, 0))
        return f"process {int(owner['pid'])} on {owner['host']}"
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"  # it has locked the file and not signed it yet


_held: weakref.WeakSet[RunLock] = weakref.WeakSet()


def _drop_all_in_child() -> None:
    for lock in list(_held):
        lock._drop_in_child()


if hasattr(os, "register_at_fork"):  # there is no fork on Windows
    os.register_at_fork(after_in_child=_drop_all_in_child)
