"""A BERT of Hugging Face's kind from a local folder: config.json, model.safetensors and vocab.txt.

    model = load_bert("bert-base-german-dbmdz-uncased")    # a folder; nothing is downloaded

`masked_language_model.py` is the same network, so that the package transformers is not needed; a test compares the two
where it is installed. Weights that are pickled (pytorch_model.bin) are refused: save them as safetensors first.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from envs.perception.language.masked_language_model import (
    LanguageModel,
    MaskedLanguageModel,
    MaskedLanguageModelConfig,
)
from envs.perception.language.tokens import read_vocabulary
from rlsuite.errors import UserError, require
from rlsuite.records.files import read_text, require_file

_EMBEDDINGS = {"words": "word_embeddings", "places": "position_embeddings", "segments": "token_type_embeddings"}
_LAYER = {
    "attention.query": "attention.self.query",
    "attention.key": "attention.self.key",
    "attention.value": "attention.self.value",
    "attention.out": "attention.output.dense",
    "attention_norm": "attention.output.LayerNorm",
    "feed_forward.0": "intermediate.dense",
    "feed_forward.2": "output.dense",
    "feed_forward_norm": "output.LayerNorm",
}
_HEAD = {"head.0": "cls.predictions.transform.dense", "head.2": "cls.predictions.transform.LayerNorm"}
_SIZES = {
    "width": "hidden_size",
    "hidden": "intermediate_size",
    "heads": "num_attention_heads",
    "layers": "num_hidden_layers",
    "longest": "max_position_embeddings",
}


def load_bert(folder: Path | str, *, layer: int = -1, special: bool = True) -> LanguageModel:
    """Return the BERT of a folder, frozen.

    Args:
        folder: as `save_pretrained` of the package transformers writes it.
        layer: see `LanguageModel`.
        special: see `LanguageModel`.

    Raises:
        UserError: naming the file that is missing, or is not of a BERT.
    """
    folder = Path(folder)
    said, tokenizer = _json(folder / "config.json"), {}
    if (folder / "tokenizer_config.json").exists():
        tokenizer = _json(folder / "tokenizer_config.json")
    require(
        said.get("model_type", "bert") == "bert" and said.get("hidden_act", "gelu") == "gelu",
        f"{folder}: it is a {said.get('model_type')} with {said.get('hidden_act')}; use a BERT with gelu",
    )
    sizes: dict[str, Any] = {name: said.get(theirs) for name, theirs in _SIZES.items()}
    for name, value in sizes.items():
        require(
            isinstance(value, int) and 1 <= value < 2**20,
            f"{folder}/config.json: {_SIZES[name]} is {value}; use the file that came with the model",
        )
    lower = tokenizer.get("do_lower_case", True) is True
    strips = tokenizer.get("strip_accents")
    accents = not (lower if strips is None else strips is True)
    pieces = read_vocabulary(_text(folder / "vocab.txt"), accents=accents, lower=lower)
    network = MaskedLanguageModel(len(pieces), MaskedLanguageModelConfig(**sizes), 0)
    network.load_state_dict(_tensors(folder / "model.safetensors", network))
    return LanguageModel(network, pieces, layer=layer, special=special)


def _tensors(path: Path, network: MaskedLanguageModel) -> dict[str, Tensor]:
    """Return the network's state from a file; its head's where the file has one."""
    wanted = network.state_dict()
    try:
        require_file(path)
        with safe_open(str(path), "pt") as file:
            names = set(file.keys())
            prefix = "bert." if any(name.startswith("bert.") for name in names) else ""
            found = dict(wanted)
            for name, tensor in wanted.items():
                theirs = _their_name(name, prefix)
                if theirs not in names:  # files of long ago call them so
                    theirs = theirs.replace("LayerNorm.weight", "LayerNorm.gamma").replace(
                        "LayerNorm.bias", "LayerNorm.beta"
                    )
                if theirs not in names:
                    require(name.startswith(("head.", "bias")), f"{path}: there is no '{theirs}'; use a BERT's weights")
                    continue
                found[name] = file.get_tensor(theirs).to(tensor.dtype)
                require(
                    found[name].shape == tensor.shape,
                    f"{path}: '{theirs}' is {tuple(found[name].shape)}, not {tuple(tensor.shape)}; config.json, "
                    "vocab.txt and weights have to be one model's",
                )
    except OSError as error:
        raise UserError(
            f"{path}: {error.strerror or error}; save the model with save_pretrained(..., safe_serialization=True)"
        ) from None
    except SafetensorError as error:
        raise UserError(
            f"{path}: {' '.join(str(error).split())[:120]}; use the file that came with the model"
        ) from None
    require(
        all(bool(torch.isfinite(tensor).all()) for tensor in found.values()),
        f"{path}: weights are not finite; use the file that came with the model",
    )
    return found


def _their_name(name: str, prefix: str) -> str:
    if name == "bias":
        return "cls.predictions.bias"
    part, kind = name.rsplit(".", 1)
    if part in _EMBEDDINGS:
        return f"{prefix}embeddings.{_EMBEDDINGS[part]}.{kind}"
    if part == "norm":
        return f"{prefix}embeddings.LayerNorm.{kind}"
    if part in _HEAD:
        return f"{_HEAD[part]}.{kind}"
    _, number, rest = part.split(".", 2)
    return f"{prefix}encoder.layer.{number}.{_LAYER[rest]}.{kind}"


def _text(path: Path) -> str:
    try:
        return read_text(path)
    except OSError as error:
        raise UserError(f"{path}: {error.strerror or error}; name the folder of a BERT that has it") from None


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(_text(path))
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise UserError(f"{path}: it is no JSON object; use the file that came with the model")
    return found
