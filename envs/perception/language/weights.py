"""Language models and translators in files: sizes, vocabularies and tensors, read as hostile.

A fused translator's file holds its language model, too, so that one file is all that translating needs; the language
model of a local BERT is large, and so is that file.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from envs.perception.language.fused import FusedConfig, FusedTransformer
from envs.perception.language.masked_language_model import (
    LanguageModel,
    MaskedLanguageModel,
    MaskedLanguageModelConfig,
)
from envs.perception.language.tokens import WordPieces
from envs.perception.language.transformer import Transformer, TransformerConfig
from envs.perception.language.translator import Translator
from rlsuite.config.build import build
from rlsuite.weights_file import read_weights, write_weights

LANGUAGE_MODEL, TRANSLATOR = "rlsuite language model 1", "rlsuite translator 1"


def save_language_model(path: Path, model: LanguageModel) -> None:
    """Write a language model.

    Raises:
        UserError: if it cannot be written.
    """
    write_weights(path, model.network.state_dict(), _said_of(model), format=LANGUAGE_MODEL)


def load_language_model(path: Path | str) -> LanguageModel:
    """Return a frozen language model.

    Raises:
        UserError: if the file cannot be read, or holds something else.
    """

    def expected(about: dict[str, Any]) -> Mapping[str, Tensor]:
        return _language_model(about).network.state_dict()

    about, tensors = read_weights(
        path,
        format=LANGUAGE_MODEL,
        fields={"config": dict, "pieces": dict, "layer": int},
        expected=expected,
        refusal=lambda reason: f"{path}: {reason}; name a file that save_language_model wrote",
    )
    model = _language_model(about)
    model.network.load_state_dict(tensors)
    return model


def save_translator(path: Path, translator: Translator) -> None:
    """Write a translator, and the language model that it attends to.

    Raises:
        UserError: if it cannot be written.
    """
    model = translator.language_model if isinstance(translator.network, FusedTransformer) else None
    about = {
        "config": asdict(translator.network.config),
        "kind": "fused" if model else "plain",
        "pieces": _pieces_said(translator.pieces),
        "language_model": _said_of(model) if model else {},
    }
    write_weights(path, _Whole(translator).state_dict(), about, format=TRANSLATOR)


def load_translator(path: Path | str) -> Translator:
    """Return a translator.

    Raises:
        UserError: if the file cannot be read, or holds something else.
    """
    about, tensors = read_weights(
        path,
        format=TRANSLATOR,
        fields={"config": dict, "kind": str, "pieces": dict, "language_model": dict},
        expected=lambda about: _Whole(_translator(about)).state_dict(),
        refusal=lambda reason: f"{path}: {reason}; name a file that save_translator wrote",
    )
    translator = _translator(about)
    _Whole(translator).load_state_dict(tensors)
    return translator


class _Whole(nn.Module):
    """A translator's networks as one."""

    def __init__(self, translator: Translator) -> None:
        super().__init__()
        self.translator = translator.network
        model = translator.language_model if isinstance(translator.network, FusedTransformer) else None
        self.language_model = model.network if model else nn.Identity()


def _translator(about: Mapping[str, Any]) -> Translator:
    pieces = _pieces(about["pieces"])
    if about["kind"] not in ("plain", "fused"):
        raise ValueError("it is neither plain nor fused")
    if about["kind"] == "plain":
        config = build(TransformerConfig, about["config"])
        return Translator(Transformer(len(pieces), pieces.pad, config, 0), pieces)
    model = _language_model(about["language_model"])
    network = FusedTransformer(len(pieces), pieces.pad, model.width, build(FusedConfig, about["config"]), 0)
    return Translator(network, pieces, model)


def _said_of(model: LanguageModel) -> dict[str, Any]:
    last = model.layer % len(model.network.layers) + 1  # from 1: what a file says of whole numbers is positive
    said = {"config": asdict(model.network.config), "pieces": _pieces_said(model.pieces)}
    return {**said, "layer": last, "special": model.special}


def _language_model(about: Mapping[str, Any]) -> LanguageModel:
    if not all(isinstance(about.get(name), dict) for name in ("config", "pieces")):
        raise ValueError("it names no language model")
    if not isinstance(about.get("layer"), int) or not isinstance(about.get("special"), bool):
        raise ValueError("it names no layer of the language model")
    pieces = _pieces(about["pieces"])
    network = MaskedLanguageModel(len(pieces), build(MaskedLanguageModelConfig, about["config"]), 0)
    return LanguageModel(network, pieces, layer=about["layer"] - 1, special=about["special"])


def _pieces_said(pieces: WordPieces) -> dict[str, Any]:
    return {"pieces": list(pieces.pieces), "accents": pieces.accents, "lower": pieces.lower}


def _pieces(said: Mapping[str, Any]) -> WordPieces:
    pieces = said.get("pieces")
    if not isinstance(pieces, list) or not all(isinstance(piece, str) for piece in pieces):
        raise ValueError("its pieces are no list of strings")
    return WordPieces(pieces, accents=said.get("accents") is True, lower=said.get("lower") is True)
