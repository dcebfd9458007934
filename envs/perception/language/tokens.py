"""Words in pieces: as BERT's uncased models cut them, and pieces learned from a text.

A vocabulary is learned by joining the most frequent neighbours (byte-pair encoding, Sennrich et al. 2016); a word is
then cut by the longest pieces that fit, from its beginning (WordPiece; all but the first piece begin with ##), so that
one class serves learned vocabularies and the vocab.txt of a published BERT.

Shapes: B sentences, L pieces.
"""

from __future__ import annotations

import functools
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from rlsuite.errors import UserError, require

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
LONGEST_WORD = 100  # characters; longer words are unknown, as to BERT


class WordPieces:
    """A vocabulary, and sentences as its numbers.

    Args:
        pieces: distinct, SPECIAL among them.
        accents: whether accents are kept; uncased BERTs drop them.
        lower: whether letters are made small.

    Attributes:
        pad, unknown, first, last, mask: numbers of SPECIAL.

    Raises:
        UserError: if one of SPECIAL is missing, or a piece stands there twice.
    """

    def __init__(self, pieces: Sequence[str], *, accents: bool = True, lower: bool = True) -> None:
        self.pieces, self.accents, self.lower = tuple(pieces), accents, lower
        self._number = {piece: place for place, piece in enumerate(self.pieces)}
        require(len(self._number) == len(self.pieces), "a vocabulary holds a piece twice; use another vocab.txt")
        for name in SPECIAL:
            require(name in self._number, f"a vocabulary has no {name}; use one as BERT's, with {', '.join(SPECIAL)}")
        self.pad, self.unknown, self.first, self.last, self.mask = (self._number[name] for name in SPECIAL)
        self.cut = functools.lru_cache(maxsize=65536)(self._cut)

    def __len__(self) -> int:
        return len(self.pieces)

    def numbers(self, sentence: str) -> list[int]:
        """Return a sentence's pieces, without [CLS] and [SEP]."""
        return [number for word in words_of(sentence, self.accents, self.lower) for number in self.cut(word)]

    def batch(self, rows: Sequence[Sequence[int]], length: int = 0) -> Tensor:
        """Return rows of numbers as (B, L) int64, padded to the longest, or to `length`.

        Raises:
            UserError: if a row is longer than `length`.
        """
        longest = max((len(row) for row in rows), default=0)
        require(not length or longest <= length, f"a sentence has {longest} pieces, more than {length}; shorten it")
        return torch.tensor([[*row, *[self.pad] * ((length or longest) - len(row))] for row in rows])

    def text(self, numbers: Iterable[int]) -> str:
        """Return a sentence from its pieces, up to the first [SEP]; other special pieces are left out."""
        said = ""
        for number in numbers:
            piece = self.pieces[number]
            if number == self.last:
                break
            if piece not in SPECIAL:
                said += piece[2:] if piece.startswith("##") else f" {piece}"
        return said.strip()

    def _cut(self, word: str) -> tuple[int, ...]:
        found, start = [], 0
        while start < len(word) <= LONGEST_WORD:
            for end in range(len(word), start, -1):
                number = self._number.get(("##" if start else "") + word[start:end])
                if number is not None:
                    break
            else:
                return (self.unknown,)
            found.append(number)
            start = end
        return tuple(found) if found else (self.unknown,)


def learn_pieces(sentences: Iterable[str], size: int, *, accents: bool = True) -> WordPieces:
    """Learn a vocabulary: letters first, then the most frequent neighbours joined until there are `size` pieces.

    Of equally frequent neighbours the first in alphabetical order are joined; fewer pieces are returned where no
    neighbours are left.

    Raises:
        UserError: if the letters alone are more.
    """
    counts = Counter(word for sentence in sentences for word in words_of(sentence, accents))
    cuts = {word: [word[0], *(f"##{letter}" for letter in word[1:])] for word in counts}
    pieces = sorted({piece for cut in cuts.values() for piece in cut})
    require(
        len(SPECIAL) + len(pieces) <= size,
        f"size={size}: letters and special pieces are {len(SPECIAL) + len(pieces)}; use more",
    )
    while len(SPECIAL) + len(pieces) < size:
        neighbours: Counter[tuple[str, str]] = Counter()
        for word, cut in cuts.items():
            for pair in zip(cut, cut[1:], strict=False):
                neighbours[pair] += counts[word]
        if not neighbours:
            break
        most = max(neighbours.values())
        left, right = min(pair for pair, count in neighbours.items() if count == most)
        joined = left + right[2:]
        if joined not in pieces:
            pieces.append(joined)
        for word, cut in cuts.items():
            cuts[word] = _joined(cut, left, right, joined)
    return WordPieces([*SPECIAL, *pieces], accents=accents)


def _joined(cut: list[str], left: str, right: str, joined: str) -> list[str]:
    found, place = [], 0
    while place < len(cut):
        if cut[place : place + 2] == [left, right]:
            found.append(joined)
            place += 2
        else:
            found.append(cut[place])
            place += 1
    return found


def words_of(sentence: str, accents: bool = True, lower: bool = True) -> list[str]:
    """Cut a sentence at spaces and around punctuation and Chinese characters, as BERT's basic tokenizer does."""
    if lower:
        sentence = sentence.lower()
    if accents:
        sentence = unicodedata.normalize("NFC", sentence)
    else:
        sentence = "".join(
            letter for letter in unicodedata.normalize("NFD", sentence) if unicodedata.category(letter) != "Mn"
        )
    spread: list[str] = []
    for letter in sentence:
        if letter.isspace():
            spread.append(" ")
        elif letter in ("\0", "\ufffd") or unicodedata.category(letter).startswith("C"):
            continue
        else:
            spread.append(f" {letter} " if _stands_alone(letter) else letter)
    return "".join(spread).split()


def _stands_alone(letter: str) -> bool:
    code = ord(letter)
    ascii_sign = 33 <= code <= 47 or 58 <= code <= 64 or 91 <= code <= 96 or 123 <= code <= 126
    chinese = 0x4E00 <= code <= 0x9FFF or 0x3400 <= code <= 0x4DBF or 0xF900 <= code <= 0xFAFF
    return ascii_sign or chinese or 0x20000 <= code <= 0x2FA1F or unicodedata.category(letter).startswith("P")


def read_vocabulary(lines: str, *, accents: bool, lower: bool) -> WordPieces:
    """Return the vocabulary of a vocab.txt's content, a piece a line.

    Raises:
        UserError: if it holds none.
    """
    pieces = [line.rstrip("\r") for line in lines.split("\n")]
    while pieces and not pieces[-1]:
        pieces.pop()
    if not pieces:
        raise UserError("vocab.txt holds no pieces; use the one that came with the model")
    return WordPieces(pieces, accents=accents, lower=lower)
