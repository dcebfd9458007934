"""Embeddings: the normalization and the loss in plain torch, the slow copy, sets side by side."""

import copy

import pytest
import torch

from rlsuite.errors import UserError
from rlsuite.nn.embedding import Embedding, EmbeddingConfig, NoEmbedding, make_embedding

SMALL = EmbeddingConfig(size=4, hidden_sizes=(8,))


def make(seed=0, num_sets=1, config=SMALL):
    return Embedding(3, 2, config, num_sets=num_sets, generator=torch.Generator().manual_seed(seed))


def plain(network, rows):
    """The first set of a stacked network of one hidden elu layer, in plain torch."""
    first, last = network.layers
    hidden = torch.nn.functional.elu(rows @ first.weight[0] + first.bias[0])
    return hidden @ last.weight[0] + last.bias[0]


def plain_state(encoders, observation):
    embedding = plain(encoders.of_state, observation)
    return embedding / embedding.abs().mean(dim=-1, keepdim=True)


def test_states_are_embedded_with_mean_absolute_value_1():
    embedding = make()
    state = embedding.learned.state(torch.randn(5, 3) * 100)
    torch.testing.assert_close(state.abs().mean(-1), torch.ones(5))


def test_the_loss_in_plain_torch():
    embedding, observation, action, after = make(), torch.randn(6, 3), torch.randn(6, 2), torch.randn(6, 3)
    state = plain_state(embedding.learned, observation)
    predicted = plain(embedding.learned.of_action, torch.cat([state, action], dim=1))
    wanted = (predicted - plain_state(embedding.learned, after)).square().mean()
    torch.testing.assert_close(embedding.loss(observation, action, after), wanted)


def test_the_next_states_embedding_is_a_target_and_not_learned():
    embedding, observation, action, after = make(), torch.randn(6, 3), torch.randn(6, 2), torch.randn(6, 3)
    target = plain_state(embedding.learned, after).detach()
    state = plain_state(embedding.learned, observation)
    wanted = (plain(embedding.learned.of_action, torch.cat([state, action], dim=1)) - target).square().mean()
    wanted = torch.autograd.grad(wanted, embedding.learned_parameters)
    got = torch.autograd.grad(embedding.loss(observation, action, after), embedding.learned_parameters)
    for one, other in zip(got, wanted, strict=True):
        torch.testing.assert_close(one, other)


def test_what_is_seen_lies_where_it_should_and_comes_from_the_slow_copy():
    embedding, observation, action = make(), torch.randn(2, 5, 3), torch.randn(2, 5, 2)
    for parameter in embedding.learned_parameters:
        parameter.data.zero_()
    seen = embedding.beside(observation)
    state = plain_state(embedding.slow, observation)
    torch.testing.assert_close(seen, torch.cat([observation, state], dim=-1))
    embedded = plain(embedding.slow.of_action, torch.cat([state, action], dim=-1))
    torch.testing.assert_close(embedding.join(seen, action), torch.cat([observation, state, action, embedded], dim=-1))


def test_a_value_of_the_embedding_has_a_gradient_in_the_action_and_none_in_the_weights():
    embedding, action = make(), torch.zeros(5, 2, requires_grad=True)
    seen = embedding.beside(torch.randn(5, 3))
    (gradient,) = torch.autograd.grad(embedding.join(seen, action)[..., 9:].sum(), action)
    assert (gradient != 0).any(dim=1).all()
    assert not any(parameter.requires_grad for parameter in embedding.slow_parameters)


def test_the_slow_copy_follows_at_the_rate():
    embedding = make()
    before = copy.deepcopy(embedding.slow_parameters)
    for parameter in embedding.learned_parameters:
        parameter.data += 1.0
    embedding.follow(0.25)
    for slow, start in zip(embedding.slow_parameters, before, strict=True):
        torch.testing.assert_close(slow, start + 0.25)


def test_sets_side_by_side_equal_each_alone():
    both, observation, action = make(num_sets=2), torch.randn(2, 7, 3), torch.randn(2, 7, 2)
    seen = both.beside(observation)
    joined = both.join(seen, action)
    for place in range(2):
        alone = make()
        alone.load_state_dict({name: value[place : place + 1] for name, value in both.state_dict().items()})
        torch.testing.assert_close(seen[place], alone.beside(observation[place]))
        torch.testing.assert_close(joined[place], alone.join(seen[place], action[place]))
    # Several rows for each set, and the first sets alone: what scoring proposals asks for.
    rows = observation[:1, None].expand(-1, 4, -1, -1)
    torch.testing.assert_close(both.beside(rows)[0, 2], seen[0])


def test_it_learns_what_the_next_state_is():
    generator = torch.Generator().manual_seed(0)
    embedding = make(config=EmbeddingConfig(size=8, hidden_sizes=(32,)))
    adam = torch.optim.Adam(embedding.learned_parameters, lr=3e-3)

    def rows():
        observation, action = torch.randn(64, 3, generator=generator), torch.randn(64, 2, generator=generator)
        return observation, action, observation.roll(1, dims=1) + torch.cat([action, action[:, :1]], dim=1)

    def unexplained():
        observation, action, after = rows()
        return (embedding.loss(observation, action, after) / embedding.learned.state(after).var()).item()

    before = unexplained()
    for _ in range(400):
        adam.zero_grad()
        embedding.loss(*rows()).backward()
        adam.step()
    assert unexplained() < 0.2 < before


def test_bfloat16_inputs_give_bfloat16_near_the_float32_ones():
    embedding, observation, action = make(), torch.randn(5, 3), torch.randn(5, 2)
    exact = embedding.join(embedding.beside(observation), action)
    rough = embedding.join(embedding.beside(observation.bfloat16()), action)
    assert rough.dtype is torch.bfloat16
    torch.testing.assert_close(rough.float(), exact, rtol=0.05, atol=0.05)


def test_size_0_is_none_and_passes_things_on():
    embedding, observation = make_embedding(3, 2, EmbeddingConfig()), torch.randn(5, 3)
    assert isinstance(embedding, NoEmbedding)
    assert embedding.beside(observation) is observation
    assert embedding.join(observation, torch.ones(5, 2)).shape == (5, 5)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"size": -1}, r"agent\.embedding\.size=-1: use 0"),
        ({"hidden_sizes": ()}, r"agent\.embedding\.hidden_sizes"),
        ({"activation": "step"}, r"agent\.embedding\.activation=step: use "),
        ({"learning_rate": 0.0}, r"agent\.embedding\.learning_rate=0\.0: use "),
    ],
)
def test_mistakes_are_refused_by_name(keys, message):
    with pytest.raises(UserError, match=message):
        EmbeddingConfig(**keys)
