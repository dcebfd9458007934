"""The one exception a user may see: a single line that says what is wrong and how to mend it."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable

MOST_THREADS = 4096


class UserError(Exception):
    """Bad input. Scripts print its one line to stderr and exit with status 2, without a traceback."""


class BrokenEnvironmentError(UserError):
    """An environment of another library raised, or returned what is no observation, reward or end of an episode.

    A training run saves what it has before it ends with this line.
    """


class FailedTransitionsError(UserError):
    """Nothing can be learned from: nearly every transition comes from a simulation that failed."""


def first_line(error: BaseException) -> str:
    """Return an exception's class and the first line of what it says; many say nothing, or a page."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


class NonFiniteActionError(ValueError):
    """A policy gave an environment an action that is NaN or infinite; nothing has been stepped."""


def printable(text: str) -> str:
    """Return `text` with escapes in place of what is not printed: a name may hold a terminal's control sequences."""
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape", "backslashreplace").decode() for char in text
    )


def near_matches(name: object, known: Iterable[str], *, only_close: bool = False) -> str:
    """Return ``"; did you mean 'x' or 'y'?"`` for names close to `name`, else a list of what is known.

    A name may be a number or true, as configs read them.
    """
    known = sorted(known)
    by_lower = {candidate.lower(): candidate for candidate in known}
    close = difflib.get_close_matches(str(name).lower(), by_lower, n=3, cutoff=0.6)
    if close:
        return "; did you mean " + " or ".join(f"'{by_lower[match]}'" for match in close) + "?"
    return "; known: " + ", ".join(known) if known and not only_close else ""


def require_choice(name: str, value: object, known: Iterable[str]) -> None:
    """Raise UserError unless `value` is one of `known`; `name` is the key, such as agent.critic.block."""
    known = list(known)
    require(value in known, f"{name}={value}: use {', '.join(known)}{near_matches(value, known, only_close=True)}")


def require_finite(name: str, value: float, *, low: float = -math.inf, above: float = -math.inf) -> None:
    """Raise UserError unless `value` is finite, at least `low` and greater than `above`."""
    bound = f" of {low:g} or more" if low > -math.inf else f" above {above:g}" if above > -math.inf else ""
    require(math.isfinite(value) and value >= low and value > above, f"{name}={value}: use a finite number{bound}")


def require_threads(num_threads: int) -> None:
    """Raise UserError unless num_threads= is what a machine can have: torch would start as many as it is told."""
    require(0 <= num_threads <= MOST_THREADS, f"num_threads={num_threads}: use 0 (all cores) to {MOST_THREADS}")


def require(condition: bool, message: str) -> None:
    """Raise UserError(message) unless `condition` holds."""
    if not condition:
        raise UserError(message)
