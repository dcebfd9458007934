"""BReLU: its integer networks beside the networks that learned, and what it refuses."""

import dataclasses

import pytest
import torch
from integer_subjects import CONFIG, FEW, SUBJECTS, brelu, conv, imitating, pictures, policy, residual
from judged import classifier
from torch import nn

from envs.evaluation.quantization.brelu import BReLU, BReLUConfig
from envs.evaluation.quantization.brelu_layers import BoundedLayer, BoundedReLU
from envs.evaluation.quantization.brelu_rules import Pair, bound_network, check
from envs.evaluation.quantization.integer import NoFloats
from envs.evaluation.quantization.integer_agreement import disagreements
from envs.evaluation.quantization.integer_graph import follow
from envs.evaluation.quantization.integer_model import IntegerModel, PictureDoor, StateDoor
from envs.evaluation.recipe import load_network, network_base, policy_base, same_bits, save_network
from envs.evaluation.transform import TeachConfig, apply
from rlsuite.data.arrays import Arrays
from rlsuite.errors import UserError
from rlsuite.fit import FitConfig
from rlsuite.nn.plain import PlainPolicyConfig, build_plain_policy
from rlsuite.nn.vision.conv_net import ConvNetConfig
from rlsuite.optim.choice import OptimizerConfig

# -- whole networks --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", SUBJECTS)
def test_the_integer_network_is_the_bounded_one_to_rounding(kind):
    subject = SUBJECTS[kind]()
    transform = BReLU(config=CONFIG)
    module = transform.rebuild(subject.copy(), transform.plan(subject))
    changed = dataclasses.replace(subject, module=module)
    transform.deploy(module, transform.bound(changed, 0))
    inputs = subject.task.source("test").tensors["input"]
    with torch.no_grad():
        before, learned, whole = subject.module(inputs), module.learning(inputs), module.deployed(inputs)
    spread = float(before.std())
    assert float((learned - before).abs().mean()) < 0.15 * spread  # 8-bit weights, bounds that clip a little
    assert float((whole - learned).abs().mean()) < 0.1 * spread
    assert float((whole - learned).abs().max()) < 0.6 * spread
    assert not torch.equal(whole, learned)


@pytest.mark.parametrize("kind", SUBJECTS)
def test_integer_models_agree_everywhere_and_come_back_from_a_file(kind, tmp_path):
    subject = SUBJECTS[kind]()
    changed = apply(brelu(), subject, 3)
    model = changed.module
    assert isinstance(model, IntegerModel)
    assert disagreements(model.network, count=300, seed=1) == 0
    assert not list(model.parameters())
    assert changed.traits >= {"quantized", "integer"}
    save_network(tmp_path / "model.safetensors", model, changed.base, changed.recipe)
    loaded, *_ = load_network(tmp_path / "model.safetensors")
    inputs = subject.task.source("test").tensors["input"]
    assert same_bits(loaded(inputs), model(inputs))
    again = apply(brelu(), SUBJECTS[kind](), 3).module
    assert all(torch.equal(a, b) for a, b in zip(again.state_dict().values(), model.state_dict().values(), strict=True))
    with torch.device("meta"):
        transform = BReLU(config=CONFIG)
        transform.finish(transform.rebuild(SUBJECTS[kind]().module.to("meta"), changed.recipe[-1].plan))


def test_activations_are_within_one_level_of_the_bounded_networks():
    subject = conv()
    transform = BReLU(config=CONFIG)
    module = transform.rebuild(subject.copy(), transform.plan(subject))
    settled = transform.bound(dataclasses.replace(subject, module=module), 0)
    transform.deploy(module, settled)
    first = module.learning.body[2]
    assert isinstance(first, BoundedReLU)
    seen = []
    first.register_forward_hook(lambda _, __, output: seen.append(output))
    inputs = subject.task.source("test").tensors["input"]
    with torch.no_grad():
        module.learning(inputs)
        codes = module.deployed.network.values(module.deployed.enter(inputs))[2]
    levels = seen[0] / first.bound * 127
    assert int(codes.min()) == 0
    assert int(codes.max()) == 127
    assert (codes - levels).abs().max() <= 1.0


def test_real_black_pads_pictures():
    subject = conv()
    model = apply(brelu(weights=FEW, teach=FEW), subject, 0).module
    assert isinstance(model.enter, PictureDoor)
    first = model.network.steps[0]
    assert first.pad == -128
    black = model.network.values(model.enter(torch.zeros(1, 2, 8, 8)))[1]
    # Without anything to see, all places of a map are alike, the padded ones among them.
    assert (black == black[:, :, :1, :1]).all()
    assert torch.equal(model(torch.zeros(1, 2, 8, 8)), model(torch.zeros(1, 2, 8, 8, dtype=torch.uint8)))


def test_states_are_standardized_and_clipped_at_four_deviations():
    subject = policy()
    model = apply(brelu(), subject, 0).module
    assert isinstance(model.enter, StateDoor)
    mean, deviation = subject.module.normalizer.center[0, 0], 1.0 / subject.module.normalizer.scale[0, 0]
    places = torch.stack([mean, mean + deviation, mean - 2.01 * deviation, mean + 9 * deviation, mean - 9 * deviation])
    assert model.enter(places).tolist() == [[0] * 5, [32] * 5, [-64] * 5, [127] * 5, [-128] * 5]


def test_actions_of_a_table_are_within_the_environments_bounds():
    model = apply(brelu(), policy(), 0).module
    numbers = torch.randint(-128, 128, (2000, 5), dtype=torch.int8, generator=torch.Generator().manual_seed(0))
    with NoFloats():
        entries = model.network(numbers)
    assert entries.dtype == torch.int16
    actions = model.leave(entries)
    assert float(actions.min()) >= -2.5
    assert float(actions.max()) <= 3.5
    table = model.network.steps[-1].table
    assert (table[1:] >= table[:-1]).all()
    assert (int(table[2048]), int(table[0]), int(table[-1])) == (0, -32767, 32767)


def test_policies_without_a_squash_give_sums_times_a_scale():
    subject = policy(squash="none")
    model = apply(brelu(), subject, 0).module
    assert model.network(torch.zeros(1, 5, dtype=torch.int8)).dtype == torch.int32
    inputs = subject.task.source("test").tensors["input"]
    with torch.no_grad():
        assert float((model(inputs) - subject.module(inputs)).abs().mean()) < 0.1


class TwoBranches(nn.Module):
    """Channels side by side, pooled by maximum and by mean, as no network of the catalogue has them."""

    def __init__(self):
        super().__init__()
        self.stem, self.pool, self.relu = nn.Conv2d(2, 6, 3, padding=1), nn.MaxPool2d(3, 2, 1), nn.ReLU()
        self.left, self.right = nn.Conv2d(6, 4, 3, padding=1), nn.Conv2d(6, 5, 1)
        self.left_relu, self.right_relu = nn.ReLU(), nn.ReLU()
        self.last_relu, self.mean, self.flatten = nn.ReLU(), nn.AvgPool2d(2), nn.Flatten()
        self.join = nn.Conv2d(9, 4, 1)
        self.head = nn.Linear(16, 3)

    def forward(self, inputs):
        inputs = self.pool(self.relu(self.stem(inputs)))
        both = torch.cat([self.left_relu(self.left(inputs)), self.right_relu(self.right(inputs))], 1)
        return self.head(self.flatten(self.mean(self.last_relu(self.join(both)))))


def test_channels_side_by_side_have_one_ratio():
    torch.manual_seed(4)
    module = TwoBranches().eval()
    with torch.no_grad():
        module.left.weight.mul_(5.0)
    base = network_base("conv", channels=2, size=8, outputs=3, config=ConvNetConfig())
    subject = imitating(module, base, pictures())
    transform = BReLU(config=CONFIG)
    rebuilt = transform.rebuild(subject.copy(), transform.plan(subject))
    settled = transform.bound(dataclasses.replace(subject, module=rebuilt), 0)
    learning = rebuilt.learning
    assert isinstance(learning.pool, nn.Sequential)  # the bound is that of what the pooling gives
    assert isinstance(learning.relu, nn.Identity)
    by_path = {node.path: node for node in follow(learning, {BoundedLayer: "layer", BoundedReLU: "bounded"})}
    left, right = (by_path[path] for path in ("left_relu", "right_relu"))
    assert settled.ratios[left.place] == settled.ratios[right.place]
    for node in (left, right):
        pair, layer = settled.pairs[node.place], by_path[node.path.removesuffix("_relu")]
        ratio = settled.ratios[layer.sources[0]] / float(layer.part.step)
        assert ratio * pair.multiplier / 2**pair.shift == pytest.approx(settled.ratios[node.place], rel=1e-5)
        assert pair.most == pytest.approx(float(node.part.bound) * ratio, rel=1e-3)
    transform.deploy(rebuilt, settled)
    assert disagreements(rebuilt.deployed.network, count=100) == 0
    inputs = subject.task.source("test").tensors["input"]
    with torch.no_grad():
        apart = (rebuilt.deployed(inputs) - subject.module(inputs)).abs().mean()
    assert float(apart) < 0.15 * float(subject.module(inputs).std())


class OwnShortcut(nn.Module):
    """A block whose shortcut is the picture itself."""

    def __init__(self):
        super().__init__()
        self.first, self.relu, self.flatten = nn.Conv2d(2, 2, 3, padding=1), nn.ReLU(), nn.Flatten()
        self.head = nn.Linear(128, 3)

    def forward(self, inputs):
        return self.head(self.flatten(self.relu(self.first(inputs) + inputs)))


def behind(*first):
    return nn.Sequential(*first, nn.Conv2d(2, 4, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.LazyLinear(3))


FIRST = {
    "linear behind flatten": lambda: nn.Sequential(nn.Flatten(), nn.Linear(128, 16), nn.ReLU(), nn.Linear(16, 3)),
    "convolution": behind,
    "convolution behind pooling": lambda: behind(nn.MaxPool2d(2)),
    "convolution behind two poolings": lambda: behind(nn.MaxPool2d(3, 1, 1), nn.MaxPool2d(3, 2, 1)),
    "shortcut": OwnShortcut,
}


@pytest.mark.parametrize("kind", FIRST)
def test_wherever_the_input_comes_in_its_bytes_less_128_are_pictures(kind):
    torch.manual_seed(7)
    module, base = FIRST[kind]().eval(), network_base("conv", channels=2, size=8, outputs=3, config=ConvNetConfig())
    module(pictures())
    subject = imitating(module, base, pictures())
    transform = BReLU(config=CONFIG)
    rebuilt = transform.rebuild(subject.copy(), transform.plan(subject))
    transform.deploy(rebuilt, transform.bound(dataclasses.replace(subject, module=rebuilt), 0))
    assert disagreements(rebuilt.deployed.network, count=100) == 0
    with torch.no_grad():
        learned, whole = (one(pictures()) for one in (rebuilt.learning, rebuilt.deployed))
    assert float((whole - learned).abs().mean()) < 0.04 * float(learned.std())


def test_a_sum_changes_the_last_layers_step_so_that_ratios_agree():
    subject = residual()
    transform = BReLU(config=CONFIG)
    module = transform.rebuild(subject.copy(), transform.plan(subject))
    settled = transform.bound(dataclasses.replace(subject, module=module), 0)
    nodes = follow(module.learning, {BoundedLayer: "layer", BoundedReLU: "bounded"})
    sums = [node for node in nodes if node.kind == "add"]
    assert len(sums) == 3
    for node in sums:
        last = next(one for one in nodes if one.path == f"body.3.{sums.index(node)}.second.0")
        met = settled.ratios[last.sources[0]] / float(last.part.step)
        assert met == pytest.approx(settled.ratios[node.place], rel=1e-6)
        assert isinstance(settled.pairs[node.place], Pair)


def test_learning_lowers_the_loss_of_few_levels():
    subject = classifier()
    learning = TeachConfig(fit=FitConfig(steps=60, batch_size=32, optimizer=OptimizerConfig(learning_rate=3e-3)))
    changed = apply(brelu(levels=3, weights=learning, teach=learning), subject, 0)
    assert changed.task.score(changed.module, 0).mean() > 90.0
    assert changed.task.score(changed.module, 0).mean() > subject.task.score(subject.module, 0).mean()


# -- refusals ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"activation": "elu"}, r"1 \(ELU\): whole numbers cannot do this"),
        ({"layer_norm": True}, r"1 \(LayerNorm\): whole numbers cannot do this"),
        ({"activation": "tanh"}, r"1 \(Tanh\): it stands between layers"),
    ],
)
def test_policies_that_are_no_whole_numbers_are_refused_by_layer(changes, message):
    with pytest.raises(UserError, match=message):
        apply(brelu(), policy(**changes), 0)


def test_other_refusals_are_one_line_that_names_the_fix():
    subject = policy()
    with torch.no_grad():
        subject.module.layers[2].bias[0] = float("nan")
    with pytest.raises(UserError, match=r"layers\.2\.bias: it holds NaN or infinity"):
        apply(brelu(), subject, 0)
    training = conv()
    training.module.train()
    with pytest.raises(UserError, match=r"BatchNorm in training mode; call eval\(\) first"):
        BReLU(config=CONFIG).plan(training)
    config = PlainPolicyConfig(observation_size=5, action_size=2)
    plain = imitating(build_plain_policy(config), policy_base(config), torch.randn(9, 5))
    with pytest.raises(UserError, match=r"train with agent\.normalize_observations=true"):
        apply(brelu(), plain, 0)
    with pytest.raises(UserError, match="the network is quantized; quantize a network once"):
        apply(brelu(), dataclasses.replace(policy(), gained=frozenset({"quantized"})), 0)
    dark = conv()
    dark.task.splits["train"] = Arrays({"input": 4.0 * pictures() - 2.0, "target": torch.zeros(64, 3)})
    with pytest.raises(UserError, match=r"inputs lie in \[-2, 2\]: give bytes or floats in \[0, 1\]"):
        apply(brelu(), dark, 0)
    with pytest.raises(UserError, match=r"inputs lie in \[0\.0\d*, 1\.\d*\]: give bytes"):
        apply(brelu(), dataclasses.replace(conv(), example=pictures()[:1] + 0.01), 0)
    early = imitating(behind(nn.ReLU()).eval(), conv().base, pictures())
    with pytest.raises(UserError, match="0: pictures have nothing below 0; leave out the ReLU before layers"):
        apply(brelu(), early, 0)
    empty = conv()
    module = BReLU(config=CONFIG).rebuild(empty.copy(), {"shape": [2, 8, 8]})
    empty.task.splits["train"] = Arrays({"input": torch.zeros(0, 2, 8, 8), "target": torch.zeros(0, 3)})
    with pytest.raises(UserError, match="there are no examples to measure bounds on"):
        BReLU(config=CONFIG).bound(dataclasses.replace(empty, module=module), 0)
    with pytest.raises(UserError, match="2: what it takes in comes from 0 and has no bound; put a ReLU there"):
        check(follow(nn.Sequential(nn.Linear(2, 2), nn.Identity(), nn.Linear(2, 2))))
    shared = nn.ReLU()
    with pytest.raises(UserError, match="1: it is called twice"):
        follow(nn.Sequential(nn.Linear(2, 2), shared, nn.Linear(2, 2), shared))
    with pytest.raises(UserError, match="its padding or dilation is none of integer networks"):
        bound_network(nn.Sequential(nn.Conv2d(1, 1, 3, dilation=2)), 8)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"bits": 9}, "bits=9: use 2 to 8"),
        ({"levels": 128}, "levels=128: use 1 to 127"),
        ({"quantile": 0.0}, "use a share above 0"),
        ({"calibration": 0}, "use 1 batch or more"),
        (
            {"teach": TeachConfig(fit=FitConfig(optimizer=OptimizerConfig(weight_decay=0.1)))},
            "weight_decay=0.1: quantized weights learn without; use 0",
        ),
    ],
)
def test_numbers_out_of_range_are_refused(keys, message):
    with pytest.raises(UserError, match=message):
        BReLUConfig(**keys)


@pytest.mark.parametrize("plan", [None, [], {}, {"shape": []}, {"shape": [2, "8", 8]}, {"shape": [2, -1, 8]}])
def test_damaged_plans_are_refused(plan):
    with pytest.raises(UserError, match="its plan is damaged"):
        BReLU(config=CONFIG).rebuild(conv().module, plan)
