"""A trained reader as one small file: the extractor, and the three recognizers, and how good they are.

The weights that come with the suite lie in shipped/; scripts/train_extractor.py makes such files.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor, nn

from agents.stroke_recognizer.extractor import NETWORKS, Extractor, ExtractorConfig
from agents.stroke_recognizer.read import Reader, extractor_redraw
from agents.stroke_recognizer.recognizer import WAYS, PlainReader, Recognizer, RecognizerConfig
from rlsuite.weights_file import read_weights, write_weights

FORMAT = "rlsuite reader 1"
SHIPPED = Path(__file__).parent / "shipped" / "reader-32.safetensors"
FIELDS = {"size": int, "strokes": int, "network": str, "names": str}
LARGEST = 256


class Readers(nn.Module):
    """An extractor with all three recognizers of what it redraws.

    Args:
        about: "size" W, "strokes" k, "network" of the extractor, "names" of the classes, one character each.
    """

    def __init__(self, about: dict[str, Any]) -> None:
        super().__init__()
        self.about = about
        self.names = str(about["names"])
        size, strokes = int(about["size"]), int(about["strokes"])
        self.extractor = Extractor(ExtractorConfig(size=size, strokes=strokes, network=about["network"]), 0)
        self.recognizers = nn.ModuleDict(
            {
                way: Recognizer(RecognizerConfig(size=size, strokes=strokes, classes=len(self.names), way=way), 0)
                for way in WAYS
            }
        )
        self.eval()

    def reader(self, way: str) -> Reader:
        """Return the reader of one of WAYS."""
        recognizer = self.recognizers[way]
        assert isinstance(recognizer, Recognizer)
        return Reader(extractor_redraw(self.extractor), recognizer).eval().requires_grad_(False)

    def plain(self) -> PlainReader:
        """Return the reader of pictures as they are."""
        recognizer = self.recognizers["redraw"]
        assert isinstance(recognizer, Recognizer)
        return PlainReader(recognizer).eval().requires_grad_(False)


def save_readers(readers: Readers, path: Path, about: dict[str, Any]) -> None:
    """Write readers, and `about` (any JSON) beside what loading needs."""
    needed = {name: readers.about[name] for name in FIELDS}
    write_weights(path, readers.state_dict(), {**about, **needed}, format=FORMAT)


def load_readers(path: Path | str = SHIPPED) -> Readers:
    """Read what save_readers wrote.

    Raises:
        UserError: if the file is missing or no reader's.
    """
    about, tensors = read_weights(
        path,
        format=FORMAT,
        fields=FIELDS,
        expected=_expected,
        refusal=lambda reason: (
            f"weights={path}: no reader can be read from it ({reason}); make one with scripts/train_extractor.py"
        ),
    )
    readers = Readers(about)
    readers.load_state_dict(tensors)
    return readers


def _expected(about: dict[str, Any]) -> dict[str, Tensor]:
    if about["network"] not in NETWORKS:
        raise ValueError(f"its network is {about['network'][:40]!r}")
    if about["size"] > LARGEST or not 2 <= len(about["names"]) <= 1000:
        raise ValueError(f"size {about['size']} and {len(about['names'])} classes are no reader's")
    return Readers(about).state_dict()
