"""ABanditNAS: its defences by hand, its trials, what it derives, and a search that goes on to the same bits."""

import dataclasses
import math

import numpy as np
import pytest
import torch
from judged import classifier, stripes
from torch import nn

from envs.evaluation import recipe
from envs.evaluation.attacks.adversarial_training import attacked_loss, one_step
from envs.evaluation.catalogue import EVALUATIONS
from envs.evaluation.probes import count_macs, count_parameters
from envs.evaluation.search.abandit_nas import (
    ABANDIT_NAS_1,
    ABanditNAS,
    ABanditNASConfig,
    AttackedParts,
    anti_bandit,
    searched,
)
from envs.evaluation.search.bandit import Arms
from envs.evaluation.search.defences import Defence, DotDenoise, GaborFilter
from envs.evaluation.search.elimination import (
    Trials,
    all_edges,
    architecture_of,
    fair_then_lowest_mean,
    lower_then_lowest_mean,
    play,
    reward_of,
    strongest_edges,
    uniform_then_lowest_mean,
    upper_then_lowest_mean,
)
from envs.evaluation.search.evaluators import SharedEvaluator, halves
from envs.evaluation.search.operations import Convolution, find_operation
from envs.evaluation.search.shared_weights import SharedConfig, SharedWeights
from envs.evaluation.search.spaces.cell import CellSpace, CellSpaceConfig
from envs.evaluation.search.strategy import WORST
from envs.evaluation.search.supernet import Supernet
from envs.evaluation.tasks import ClassifierTask
from envs.evaluation.transform import TeachConfig, apply
from rlsuite.data.arrays import Arrays
from rlsuite.errors import UserError
from rlsuite.fit import FitConfig
from rlsuite.methods import Method
from rlsuite.optim.choice import OptimizerConfig

CELLS = CellSpaceConfig(
    operations=("skip_connect", "conv_3x3", "denoise", "gabor_3x3"),
    nodes=2,
    inputs=1,
    picks=1,
    layout=("a", "r"),
    reductions=("r",),
    width=4,
)
SPACE = CellSpace(CELLS, channels=1, size=8, outputs=2)
CONFIG = ABanditNASConfig(
    space=CELLS,
    tries=1,
    eps=0.1,
    shared=SharedConfig(batch_size=32),
    statistics=1,
    teach=TeachConfig(fit=FitConfig(steps=20, batch_size=32, optimizer=OptimizerConfig(learning_rate=3e-3))),
)


def test_gabor_kernels_by_hand():
    filter_ = GaborFilter(2)
    with torch.no_grad():
        for name, value in (("angle", 0.3), ("ratio", 0.4), ("width", 0.7), ("wavelength", 0.2), ("phase", 0.1)):
            getattr(filter_, name).copy_(torch.tensor([value, -value]))
    sigmoid = lambda value: 1 / (1 + math.exp(-value))  # noqa: E731
    theta, gamma, sigma = 2 * math.pi * sigmoid(0.3), 1 + 0.5 * 0.4, 0.1 + 0.4 * sigmoid(0.7)
    wavelength = 0.001 + 0.999 * sigmoid(0.2)
    for row, y in enumerate((-1, 0, 1)):
        for column, x in enumerate((-1, 0, 1)):
            along = x * math.cos(theta) + y * math.sin(theta)
            across = -x * math.sin(theta) + y * math.cos(theta)
            wanted = math.exp(-0.5 * (along**2 / sigma**2 + across**2 / (sigma / gamma) ** 2))
            wanted *= math.cos(2 * math.pi * along / wavelength + 0.1)
            assert float(filter_.kernels()[0, row, column].detach()) == pytest.approx(wanted, abs=1e-5)
    pictures = torch.randn(2, 2, 5, 6)
    same = filter_.kernels().unsqueeze(1).expand(-1, 2, -1, -1)
    assert torch.allclose(filter_(pictures), nn.functional.conv2d(pictures, same, padding=1), atol=1e-5)
    filter_(pictures).sum().backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in filter_.parameters())


@pytest.mark.parametrize("shape", [(2, 3, 4, 5), (2, 12, 2, 3)])
def test_denoising_by_hand(shape):
    inputs = torch.randn(shape)
    flat = inputs.flatten(2)
    wanted = torch.zeros_like(flat)
    for i in range(flat.shape[2]):
        for j in range(flat.shape[2]):
            wanted[:, :, i] += (flat[:, :, i] * flat[:, :, j]).sum(1, keepdim=True) * flat[:, :, j]
    wanted = wanted / flat[0].numel()
    assert torch.allclose(DotDenoise()(inputs).flatten(2), wanted, atol=1e-5)


@pytest.mark.parametrize("size", [(8, 8), (5, 7)])
@pytest.mark.parametrize("name", ["gabor_3x3", "denoise", "sep_full_conv_3x3"])
def test_defences_begin_as_identities_and_cost_what_they_say(name, size):
    for stride in (1, 2):
        operation = find_operation(name)
        module, inputs = operation.make(6, stride, Convolution(), True), torch.randn(2, 6, *size)
        cost = operation.cost(6, size, stride, Convolution(), True)
        assert cost.macs == count_macs(module.eval(), inputs[:1])
        assert cost.parameters == count_parameters(module)
        assert module(inputs).shape == (2, 6, *(-(-side // stride) for side in size))
        if isinstance(module, Defence) and stride == 1:
            assert torch.equal(module.train()(inputs), inputs)


def test_macs_and_extraction_of_whole_networks():
    rng, supernet, pictures = np.random.default_rng(0), Supernet(SPACE, seed=3).eval(), torch.rand(2, 1, 8, 8)
    for _ in range(20):
        architecture = SPACE.sample(rng)
        network, cost = SPACE.build(architecture).eval(), SPACE.cost(architecture)
        assert cost["macs"] == count_macs(network, pictures[:1])
        assert cost["parameters"] == count_parameters(network)
        with torch.no_grad():
            assert torch.equal(supernet(pictures, architecture), supernet.extract(architecture)(pictures))


def test_seeds_draw_gabor_filters_too():
    def angles(seed):
        space = CellSpace(dataclasses.replace(CELLS, operations=("gabor_3x3",)), channels=1, size=8, outputs=2)
        network = space.build((1, 1, 0) * 2)
        space.draw(network, seed)
        return torch.cat([part.angle for part in network.modules() if isinstance(part, GaborFilter)])

    assert torch.equal(angles(1), angles(1))
    assert not torch.equal(angles(1), angles(2))


@pytest.mark.parametrize(
    "rule",
    [anti_bandit, lower_then_lowest_mean, upper_then_lowest_mean, uniform_then_lowest_mean],
    ids=lambda rule: rule.__name__,
)
def test_bandit_trials_of_nine_operations_and_three_tries(rule):
    arms = Arms((9,) * 4, momentum=0.7)
    assert play(rule(arms, 3, np.random.default_rng(0)), lambda path: 0.5) == 132 + 9
    assert arms.trials == 141
    assert arms.counts.sum() == 4 * 141  # never reset
    assert (arms.alive.sum(1) == 1).all()


def test_bandit_rules_find_the_best_where_nothing_is_uncertain():
    worth = np.random.default_rng(0).permuted(np.tile(np.linspace(0.1, 0.9, 5), (3, 1)), axis=1)
    for rule in (uniform_then_lowest_mean, fair_then_lowest_mean):
        for place in range(3):
            arms = Arms((5,))
            play(rule(arms, 3, np.random.default_rng(1)), lambda path, place=place: worth[place, path[0]])
            assert arms.best() == (worth[place].argmax(),)


def test_the_anti_bandit_prefers_the_weak_and_the_rare_and_gives_up_the_smallest_upper_bound():
    arms = Arms((2,), momentum=0.7)
    rule = anti_bandit(arms, 200, np.random.default_rng(0))
    drawn, path = [], next(rule)
    for _ in range(402):
        drawn.append(path[0])
        try:
            path = rule.send((0.2, 0.9)[path[0]])
        except StopIteration:
            break
    assert len(drawn) == 402
    share = drawn.count(0) / 402  # softmax of -(m - bonus), bonuses near each other
    assert 0.55 < share < 0.75
    assert arms.best() == (1,)


def test_trials_ask_one_at_a_time_and_failures_are_worth_nothing():
    arms = Arms((2, 2), momentum=0.7)
    trials = Trials(anti_bandit(arms, 1, np.random.default_rng(0)), reward_of("%"))
    first = trials.ask()
    assert first.train == first.judge
    assert trials.ask() == first
    trials.tell([80.0])
    trials.tell([WORST])
    assert sorted(arms.means[0].tolist()) == [0.0, 0.8]
    for _ in range(2):
        trials.tell([50.0])
    assert trials.ask() == ((), ())
    assert reward_of("negative loss")(-math.log(2.0)) == pytest.approx(0.5)
    with pytest.raises(UserError, match="no rewards"):
        reward_of("return")
    one = Arms((1,))
    assert play(anti_bandit(one, 3, np.random.default_rng(0)), lambda path: 1.0) == 1


def test_the_edge_of_the_highest_value_stays():
    whole = all_edges(SPACE)
    assert whole.sizes == (4,) * 6
    chosen, values = (0, 1, 2, 3, 0, 1), np.zeros((6, 4))
    values[np.arange(6), chosen] = [0.1, 0.9, 0.3, 0.5, 0.2, 0.2]
    assert strongest_edges(SPACE, chosen, values) == (1, 2, 0, 4, 1, 0)
    assert strongest_edges(whole, chosen, values) == chosen
    names = ("none", "conv_1x1")
    space = CellSpace(dataclasses.replace(CELLS, operations=names), channels=1, size=8, outputs=2)
    values = np.array([[0.0, 0.1], [0.9, 0.0], [0.0, 0.3], [0.0, 0.5], [0.0, 0.2], [0.0, 0.2]])
    assert strongest_edges(space, (1, 0, 1, 1, 1, 1), values) == (2, 0, 2, 2, 2, 0)
    names = ("none", "conv_1x1", "skip_connect")
    space = CellSpace(dataclasses.replace(CELLS, operations=names, picks=2), channels=1, size=8, outputs=2)
    values = np.array([[0.5, 0.3, 0.4], [0.0, 0.9, 0.0], [0.5, 0.4, 0.3], [0.0, 0.0, 0.6]] + [[0.9, 0.0, 0.0]] * 2)
    found = strongest_edges(space, (0, 1, 0, 2, 0, 0), values)  # the nodes have 1 and 2 edges in each of 2 cells
    assert "none" not in {names[choice - 1] for choice in found if choice}
    assert found[:3] == (3, 2, 2)


def test_the_published_cells_are_in_the_space():
    space = CellSpace(ABanditNASConfig().space, channels=3, size=32, outputs=10)
    found = architecture_of(space, ABANDIT_NAS_1)
    assert sum(choice > 0 for choice in found) == 24
    assert len(space.edges) == 10
    assert space.kinds == ("a", "b", "c", "d", "e", "f")
    with torch.no_grad():
        assert space.build(found).eval()(torch.rand(1, 3, 32, 32)).shape == (1, 10)


def test_one_step_is_the_worst_case_of_a_linear_classifier():
    module = nn.Sequential(nn.Flatten(), nn.Linear(16, 2))
    inputs, label = 0.3 + 0.4 * torch.rand(5, 1, 4, 4), torch.tensor([0, 1, 0, 1, 1])
    batch = {"input": inputs, "label": label}
    task = ClassifierTask(Arrays(batch), Arrays(batch), num_classes=2)
    # Steps of 2 eps reach the corner from every start.
    found = one_step(task, module, batch, eps=0.1, step_share=2.0, generator=torch.Generator().manual_seed(0))
    other = module[1].weight[1 - label] - module[1].weight[label]
    assert torch.allclose(found["input"], inputs + 0.1 * other.sign().view_as(inputs), atol=1e-6)
    near = one_step(task, module, batch, eps=0.5, generator=torch.Generator().manual_seed(0))
    assert (near["input"] - inputs).abs().max() <= 0.5 + 1e-6
    assert near["input"].min() >= 0.0
    assert near["input"].max() <= 1.0
    as_bytes = {"input": (255 * inputs).byte(), "label": label}
    assert one_step(task, module, as_bytes, eps=0.1)["input"].is_floating_point()
    assert float(attacked_loss(task, module, batch, eps=0.1)["loss"]) > float(task.loss(module, batch).mean())


def test_candidates_are_judged_under_attack():
    torch.manual_seed(0)
    subject = classifier()
    module, seen = subject.module, stripes(256, 1)
    optimizer = torch.optim.Adam(module.parameters(), lr=1e-2)
    for _ in range(40):
        optimizer.zero_grad()
        subject.task.loss(module, seen.tensors).mean().backward()
        optimizer.step()
    parts = halves(subject.task, 0)
    attacked = AttackedParts(parts, eps=0.4, step_share=1.25)
    plain, found = parts.score(module, 0).mean(), attacked.score(module, 0)
    assert found.shape == (128,)
    assert found.mean() < plain
    assert found.tolist() == attacked.score(module, 0).tolist()


def test_statistics_are_measured_on_attacked_examples(monkeypatch):
    parts = halves(classifier().task, 0)
    attacked = AttackedParts(parts, eps=0.4, step_share=1.25)
    space, seen = all_edges(SPACE), []
    path = space.sample(np.random.default_rng(0))
    learned_from = AttackedParts.learned_from

    def watched(self, module, batch, generator):
        seen.append((module.training, batch["input"], learned_from(self, module, batch, generator)))
        return seen[-1][2]

    monkeypatch.setattr(AttackedParts, "learned_from", watched)
    found = []
    for task in (parts, attacked, attacked):
        shared = SharedWeights(Supernet(space, seed=0), task, SharedConfig(batch_size=32), seed=0)
        child = SharedEvaluator(shared, steps=1, statistics=2).network(path)
        assert not child.training
        found.append({name: value for name, value in child.state_dict().items() if "running_mean" in name})
    assert [training for training, *_ in seen] == [True] * 4
    assert all(0.0 < float((other - inputs).abs().max()) <= 0.4 + 1e-6 for _, inputs, other in seen)
    assert any(not torch.equal(value, found[1][name]) for name, value in found[0].items())
    assert all(torch.equal(value, found[2][name]) for name, value in found[1].items())


def test_resume_of_abandit_nas_ends_in_the_same_history_and_cell(tmp_path, monkeypatch):
    found = []
    for name in ("whole", "killed"):
        if name == "killed":
            calls, score = [], AttackedParts.score

            def stops(self, module, seed, score=score, calls=calls):
                calls.append(1)
                if len(calls) == 6:
                    raise KeyboardInterrupt
                return score(self, module, seed)

            with monkeypatch.context() as patch:
                patch.setattr(AttackedParts, "score", stops)
                with pytest.raises(KeyboardInterrupt):
                    searched(SPACE, classifier(), CONFIG, tmp_path / name)
        architecture, arms, _, rewards = searched(SPACE, classifier(), CONFIG, tmp_path / name)
        weights = sorted(path.read_bytes() for path in (tmp_path / name).rglob("*.safetensors"))
        found.append(
            ((tmp_path / name / "history.jsonl").read_bytes(), architecture, arms.state_dict(), weights, rewards)
        )
    assert found[0] == found[1]
    assert len(rewards) == arms.trials
    with pytest.raises(UserError, match="choose another folder"):
        searched(SPACE, classifier(), dataclasses.replace(CONFIG, tries=2), tmp_path / "whole")


def test_as_a_transform_it_learns_under_attack_and_reloads(tmp_path):
    method = Method("search/abandit_nas", CONFIG, EVALUATIONS["search/abandit_nas"])
    assert method.kind is ABanditNAS
    found = apply(method, classifier(), 0)
    architecture = tuple(found.recipe[0].plan["architecture"])
    assert SPACE.check(architecture) == architecture
    recipe.save_network(tmp_path / "network.safetensors", found.module, found.base, found.recipe)
    module, *_ = recipe.load_network(tmp_path / "network.safetensors")
    pictures = found.task.source("test").tensors["input"]
    with torch.no_grad():
        assert recipe.same_bits(module(pictures), found.module(pictures))


def test_wrong_numbers_are_refused():
    for wrong, message in (({"eps": 0.0}, "eps"), ({"tries": 0}, "tries=0"), ({"momentum": 0.0}, "momentum=0")):
        with pytest.raises(UserError, match=message):
            ABanditNASConfig(**wrong)
