"""AutoNL: nested choices against plain blocks, MACs by indicators, gradients of thresholds, and the search."""

import dataclasses

import numpy as np
import pytest
import torch
from judged import classifier

from envs.evaluation import recipe
from envs.evaluation.catalogue import EVALUATIONS
from envs.evaluation.probes import count_macs, count_parameters
from envs.evaluation.search.autonl import AutoNLConfig, SearchableBlock, SearchableChain, searched
from envs.evaluation.search.spaces.chain import ChainConfig
from envs.evaluation.search.spaces.light_chain import LightChainConfig, LightChainSpace
from envs.evaluation.search.supernet import Supernet
from envs.evaluation.transform import TeachConfig, apply
from rlsuite.errors import UserError
from rlsuite.fit import FitConfig
from rlsuite.methods import Method
from rlsuite.nn.light_nonlocal import LightNonLocal
from rlsuite.optim.choice import OptimizerConfig

CHAIN = ChainConfig(widths=(8, 8), strides=(1, 2), stem=4, kernels=(3,), expansions=(2,))
LIGHT = LightChainConfig(chain=CHAIN, ratios=(0.125, 0.25, 0.5), strides=(1, 2))
SPACE = LightChainSpace(LIGHT, channels=1, size=8, outputs=2)
RATE = OptimizerConfig(name="sgd", learning_rate=0.05)
CONFIG = AutoNLConfig(
    space=LIGHT,
    threshold_rate=0.1,
    search=FitConfig(steps=30, batch_size=32, optimizer=RATE),
    teach=TeachConfig(fit=FitConfig(steps=20, batch_size=32, optimizer=RATE)),
)


@pytest.mark.parametrize("size", [8, (9, 7)])
def test_macs_and_parameters_of_light_chains(size):
    for chain in (CHAIN, dataclasses.replace(CHAIN, head="all", corner=2)):
        space = LightChainSpace(dataclasses.replace(LIGHT, chain=chain), channels=1, size=size, outputs=2)
        rng, example = np.random.default_rng(0), torch.zeros(1, 1, *space.size)
        for _ in range(8):
            architecture = space.sample(rng)
            network = space.build(architecture).eval()
            assert space.cost(architecture)["macs"] == count_macs(network, example)
            assert space.cost(architecture)["parameters"] == count_parameters(network)


def test_extract_gives_the_path_by_itself():
    supernet, rng = Supernet(SPACE, seed=0).eval(), np.random.default_rng(0)
    for _ in range(5):
        architecture, pictures = SPACE.sample(rng), torch.rand(3, 1, 8, 8)
        assert torch.equal(supernet(pictures, architecture), supernet.extract(architecture)(pictures))


def decided_block(ratio, stride):
    """A searchable block whose thresholds are such that it decides for places of ratio and stride."""
    costs = SPACE.choice_costs()[0]
    block = SearchableBlock(8, LIGHT.ratios, LIGHT.strides, costs)
    with torch.no_grad():
        torch.nn.init.ones_(block.normalization.weight)
        block.wider[ratio:] = 2.0  # shares are 1 at most
        block.finer[len(LIGHT.strides) - 1 - stride :] = 2.0
    return block, costs


@pytest.mark.parametrize("stride", [0, 1])
@pytest.mark.parametrize("ratio", [0, 1, 2])
@pytest.mark.parametrize("training", [False, True])
def test_nested_choices_are_those_of_plain_blocks(ratio, stride, training):
    block, costs = decided_block(ratio, stride)
    block.train(training)
    plain = LightNonLocal(8, LIGHT.ratios[ratio], LIGHT.strides[stride]).train(training)
    plain.load_state_dict({name: value for name, value in block.state_dict().items() if name in plain.state_dict()})
    inputs = torch.randn(4, 8, 7, 5)
    torch.testing.assert_close(block(inputs), plain(inputs), atol=1e-5, rtol=1e-4)
    assert block.decide() == (ratio, stride)
    assert float(block.expected_macs().detach()) == costs[SPACE.choice(ratio, stride)]


def test_a_threshold_above_the_norm_takes_the_block_out_and_gradients_reach_all():
    block, _ = decided_block(2, 0)
    block.train()
    inputs = torch.randn(4, 8, 6, 6)
    block(inputs)
    (block.expected_macs().log() + block(inputs).square().mean()).backward()
    norm = float(block.depthwise.weight.detach().square().mean())
    slope = torch.sigmoid(torch.tensor(norm)) * torch.sigmoid(torch.tensor(-norm))
    assert float(block.inserted.grad) != 0.0
    assert (block.wider.grad != 0).all()
    assert (block.finer.grad != 0).all()
    block.zero_grad()
    block(inputs)
    block.expected_macs().backward()  # fewer MACs: the threshold must rise, the norm must fall
    assert float(block.inserted.grad) == pytest.approx(-float(block.costs[2, 1]) * float(slope), rel=1e-4)
    assert torch.equal(block.depthwise.weight.grad.sign(), block.depthwise.weight.sign())
    with torch.no_grad():
        block.inserted.fill_(norm + 1.0)
    assert torch.equal(block(inputs), inputs)
    assert block.decide() is None
    assert float(block.expected_macs().detach()) == 0.0


def test_expected_macs_are_those_of_the_decided_network():
    chain = SearchableChain(SPACE, seed=0)
    with torch.no_grad():
        chain.blocks[0].inserted.fill_(1e6)
        chain.blocks[1].wider[1] = 2.0
    architecture = chain.eval().decided()
    assert architecture == (0, SPACE.choice(1, 0))
    assert float(chain.expected_macs().detach()) == SPACE.cost(architecture)["macs"]


def test_a_price_takes_blocks_out_and_none_keeps_all(tmp_path):
    free = searched(classifier(), SPACE, dataclasses.replace(CONFIG, weight=0.0)).decided()
    assert all(free)
    dear = searched(classifier(), SPACE, dataclasses.replace(CONFIG, weight=50.0)).decided()
    assert SPACE.cost(dear)["macs"] < SPACE.cost(free)["macs"]
    quick = dataclasses.replace(CONFIG, search=dataclasses.replace(CONFIG.search, check_every=10, save_every=10))
    one = searched(classifier(), SPACE, quick, tmp_path / "a").state_dict()
    again = searched(classifier(), SPACE, quick, tmp_path / "a").state_dict()  # loaded
    assert all(torch.equal(value, again[name]) for name, value in one.items())


def test_as_a_transform_it_keeps_the_budget_and_reloads(tmp_path):
    least = SPACE.cost((0, 0))["macs"]
    config = dataclasses.replace(CONFIG, macs=least * 1.1, weight=50.0, trials=2)
    found = apply(Method("search/autonl", config, EVALUATIONS["search/autonl"]), classifier(), 0)
    assert count_macs(found.module, found.example) <= least * 1.1
    recipe.save_network(tmp_path / "network.safetensors", found.module, found.base, found.recipe)
    module, *_ = recipe.load_network(tmp_path / "network.safetensors")
    pictures = found.task.source("test").tensors["input"]
    with torch.no_grad():
        assert recipe.same_bits(module(pictures), found.module(pictures))
    with pytest.raises(UserError, match=r"autonl.macs=5: the smallest network of light_chain needs"):
        apply(Method("search/autonl", AutoNLConfig(macs=5), EVALUATIONS["search/autonl"]), classifier(), 0)
    with pytest.raises(UserError, match="ratios="):
        LightChainConfig(ratios=(0.5, 0.25))
