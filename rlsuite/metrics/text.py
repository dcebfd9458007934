"""How good sequences of words are: errors counted by edit distance.

Words may be anything that can be compared: strings or numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from rlsuite.errors import require


class Edits(NamedTuple):
    """The fewest edits that make a reference of a hypothesis, by kind; of several fewest ways, one."""

    substitutions: int
    deletions: int
    insertions: int

    @property
    def total(self) -> int:
        """The edit distance (Levenshtein 1966)."""
        return self.substitutions + self.deletions + self.insertions


def edits(reference: Sequence[Any], hypothesis: Sequence[Any]) -> Edits:
    """Return the edits between two sequences.

    Args:
        reference: what should be there; a word of it that is missing is a deletion.
        hypothesis: what was read; a word of it too many is an insertion.
    """
    row = [Edits(0, 0, column) for column in range(len(hypothesis) + 1)]
    for wanted in reference:
        above, row = row, [row[0]._replace(deletions=row[0].deletions + 1)]
        for column, read in enumerate(hypothesis):
            same = above[column]
            replaced = same if wanted == read else same._replace(substitutions=same.substitutions + 1)
            deleted = above[column + 1]._replace(deletions=above[column + 1].deletions + 1)
            inserted = row[column]._replace(insertions=row[column].insertions + 1)
            row.append(min(replaced, deleted, inserted, key=lambda one: one.total))
    return row[-1]


def word_error_rate(references: Sequence[Sequence[Any]], hypotheses: Sequence[Sequence[Any]]) -> float:
    """Return all edits of a corpus over all words of its references: 0 is perfect; insertions may make it exceed 1.

    Raises:
        ValueError: if there are not as many hypotheses as references.
        UserError: if the references hold no word.
    """
    words = sum(map(len, references))
    require(words > 0, "the references hold no word; a word error rate needs at least one")
    pairs = zip(references, hypotheses, strict=True)
    return sum(edits(reference, hypothesis).total for reference, hypothesis in pairs) / words
