"""NAS-Count: the space's networks and costs, derivation by hand, and a search that learns, resumes and is retrained."""

import dataclasses

import numpy as np
import pytest
import torch
from judged import classifier

from envs.evaluation import recipe
from envs.evaluation.catalogue import EVALUATIONS
from envs.evaluation.probes import count_macs, count_parameters
from envs.evaluation.search.nas_count import (
    NASCountConfig,
    derived,
    place_costs,
    relaxed_network,
    search_counting,
)
from envs.evaluation.search.spaces.counting import CountingConfig, CountingSpace
from envs.evaluation.search.supernet import Supernet
from envs.evaluation.transform import TeachConfig, apply
from envs.perception.counting.density import density_map
from envs.perception.counting.losses import SearchedSPPLoss, SPPLoss
from envs.perception.counting.task import CountTask
from rlsuite.data.arrays import Arrays
from rlsuite.errors import UserError
from rlsuite.fit import FitConfig, fit
from rlsuite.methods import Method
from rlsuite.optim.choice import OptimizerConfig

SMALL = CountingConfig(
    levels=3,
    nodes=2,
    width=4,
    extraction=("conv_1x1", "full_dil_conv_3x3", "skip_connect"),
    fusion=("conv_1x1", "skip_connect"),
)
CONFIG = NASCountConfig(
    space=SMALL,
    partial=2,
    levels=2,
    search=FitConfig(steps=10, batch_size=8, optimizer=OptimizerConfig(learning_rate=3e-3)),
    architecture=OptimizerConfig(learning_rate=3e-2, beta1=0.5),
)


def space(size=16, config=SMALL):
    return CountingSpace(config, channels=1, size=size)


def dots(count, seed):
    """Pictures of up to six dots, and their maps at half the sides."""
    rng = np.random.default_rng(seed)
    pictures, densities = [], []
    for _ in range(count):
        centres = torch.from_numpy(rng.uniform(2, 14, size=(rng.integers(7), 2)))
        pictures.append((density_map(centres, (16, 16), 1.0) * 5).clamp(max=1.0)[None])
        densities.append(density_map((centres - 0.5) / 2, (8, 8), 1.0)[None])
    return Arrays({"input": torch.stack(pictures), "density": torch.stack(densities)})


def task(loss=None):
    return CountTask(dots(64, 0), dots(40, 1), loss or SPPLoss(2), floor=-2.0)


@pytest.mark.parametrize("size", [16, (17, 22)])
def test_macs_shapes_and_extract_of_counting_networks(size):
    rng, one = np.random.default_rng(0), space(size)
    supernet = Supernet(one, seed=0).eval()
    for _ in range(6):
        architecture, pictures = one.sample(rng), torch.rand(2, 1, *one.size)
        assert one.check(architecture) == architecture
        network = supernet.extract(architecture)
        assert torch.equal(supernet(pictures, architecture), network(pictures))
        assert network(pictures).shape == (2, 1, -(-one.size[0] // 2), -(-one.size[1] // 2))
        assert (network(pictures) > 0).all()
        assert one.cost(architecture)["macs"] == count_macs(network, pictures[:1])
        assert one.cost(architecture)["parameters"] == count_parameters(network)


def test_places_by_hand():
    one = space()
    assert one.edges == [(0, 1), (0, 2), (1, 2)]
    assert one.inputs == {1: ["cell 1", "cell 2"], 0: ["cell 0", "cell 1", "cell 2", "fusion 1"]}
    assert one.groups == (0, 1, 1, 2, 3, 3, 4, 5, 5, 6, 6, 7, 7, 7, 7)
    assert one.sizes == (4,) * 9 + (3,) * 6
    good = (1, 1, 0, 1, 0, 1, 1, 1, 1, 1, 0, 1, 1, 0, 0)
    assert one.valid(good)
    assert not one.valid((0, *good[1:]))  # nothing enters a node
    assert not one.valid((*good[:-2], 1, 1))  # four inputs of a fusion
    counts = [sum(map(bool, one.sample(np.random.default_rng(seed))[-4:])) for seed in range(300)]
    assert 0.5 < np.mean(np.asarray(counts) == 2) < 0.7  # six pairs, four single ones
    for change in ({"levels": 1}, {"nodes": 0}, {"fusion": ()}, {"extraction": ("conv_9x9",)}):
        with pytest.raises(UserError):
            dataclasses.replace(SMALL, **change)
    with pytest.raises(UserError, match="size="):
        space(4)


def test_two_edges_with_the_largest_products_remain():
    one = space()
    relaxation = relaxed_network(one, SearchedSPPLoss(2), CONFIG).relaxation
    assert not relaxation.mixture()[:, 0].any()
    with torch.no_grad():
        relaxation.choices.zero_()
        relaxation.edges.zero_()
        relaxation.choices[0, 2] = 3.0
        relaxation.edges[11:] = torch.tensor([0.0, 1.0, -1.0, 0.5])
        relaxation.choices[11, 2] = 9.0
    found = derived(one, relaxation)
    assert found[0] == 2
    # Edges' weights 0.174, 0.474, 0.064, 0.287; operations' 1 for the first place, 1/2 for others.
    assert [bool(choice) for choice in found[11:]] == [True, True, False, False]
    assert found[11] == 2
    assert one.valid(found)


def test_costs_of_places_add_up():
    one, rng = space(), np.random.default_rng(0)
    costs, nothing = place_costs(one), (0,) * 15
    for _ in range(5):
        architecture = one.sample(rng)
        told = sum(float(costs[place, choice]) for place, choice in enumerate(architecture))
        assert told + one.cost(nothing)["macs"] == one.cost(architecture)["macs"]


def test_resume_of_a_search_and_a_price(tmp_path):
    whole = search_counting(space(), task(), CONFIG, tmp_path / "a")
    again = search_counting(space(), task(), CONFIG, tmp_path / "a")
    fresh = search_counting(space(), task(), CONFIG)
    assert whole.architecture == again.architecture == fresh.architecture
    assert whole.loss.poolings == fresh.loss.poolings
    costly = dataclasses.replace(CONFIG, price=1e6)
    cheap = search_counting(space(), task(), costly)
    assert space().cost(cheap.architecture)["macs"] < space().cost(whole.architecture)["macs"]
    with pytest.raises(UserError):
        search_counting(space(), task(), costly, tmp_path / "a")


def test_what_is_found_learns_to_count():
    one, found = space(), search_counting(space(), task(), CONFIG)
    network = one.build(found.architecture)
    mine = task(found.loss)
    before = mine.score(network.eval(), 0).mean()
    config = FitConfig(steps=150, batch_size=16, optimizer=OptimizerConfig(learning_rate=1e-2))
    fit(network, lambda module, batch: {"loss": mine.loss(module, batch).mean()}, mine.source("train"), config, seed=0)
    after = mine.score(network.eval(), 0).mean()
    assert after > max(before, mine.floor) + 0.5
    predicted, true = mine.counts(network)
    torch.testing.assert_close(-(predicted - true).abs().numpy(), mine.score(network, 0))
    assert mine.maps(network)[0].shape == (40, 1, 8, 8)


def test_as_a_transform_it_reloads_and_asks_for_a_counting_task(tmp_path):
    mine = task()
    subject = dataclasses.replace(classifier(), task=mine, example=torch.zeros(1, 1, 16, 16))
    teach = TeachConfig(fit=FitConfig(steps=5, batch_size=16))
    method = Method("search/nas_count", dataclasses.replace(CONFIG, teach=teach), EVALUATIONS["search/nas_count"])
    found = apply(method, subject, 0)
    recipe.save_network(tmp_path / "network.safetensors", found.module, found.base, found.recipe)
    module, *_ = recipe.load_network(tmp_path / "network.safetensors")
    pictures = mine.source("test").tensors["input"]
    with torch.no_grad():
        assert recipe.same_bits(module(pictures), found.module(pictures))
    with pytest.raises(UserError, match="the task is not to count"):
        apply(method, classifier(), 0)
