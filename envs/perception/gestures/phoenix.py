"""RWTH-PHOENIX-Weather 2014 and 2014-T: German weather forecasts in sign language, as videos of sentences.

Lie where they were unpacked, or under RLSUITE_DATA:

    phoenix-2014-multisigner/
        annotations/manual/{train,dev,test}.corpus.csv    id|folder|signer|annotation
        features/fullFrame-210x260px/{train,dev,test}/<folder, whose last part is *.png>
    PHOENIX-2014-T/
        annotations/manual/PHOENIX-2014-T.{train,dev,test}.corpus.csv    name|video|start|end|speaker|orth|translation
        features/fullFrame-210x260px/{train,dev,test}/<name>/*.png

The vocabulary is the training list's, sorted. A word of another list that it lacks can never be read: it is an error of
whatever reads it (class V + 1, which no network writes).

Shapes: B videos, T frames, S side of a frame, L words, V words of the vocabulary.
"""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import torch
from torch import Tensor
from torch.nn import functional

from rlsuite.data.pictures import SUFFIXES, read_picture
from rlsuite.data.source import find_data
from rlsuite.errors import UserError, require, require_choice
from rlsuite.records.files import is_inside, read_text

PARTS = ("train", "dev", "test")
_NAMES = ("phoenix-2014-multisigner", "phoenix2014-release/phoenix-2014-multisigner", "PHOENIX-2014-T")
_FRAMES = Path("features", "fullFrame-210x260px")
_LISTS = Path("annotations", "manual")
LARGEST_LIST = 64 << 20  # bytes


@dataclass(frozen=True)
class Sentence:
    """A line of a list.

    Attributes:
        name: of the video.
        frames: where its pictures lie.
        words: what is signed.
    """

    name: str
    frames: Path
    words: tuple[str, ...]


class Phoenix:
    """The sentences of one part, their frames read when they are asked for.

    Args:
        part: "train", "dev" or "test".
        root: the data set's folder; None for what RLSUITE_DATA holds.
        size: S; frames are stretched to squares, 256 in the paper, of which 224 are cut (`augmentation.py`).
        most_frames: sentences with more are left out; 0 for none.

    Attributes:
        vocabulary: V words.
        sentences: the part's.

    Raises:
        UserError: if it is not there, or a list or a video is damaged.
    """

    def __init__(self, part: str, root: Path | str | None = None, size: int = 256, most_frames: int = 0) -> None:
        require_choice("part", part, PARTS)
        require(size >= 1, f"size={size}: use 1 or more")
        folder = Path(root) if root is not None else find_data("PHOENIX-2014", _NAMES)
        self.size = size
        self.vocabulary = vocabulary_of(read_list(folder, "train"))
        found = read_list(folder, part)
        if most_frames:
            found = [one for one in found if len(frame_files(one)) <= most_frames]
        require(len(found) > 0, f"{folder}: no sentence of its {part} part is short enough; use a larger most_frames")
        self.sentences = found
        self._class = {word: number + 1 for number, word in enumerate(self.vocabulary)}

    def __len__(self) -> int:
        return len(self.sentences)

    def examples(self, index: Tensor) -> dict[str, Tensor]:
        """Return sentences at index (B,).

        Returns:
            "video" (B, T, 3, S, S) uint8, zeros after each one's end, "length" (B,) frames, "words" (B, L) classes from
            1 on, zeros after the last, and "count" (B,) words.
        """
        chosen = [self.sentences[number] for number in index.tolist()]
        videos = [self._read(one) for one in chosen]
        unknown = len(self.vocabulary) + 1
        classes = [[self._class.get(word, unknown) for word in one.words] for one in chosen]
        length, count = (torch.tensor([len(one) for one in rows]) for rows in (videos, classes))
        video = torch.zeros(len(videos), int(length.max()), 3, self.size, self.size, dtype=torch.uint8)
        words = torch.zeros(len(videos), int(count.max()), dtype=torch.int64)
        for row, (frames, labels) in enumerate(zip(videos, classes, strict=True)):
            video[row, : len(frames)] = frames
            words[row, : len(labels)] = torch.tensor(labels)
        return {"video": video, "length": length, "words": words, "count": count}

    def _read(self, sentence: Sentence) -> Tensor:
        """Return the frames (T, 3, S, S) uint8 of a sentence."""
        return torch.stack([_square(read_picture(path), self.size) for path in frame_files(sentence)])


def read_list(root: Path, part: str) -> list[Sentence]:
    """Return the sentences of one part, of either edition.

    Raises:
        UserError: if the list is missing, lacks a column, holds nothing, or names a folder elsewhere.
    """
    names = (f"{part}.corpus.csv", f"{root.name}.{part}.corpus.csv", f"PHOENIX-2014-T.{part}.corpus.csv")
    paths = [root / _LISTS / name for name in names]
    path = next((one for one in paths if one.is_file()), paths[0])
    try:
        text = read_text(path, LARGEST_LIST)
        lines = list(csv.reader(io.StringIO(text), delimiter="|", quoting=csv.QUOTE_NONE))
    except (OSError, csv.Error) as error:
        raise UserError(f"{path} cannot be read ({' '.join(str(error).split())[-100:]}); fetch it again") from None
    header = lines[0] if lines else []
    first = {"folder": ("folder", "annotation"), "name": ("name", "orth")}
    edition = next((columns for key, columns in first.items() if key in header and columns[1] in header), None)
    require(edition is not None, f"{path}: its first line names no folder|annotation and no name|orth; fetch it again")
    assert edition is not None
    where, what = (header.index(name) for name in edition)
    found, frames = [], root / _FRAMES / part
    for number, line in enumerate(lines[1:], 2):
        if not line:
            continue
        require(len(line) == len(header), f"{path}: line {number} has {len(line)} columns, not {len(header)}")
        place = PurePosixPath(line[where])
        folder = frames.joinpath(*(place.parent if "*" in place.name else place).parts)
        require(is_inside(folder, frames), f"{path}: line {number} names a folder outside of {frames}; fetch it again")
        words = tuple(line[what].split())
        require(len(words) > 0, f"{path}: line {number} has no words; leave it out")
        found.append(Sentence(line[0], folder, words))
    require(len(found) > 0, f"{path} holds no sentence; fetch it again")
    return found


def vocabulary_of(sentences: list[Sentence]) -> tuple[str, ...]:
    """Return all words, each once, sorted."""
    return tuple(sorted({word for one in sentences for word in one.words}))


def frame_files(sentence: Sentence) -> list[Path]:
    """Return a sentence's pictures in their order, as their names sort.

    Raises:
        UserError: if there are none.
    """
    folder = sentence.frames
    found = sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES) if folder.is_dir() else []
    require(len(found) > 0, f"{sentence.name}: there are no pictures in {folder}; fetch the data set again")
    return found


def _square(picture: Tensor, size: int) -> Tensor:
    """Return a picture (3, H, W) uint8 stretched to (3, size, size)."""
    if tuple(picture.shape[1:]) == (size, size):
        return picture
    found = functional.interpolate(
        picture.unsqueeze(0).float(), size=(size, size), mode="bilinear", antialias=True, align_corners=False
    )
    return found[0].round().clamp(0.0, 255.0).to(torch.uint8)
