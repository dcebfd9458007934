"""A folder as a published BERT comes in, made of a small model of ours."""

import json

from safetensors.torch import save_file

from envs.perception.language.bert_folder import _their_name

BERT = {
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_attention_heads": 2,
    "num_hidden_layers": 2,
    "max_position_embeddings": 16,
    "hidden_act": "gelu",
    "model_type": "bert",
}


def write_bert(folder, model):
    """Write config.json, vocab.txt and model.safetensors, names and all."""
    tensors = {_their_name(name, "bert."): value.clone() for name, value in model.network.state_dict().items()}
    save_file(tensors, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(BERT))
    (folder / "vocab.txt").write_text("\n".join(model.pieces.pieces) + "\n")
