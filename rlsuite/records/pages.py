"""Pages of Markdown that hold what a script has found, between two marks."""

from __future__ import annotations

from pathlib import Path

from rlsuite.errors import UserError, require
from rlsuite.records.files import require_file, write_atomically


def put_between(page: Path, marks: tuple[str, str], content: str) -> None:
    """Write a page anew with `content` between its two marks, whole or not at all.

    Raises:
        UserError: if there is no such page, or it has not each mark once and in their order.
    """
    try:
        require_file(page)
        text, (begin, end) = page.read_text(), marks
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"page={page}: cannot be read ({error}); name a page of Markdown") from None
    good = text.count(begin) == text.count(end) == 1 and text.index(begin) < text.index(end)
    require(good, f"page={page}: it has not the lines '{begin}' and '{end}'; add them where the table belongs")
    before, rest = text.split(begin)
    write_atomically(page, f"{before}{begin}\n{content}\n{end}{rest.split(end)[1]}".encode())
