"""The masked language model: what is masked, what is learned from it, its layers, and BERT folders and files."""

import json

import pytest
import torch
from bert_files import BERT, write_bert
from safetensors.torch import load_file, save_file

from envs.perception.language.bert_folder import load_bert
from envs.perception.language.fused import FusedConfig, FusedTransformer
from envs.perception.language.masked_language_model import (
    LanguageModel,
    MaskedLanguageModel,
    MaskedLanguageModelConfig,
    MaskedLoss,
    paired,
    text_examples,
)
from envs.perception.language.tokens import SPECIAL, WordPieces, learn_pieces
from envs.perception.language.transformer import Transformer, TransformerConfig
from envs.perception.language.translator import Translator
from envs.perception.language.weights import (
    load_language_model,
    load_translator,
    save_language_model,
    save_translator,
)
from rlsuite.errors import UserError
from rlsuite.fit import FitConfig, fit
from rlsuite.optim.choice import OptimizerConfig

PIECES = WordPieces([*SPECIAL, *"abcdefgh"])
SIZES = MaskedLanguageModelConfig(width=16, hidden=32, heads=2, layers=2, dropout=0.0, longest=16)


def model(seed=0, **settings):
    return LanguageModel(MaskedLanguageModel(len(PIECES), SIZES, seed), PIECES, **settings)


def test_pairs_of_sentences_by_hand():
    whole, segments = paired(PIECES, ["a b", "c"], ["d", "e f"])
    assert whole.tolist() == [[2, 5, 6, 3, 8, 3], [2, 7, 3, 9, 10, 3]]
    assert segments.tolist() == [[0, 0, 0, 0, 1, 1], [0, 0, 0, 1, 1, 1]]
    whole, segments = paired(PIECES, ["a", "b c"], length=5)
    assert whole.tolist() == [[2, 5, 3, 0, 0], [2, 6, 7, 3, 0]]


def test_fifteen_percent_are_told_of_which_eight_in_ten_are_masked():
    torch.manual_seed(0)
    whole = torch.randint(5, len(PIECES), (200, 200))
    whole[:, 0], whole[:, -1], whole[::2, -20:] = PIECES.first, PIECES.last, PIECES.pad
    shown, told = MaskedLoss(PIECES).masked(whole)
    real = whole >= 5
    assert not told[~real].any()
    assert torch.equal(shown[~told], whole[~told])
    assert abs(float(told[real].float().mean()) - 0.15) < 0.01
    masked = shown[told] == PIECES.mask
    same = shown[told] == whole[told]
    assert abs(float(masked.float().mean()) - 0.8 - 0.1 / len(PIECES)) < 0.02
    assert abs(float(same.float().mean()) - 0.1 - 0.1 / len(PIECES)) < 0.02
    with pytest.raises(UserError, match="share=0"):
        MaskedLoss(PIECES, 0.0)


def test_it_learns_which_company_words_keep():
    network = MaskedLanguageModel(len(PIECES), SIZES, 0)
    config = FitConfig(steps=150, batch_size=16, optimizer=OptimizerConfig(learning_rate=1e-2), check_every=150)
    text = ["a b", "c d", "e f", "g h"] * 4
    fit(network, MaskedLoss(PIECES, 0.5), text_examples(PIECES, text), config, seed=0)
    whole, segments = paired(PIECES, text[:4])
    shown = whole.clone()
    shown[:, 2] = PIECES.mask
    said = network.logits(network.states(shown, segments, whole != PIECES.pad))[:, 2].softmax(1)
    assert said.gather(1, whole[:, 2:3]).mean() > 0.3  # 1 of 8 by how often words come
    both = text_examples(PIECES, ["a b"], ["c"])
    assert both.tensors["segments"].tolist() == [[0, 0, 0, 0, 1, 1]]


def test_frozen_states():
    frozen = model()
    assert not any(weight.requires_grad for weight in frozen.network.parameters())
    states, mask = frozen.encode(["a b", "c"])
    assert states.shape == (2, 4, 16)
    assert mask.tolist() == [[True] * 4, [True] * 3 + [False]]
    torch.testing.assert_close(frozen.encode(["c"], length=9)[0][0, :3], states[1, :3])
    assert model(special=False).encode(["a b"])[1].tolist() == [[False, True, True, False]]
    first = model(layer=0).encode(["a b"])[0]
    torch.testing.assert_close(first, model(layer=-2).encode(["a b"])[0])
    torch.testing.assert_close(model(layer=1).encode(["a b"])[0], states[:1])
    assert not torch.allclose(first, states[:1])
    # Before the sentence stands the one before it, in the first segment.
    both, _ = frozen.encode(["a"], ["b"])
    whole, segments = paired(PIECES, ["b"], ["a"])
    torch.testing.assert_close(both, frozen.network.states(whole, segments, whole != 0))
    with pytest.raises(UserError, match="18 pieces, more than 16"):
        frozen.encode(["a " * 16])
    with pytest.raises(UserError, match="layer=2"):
        model(layer=2)


# -- BERT's folders ----------------------------------------------------------------------------------------------


def test_a_folder_of_bert_is_the_same_network(tmp_path):
    frozen = model()
    write_bert(tmp_path, frozen)
    found = load_bert(tmp_path)
    assert found.pieces.pieces == PIECES.pieces
    assert not found.pieces.accents
    assert all(
        torch.equal(value, frozen.network.state_dict()[name]) for name, value in found.network.state_dict().items()
    )
    torch.testing.assert_close(found.encode(["a b"])[0], frozen.encode(["a b"])[0])


def test_bad_folders_are_refused(tmp_path):
    write_bert(tmp_path, model())
    file, config = tmp_path / "model.safetensors", tmp_path / "config.json"
    tensors = load_file(file)

    def refused(said):
        with pytest.raises(UserError, match=said):
            load_bert(tmp_path)

    save_file({name: value for name, value in tensors.items() if "layer.1.output.dense" not in name}, file)
    refused(r"no 'bert.encoder.layer.1.output.dense.weight'")
    save_file({**tensors, "bert.embeddings.LayerNorm.bias": torch.full((16,), torch.nan)}, file)
    refused("not finite")
    save_file({**tensors, "bert.embeddings.LayerNorm.bias": torch.zeros(15)}, file)
    refused(r"\(15,\), not \(16,\)")
    file.write_bytes(b"no")
    refused("model.safetensors")
    file.unlink()
    refused("save_pretrained")
    config.write_text(json.dumps({**BERT, "hidden_act": "relu"}))
    refused("use a BERT with gelu")
    config.write_text(json.dumps({**BERT, "hidden_size": "16"}))
    refused("hidden_size is 16")
    config.write_text("{")
    refused("no JSON object")
    with pytest.raises(UserError, match=r"config.json"):
        load_bert(tmp_path / "none")


def test_it_is_transformers_bert(tmp_path):
    transformers = pytest.importorskip("transformers")
    theirs = transformers.BertForMaskedLM(transformers.BertConfig(**{**BERT, "vocab_size": len(PIECES)})).eval()
    theirs.save_pretrained(tmp_path)
    (tmp_path / "vocab.txt").write_text("\n".join(PIECES.pieces))
    found = load_bert(tmp_path)
    pieces, segments = paired(PIECES, ["a b c", "d"], ["e", "f g"])
    mask = pieces != PIECES.pad
    with torch.no_grad():
        expected = theirs(pieces, attention_mask=mask, token_type_ids=segments, output_hidden_states=True)
        states = found.network.states(pieces, segments, mask)
    torch.testing.assert_close(states[mask], expected.hidden_states[-1][mask], rtol=1e-4, atol=1e-5)
    first = found.network.states(pieces, segments, mask, 0)
    torch.testing.assert_close(first[mask], expected.hidden_states[1][mask], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found.network.logits(states)[mask], expected.logits[mask], rtol=1e-4, atol=1e-5)


# -- our own files -----------------------------------------------------------------------------------------------


def test_language_models_come_back(tmp_path):
    path, frozen = tmp_path / "model.safetensors", model(layer=0, special=False)
    save_language_model(path, frozen)
    found = load_language_model(path)
    states, mask = found.encode(["a b"])
    assert torch.equal(states, frozen.encode(["a b"])[0])
    assert mask.tolist() == [[False, True, True, False]]
    with pytest.raises(UserError, match="name a file that save_translator wrote"):
        load_translator(path)


@pytest.mark.parametrize("with_model", [False, True])
def test_translators_come_back(tmp_path, with_model):
    pieces = learn_pieces(["push the red cube", "a b c"], 60)
    sizes = TransformerConfig(width=8, hidden=8, heads=2, layers=1, longest=8)
    if with_model:
        network = FusedTransformer(len(pieces), pieces.pad, 16, FusedConfig(network=sizes, encoder=(True,)), 1)
    else:
        network = Transformer(len(pieces), pieces.pad, sizes, 1)
    translator = Translator(network, pieces, model() if with_model else None)
    path = tmp_path / "translator.safetensors"
    save_translator(path, translator)
    found = load_translator(path)
    assert found.network.config == network.config
    assert found.translate(["a b", "c"], beam=2) == translator.translate(["a b", "c"], beam=2)
    assert all(torch.equal(value, found.network.state_dict()[name]) for name, value in network.state_dict().items())
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(UserError, match="name a file"):
        load_translator(path)
