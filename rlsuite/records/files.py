"""Files that scripts write: whether they can be is found out before the work, not after it."""

from __future__ import annotations

from pathlib import Path

from rlsuite.errors import UserError


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
