"""The fused layers: plain ones at one share, drop-net's frequencies, warm starts, frozen models, beams."""

import itertools

import pytest
import torch
from torch import nn

from envs.perception.language.beam import beam_search
from envs.perception.language.fused import FusedConfig, FusedTransformer, LanguageAttention, shares
from envs.perception.language.masked_language_model import LanguageModel, MaskedLanguageModel, MaskedLanguageModelConfig
from envs.perception.language.pairs import Pair
from envs.perception.language.tokens import learn_pieces
from envs.perception.language.transformer import Attention, Transformer, TransformerConfig
from envs.perception.language.translator import TranslationLoss, Translator, examples, recipe
from rlsuite.errors import UserError
from rlsuite.fit import fit
from rlsuite.optim.choice import make_optimizer

SIZES = TransformerConfig(width=16, hidden=24, heads=2, layers=2, dropout=0.0, longest=12)
PAD, FIRST, LAST, V, M = 0, 2, 3, 11, 10


def fused(seed=0, **changes):
    return FusedTransformer(V, PAD, M, FusedConfig(network=SIZES, **changes), seed)


def inputs(seed=0):
    generator = torch.Generator().manual_seed(seed)
    source = torch.randint(4, V, (3, 6), generator=generator)
    source[1, 4:] = PAD
    target = torch.randint(4, V, (3, 5), generator=generator)
    target[:, 0] = FIRST
    mask = torch.ones(3, 7, dtype=torch.bool)
    mask[2, 5:] = False
    return source, target, torch.randn(3, 7, M, generator=generator), mask


def test_attention_is_torchs():
    generator = torch.Generator().manual_seed(0)
    ours, theirs = Attention(8, 6, 2), nn.MultiheadAttention(8, 2, kdim=6, vdim=6, batch_first=True)
    with torch.no_grad():
        theirs.q_proj_weight.copy_(ours.query.weight)
        theirs.k_proj_weight.copy_(ours.key.weight)
        theirs.v_proj_weight.copy_(ours.value.weight)
        theirs.in_proj_bias.copy_(torch.cat([ours.query.bias, ours.key.bias, ours.value.bias]))
        theirs.out_proj.load_state_dict(ours.out.state_dict())
    query, memory = torch.randn(2, 3, 8, generator=generator), torch.randn(2, 5, 6, generator=generator)
    mask = torch.tensor([[True] * 5, [True, True, False, True, False]])
    expected, _ = theirs(query, memory, memory, key_padding_mask=~mask)
    torch.testing.assert_close(ours(query, ours.project(memory), mask), expected)


def test_share_one_is_the_plain_layer_and_a_half_is_the_mean(monkeypatch):
    network, (source, target, memory, mask) = fused(), inputs()
    plain = network.network(source, target)
    network.train()
    monkeypatch.setattr("envs.perception.language.fused.shares", lambda drawn, drop_net: torch.ones(()))
    assert torch.equal(network(source, target, memory, mask), plain)
    monkeypatch.setattr("envs.perception.language.fused.shares", lambda drawn, drop_net: torch.full((), 0.5))
    both = network(source, target, memory, mask)
    assert not torch.allclose(both, plain)
    torch.testing.assert_close(both, network.eval()(source, target, memory, mask))

    layer = LanguageAttention(16, M, FusedConfig(network=SIZES)).eval()
    query, own = torch.randn(3, 4, 16), torch.randn(3, 4, 16)
    found = layer.attention(query, layer.attention.project(memory), mask)
    torch.testing.assert_close(layer.mix(memory, mask)(query, own), (own + found) / 2)


def test_an_encoder_layer_by_hand():
    """LN(h + (attn_S + attn_B) / 2), then LN(x + FFN(x)): the paper's section 3.1."""
    network, (source, _, memory, mask) = fused().eval(), inputs()
    layer, other = network.network.encoder[0], network.encoder[0]
    h, real = torch.randn(3, 6, 16), source != PAD
    own = layer.attention(h, layer.attention.project(h), real)
    found = other.attention(h, other.attention.project(memory), mask)
    x = layer.attention_norm(h + (own + found) / 2)
    expected = layer.feed_forward_norm(x + layer.feed_forward(x))
    torch.testing.assert_close(layer(h, real, other.mix(memory, mask)), expected)


@pytest.mark.parametrize("drop_net", [1.0, 0.5, 0.0])
def test_drop_net_draws_as_often_as_it_says(drop_net):
    found = shares(torch.rand(10_000, generator=torch.Generator().manual_seed(1)), drop_net)
    for share, expected in ((1.0, drop_net / 2), (0.0, drop_net / 2), (0.5, 1.0 - drop_net)):
        assert abs(float((found == share).float().mean()) - expected) < 0.02


def test_layers_draw_for_themselves_and_only_while_learning():
    network, given = fused(drop_net=1.0), inputs()
    torch.manual_seed(0)
    outputs = {tuple(network.train()(*given).flatten()[:3].tolist()) for _ in range(60)}
    assert len(outputs) > 8  # of 2^4 choices of four layers
    assert torch.equal(network.eval()(*given), network(*given))
    # One draw for the batch: each row equals what the same choice gives it alone.
    torch.manual_seed(5)
    whole = network.train()(*given)
    torch.manual_seed(5)
    torch.testing.assert_close(network(*(part[:1] for part in given)), whole[:1])


def test_gates_and_padding():
    source, target, memory, mask = inputs()
    closed = fused(encoder=(False, False), decoder=(False, False)).eval()
    torch.testing.assert_close(closed(source, target, memory, mask), closed.network(source, target))
    network = fused(decoder=(False, True)).eval()
    one = network(source, target, memory, mask)
    other = torch.where(mask[..., None], memory, 9.0)
    torch.testing.assert_close(network(source, target, other, mask), one)
    with pytest.raises(UserError, match="encoder="):
        fused(encoder=(True,))
    with pytest.raises(UserError, match="drop_net=2"):
        fused(drop_net=2.0)


def test_the_decoder_does_not_look_ahead():
    network, (source, target, memory, mask) = fused().eval(), inputs()
    other = target.clone()
    other[:, 3] = 4 + (target[:, 3] - 3) % (V - 4)
    one, two = network(source, target, memory, mask), network(source, other, memory, mask)
    torch.testing.assert_close(one[:, :3], two[:, :3])
    assert not torch.allclose(one[:, 3], two[:, 3])


def test_warm_starts_are_whole_or_refused():
    plain, network, given = Transformer(V, PAD, SIZES, 7), fused(), inputs()
    before = {name: value.clone() for name, value in network.state_dict().items() if not name.startswith("network.")}
    network.warm_start(plain.state_dict())
    torch.testing.assert_close(network.network(*given[:2]), plain(*given[:2]))
    assert all(torch.equal(network.state_dict()[name], value) for name, value in before.items())
    assert all(name.startswith(("encoder.", "decoder.")) for name in before)
    state = plain.state_dict()
    without = {name: value for name, value in state.items() if "decoder.1" not in name}
    for bad, said in (
        ({}, "lacks"),
        (without, "lacks"),
        ({**state, "more": torch.zeros(1)}, "has besides"),
        ({**state, "embedding.weight": torch.zeros(V + 1, 16)}, "another size"),
        ({f"model.{name}": value for name, value in state.items()}, "lacks"),
    ):
        with pytest.raises(UserError, match=said):
            network.warm_start(bad)


def test_learning_leaves_the_language_model_alone_and_fits_a_few_pairs():
    pairs = [Pair("aa bb", "x y", "xx"), Pair("bb aa", "y x", "xx"), Pair("aa aa", "x x", "xx"), Pair("bb", "y", "xx")]
    pieces = learn_pieces([text for pair in pairs for text in pair[:2]], 20)
    sizes = MaskedLanguageModelConfig(width=M, hidden=12, heads=2, layers=1, dropout=0.5, longest=12)
    model = LanguageModel(MaskedLanguageModel(len(pieces), sizes, 0), pieces)
    before = {name: value.clone() for name, value in model.network.state_dict().items()}
    network = FusedTransformer(len(pieces), pieces.pad, M, FusedConfig(network=SIZES), 0)
    data = examples(pairs, pieces, model, 12)
    history = fit(
        network,
        TranslationLoss(pieces.pad, 0.0),
        data,
        recipe(400, batch_size=4, learning_rate=0.01, warmup=20),
        seed=0,
    )
    assert history.records[-1]["loss"] < 0.3 * history.records[0]["loss"]
    assert all(torch.equal(value, before[name]) for name, value in model.network.state_dict().items())
    assert torch.equal(model.encode(["aa bb"])[0], model.encode(["aa bb"])[0])  # no dropout
    translator = Translator(network, pieces, model)
    assert translator.translate([pair.source for pair in pairs], beam=3, at_once=3) == [pair.target for pair in pairs]
    with pytest.raises(UserError, match="is given none"):
        Translator(network, pieces)
    with pytest.raises(UserError, match="more than 2"):
        examples(pairs, pieces, None, 2)


def test_weights_decay_apart_from_the_gradient():
    """One step of the rate 0.5 without a gradient: p - lr wd p."""
    made = make_optimizer({"weight": torch.nn.Parameter(torch.ones(1))}, recipe(1, learning_rate=0.5).optimizer)
    (weight,) = made.param_groups[0]["params"]
    weight.grad = torch.zeros(1)
    made.step()
    assert weight.item() == pytest.approx(1.0 - 0.5 * 1e-4, abs=1e-7)


def test_smoothed_loss_is_torchs_without_padding():
    network, (source, target, _, _) = Transformer(V, PAD, SIZES, 0).eval(), inputs()
    target[0, 3:] = PAD
    loss = TranslationLoss(PAD, 0.1)(network, {"source": source, "target": target})["loss"]
    log_probs = network(source, target[:, :-1]).log_softmax(-1)
    asked, real = target[:, 1:], target[:, 1:] != PAD
    chosen = log_probs.gather(2, asked[..., None]).squeeze(2)
    by_hand = -(0.9 * chosen + 0.1 * log_probs.mean(2))[real].mean()
    torch.testing.assert_close(loss, by_hand)


# -- beam search -------------------------------------------------------------------------------------------------


def test_steps_are_the_whole_decoder():
    network, (source, target, memory, mask) = fused().eval(), inputs()
    whole = network(source, target, memory, mask)
    begun, past = network.begin(source, memory, mask), []
    for place in range(target.shape[1]):
        logits, past = network.step(target[:, place : place + 1], place, past, begun)
        torch.testing.assert_close(logits[:, 0], whole[:, place])


@pytest.mark.parametrize("length_penalty", [0.0, 1.0, 2.0])
def test_a_wide_beam_finds_what_trying_all_finds(length_penalty):
    vocabulary, longest = 6, 3
    network = Transformer(vocabulary, PAD, SIZES, 3).eval()
    with torch.no_grad():
        network.embedding.weight.mul_(3.0)  # sharper, so that lengths differ
    source = torch.tensor([[4, 5, 3], [5, 3, 0], [1, 4, 3]])
    begun = network.begin(source)
    best, score = beam_search(
        network,
        begun,
        first=FIRST,
        last=LAST,
        pad=PAD,
        longest=longest,
        beam=64,
        length_penalty=length_penalty,
    )
    sayable = [piece for piece in range(vocabulary) if piece not in (PAD, FIRST, LAST)]
    for row in range(3):
        every = {}
        for length in range(longest):
            for said in itertools.product(sayable, repeat=length):
                pieces = torch.tensor([[FIRST, *said, LAST]])
                log_probs = network(source[row : row + 1], pieces[:, :-1]).log_softmax(-1)
                total = log_probs.detach().gather(2, pieces[:, 1:, None]).sum()
                every[(*said, LAST)] = float(total) / (length + 1) ** length_penalty
        found = tuple(piece for piece in best[row].tolist() if piece != PAD)
        assert found == max(every, key=lambda said: every[said])
        assert abs(every[found] - float(score[row])) < 1e-4


def test_one_hypothesis_is_greedy_and_rows_do_not_matter():
    network, (source, _, memory, mask) = fused(seed=4).eval(), inputs(2)
    named = {"first": FIRST, "last": LAST, "pad": PAD, "longest": 8}
    best, _ = beam_search(network, network.begin(source, memory, mask), **named, beam=1)
    said = torch.full((3, 1), FIRST)
    for place in range(7):
        logits = network(source, said, memory, mask)[:, -1]
        logits[:, [PAD, FIRST]] = -torch.inf
        said = torch.cat([said, logits.argmax(1, keepdim=True)], 1)
        still = ~(said[:, :-1] == LAST).any(1)
        assert torch.equal(best[still, place], said[still, -1])
    wide, _ = beam_search(network, network.begin(source, memory, mask), **named, beam=4)
    for row in range(3):
        one = slice(row, row + 1)
        alone, _ = beam_search(network, network.begin(source[one], memory[one], mask[one]), **named, beam=4)
        assert torch.equal(alone[0], wide[row])
