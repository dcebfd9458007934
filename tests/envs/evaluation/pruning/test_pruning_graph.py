"""Which channels hang together, and cutting them: beside masks, by hand, and over every network there is."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

from envs.evaluation.pruning.criteria import kept_channels
from envs.evaluation.pruning.graph import couple
from envs.evaluation.pruning.shrink import shrink
from rlsuite.errors import UserError
from rlsuite.methods import choose
from rlsuite.nn.normalizer import NormalizerConfig
from rlsuite.nn.plain import PlainPolicyConfig, build_plain_policy
from rlsuite.nn.vision import NETWORKS
from rlsuite.nn.vision.blocks import WeightNormConv2d
from rlsuite.nn.vision.doors import Site

SMALL = {
    "conv": ({"widths": (6, 7, 5), "hidden": 9}, 3),
    "resnet20": ({"width": 4, "depth": 2}, 3),
    "u_net": ({"width": 4, "levels": 2}, 2),
    "edsr": ({"width": 5, "blocks": 2}, 1),
}

UNTRACED = {
    "bi_real": "getitem",
    "deep_vit": "flatten",
}  # networks that cannot be traced, and the operation that says so
PRUNED = [name for name in NETWORKS if name not in UNTRACED]


def network(name):
    config, outputs = SMALL[name]
    (method,) = choose(NETWORKS, [name], {f"{name}.{key}": value for key, value in config.items()})
    return shaken(method.kind(1, 12, outputs, method.config, 0))


@torch.no_grad()
def shaken(module):
    """The network with norms that shift and scale and nothing that is zero, in evaluation mode."""
    generator = torch.Generator().manual_seed(5)
    for part in module.modules():
        for name, tensor in [*part.named_parameters(recurse=False), *part.named_buffers(recurse=False)]:
            if isinstance(part, nn.BatchNorm2d | nn.BatchNorm1d | nn.LayerNorm) and tensor.is_floating_point():
                tensor.copy_(0.5 + torch.rand(tensor.shape, generator=generator))
            elif name == "bias" or (name == "weight" and not tensor.any()):
                tensor.copy_(torch.randn(tensor.shape, generator=generator))
    return module.eval()


@torch.no_grad()
def masked(module, coupling, kept):
    """The whole network, silent where channels are cut: rows of layers, and weight and shift of norms behind them."""
    module = copy.deepcopy(module)
    for number, group in enumerate(coupling.groups):
        if coupling.root(number) != number or not group.makers or group.name not in kept:
            continue
        gone = [channel for channel in range(group.size) if channel not in kept[group.name]]
        for path in group.makers:
            for part in [path, *([coupling.behind[path]] if path in coupling.behind else [])]:
                for tensor in module.get_submodule(part).parameters():
                    tensor[gone] = 0.0
    return module


def some_kept(coupling, ratio, seed):
    generator = torch.Generator().manual_seed(seed)
    return {
        name: kept_channels([torch.rand(group.size, generator=generator)], ratio)
        for name, group in coupling.named().items()
    }


def pictures(count=3):
    return torch.rand(count, 1, 12, 12, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("name", PRUNED)
def test_a_shrunk_network_is_the_masked_one(name):
    module = network(name)
    coupling = couple(module)
    kept = some_kept(coupling, 0.4, 0)
    smaller = shrink(copy.deepcopy(module), coupling, kept)
    with torch.no_grad():
        whole, expected, found = module(pictures()), masked(module, coupling, kept)(pictures()), smaller(pictures())
    assert torch.allclose(found, expected, atol=1e-5, rtol=1e-5)
    assert not torch.allclose(found, whole, atol=1e-3)
    assert sum(p.numel() for p in smaller.parameters()) < 0.7 * sum(p.numel() for p in module.parameters())


@pytest.mark.parametrize("name", UNTRACED)
def test_networks_that_cannot_be_traced_are_refused_by_name(name):
    (method,) = choose(NETWORKS, [name])
    with pytest.raises(UserError, match=UNTRACED[name]):
        couple(method.kind(1, 12, 3, method.config, 0))


@pytest.mark.parametrize("name", PRUNED)
def test_kept_whole_is_the_same_and_meta_has_the_same_shapes(name):
    module = network(name)
    coupling = couple(module)
    everything = {group: list(range(found.size)) for group, found in coupling.named().items()}
    with torch.no_grad():
        same = shrink(copy.deepcopy(module), coupling, everything)(pictures())
        assert torch.allclose(same, module(pictures()), atol=1e-6)
    on_meta = copy.deepcopy(module).to("meta")
    kept = some_kept(coupling, 0.4, 0)
    shrink(on_meta, couple(on_meta), kept)
    cut = shrink(module, coupling, kept)
    assert {key: value.shape for key, value in on_meta.state_dict().items()} == {
        key: value.shape for key, value in cut.state_dict().items()
    }


@given(st.lists(st.integers(2, 9), min_size=1, max_size=3), st.floats(0.0, 0.95), st.integers(0, 100))
@settings(max_examples=8, deadline=None)
def test_policies_of_any_sizes(sizes, ratio, seed):
    config = PlainPolicyConfig(
        observation_size=4, action_size=2, hidden_sizes=tuple(sizes), normalizer=NormalizerConfig()
    )
    module = shaken(build_plain_policy(config, seed=seed))
    coupling = couple(module)
    assert [group.size for group in coupling.named().values()] == sizes
    kept = some_kept(coupling, ratio, seed)
    observation = torch.randn(5, 4, generator=torch.Generator().manual_seed(seed))
    with torch.no_grad():
        expected = masked(module, coupling, kept)(observation)
        assert torch.allclose(shrink(module, coupling, kept)(observation), expected, atol=1e-5)


def test_layer_norm_is_of_the_units_left():
    module = shaken(build_plain_policy(PlainPolicyConfig(observation_size=3, action_size=2, layer_norm=True)))
    kept = {"layers.0": list(range(0, 256, 3))}
    one = [copy.deepcopy(part) for part in module.layers[:3]]
    smaller = shrink(module, couple(module), kept)
    observation = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
    index = torch.tensor(kept["layers.0"])
    hidden = functional.linear(observation, one[0].weight[index], one[0].bias[index])
    hidden = functional.layer_norm(hidden, (len(index),), one[1].weight[index], one[1].bias[index])
    with torch.no_grad():
        assert torch.allclose(smaller.layers[:2](observation), hidden, atol=1e-6)
        assert smaller(observation).shape == (4, 2)


class Odd(nn.Module):
    """What the catalogue's networks do not have: one filter a channel, joins, a flattened norm, a layer used twice."""

    def __init__(self):
        super().__init__()
        self.first, self.other = nn.Conv2d(1, 6, 3, padding=1), nn.Conv2d(1, 4, 3, padding=1)
        self.depthwise, self.norm = nn.Conv2d(6, 6, 3, padding=1, groups=6), nn.BatchNorm2d(6)
        self.flat_norm, self.hidden = nn.BatchNorm1d(10 * 9), nn.Linear(10 * 9, 8)
        self.twice, self.head = nn.Linear(8, 8), nn.Linear(8, 2)

    def forward(self, inputs):
        one = torch.relu(self.norm(self.depthwise(torch.relu(self.first(inputs)))))
        joined = torch.cat([one, functional.relu(self.other(inputs))], dim=1)
        flat = self.flat_norm(functional.max_pool2d(joined, 4).flatten(1))
        hidden = torch.tanh(self.hidden(flat))
        return self.head(torch.tanh(self.twice(torch.tanh(self.twice(hidden)))))


def test_joins_flattened_norms_and_single_filters_by_hand():
    module = shaken(Odd())
    coupling = couple(module)
    assert {name: group.size for name, group in coupling.named().items()} == {"first": 6, "other": 4, "hidden": 8}
    assert coupling.named()["hidden"].makers == ["hidden", "twice"]
    kept = {"first": [0, 4, 5], "other": [1, 3], "hidden": [2, 3, 7]}
    smaller = shrink(copy.deepcopy(module), coupling, kept)
    channels = torch.tensor([0, 4, 5, 7, 9])
    places = (channels[:, None] * 9 + torch.arange(9)).flatten()
    hidden = torch.tensor(kept["hidden"])
    assert torch.equal(smaller.hidden.weight, module.hidden.weight[hidden][:, places])
    assert torch.equal(smaller.flat_norm.running_var, module.flat_norm.running_var[places])
    assert torch.equal(smaller.depthwise.weight, module.depthwise.weight[[0, 4, 5]])
    assert torch.equal(smaller.twice.weight, module.twice.weight[hidden][:, hidden])
    with torch.no_grad():  # as if the columns that look at what is gone were zero
        module.hidden.weight[:, [place for place in range(90) if place not in places.tolist()]] = 0.0
        for layer in (module.twice, module.head):
            layer.weight[:, [unit for unit in range(8) if unit not in kept["hidden"]]] = 0.0
        assert torch.allclose(smaller(pictures()), module(pictures()), atol=1e-5)


class Strange(nn.Module):
    def __init__(self, layer=None, forward=lambda self, x: self.layer(x)):
        super().__init__()
        self.layer = nn.Conv2d(1, 4, 3, padding=1) if layer is None else layer
        self.strange = forward

    def forward(self, inputs):
        return self.strange(self, inputs)


def hung():
    site = Site("input", 4)
    site.hang("meter", nn.Identity())
    return nn.Sequential(nn.Conv2d(1, 4, 3), site)


REFUSED = {
    "what fft_fft": lambda: Strange(forward=lambda self, x: torch.fft.fft(self.layer(x))),
    "what permute": lambda: Strange(forward=lambda self, x: self.layer(x).permute(0, 2, 3, 1)),
    "what WeightNormConv2d at layer": lambda: Strange(WeightNormConv2d(1, 4, 3)),
    "what GRUCell at layer": lambda: Strange(nn.GRUCell(1, 4)),
    r"what flatten\(2, -1\)": lambda: Strange(forward=lambda self, x: self.layer(x).flatten(2)),
    "what mean over dim=1": lambda: Strange(forward=lambda self, x: self.layer(x).mean(1)),
    "what getitem": lambda: Strange(forward=lambda self, x: self.layer(x)[:, 1:]),
    "what pad, along channels,": lambda: Strange(
        forward=lambda self, x: functional.pad(self.layer(x), (0, 0, 0, 0, 1, 1))
    ),
    "what Linear over the last axis of pictures": lambda: nn.Sequential(nn.Conv2d(1, 4, 3), nn.Linear(10, 2)),
    r"what hangs at the site \(meter\)": hung,
    "cannot be followed": lambda: Strange(forward=lambda self, x: self.layer(x) if x.sum() > 0 else x),
}


@pytest.mark.parametrize("message", REFUSED)
def test_what_is_not_known_is_refused_by_name(message):
    with pytest.raises(UserError, match=message) as caught:
        couple(REFUSED[message]())
    assert "\n" not in str(caught.value)


def test_channels_that_cannot_be_told_apart_stay_whole():
    class Scaled(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.grouped, self.last = nn.Conv2d(1, 4, 3), nn.Conv2d(4, 6, 3, groups=2), nn.Conv2d(6, 4, 3)
            self.head = nn.Conv2d(4, 1, 3)
            self.register_buffer("scale", torch.ones(1, 4, 1, 1))

        def forward(self, inputs):
            return self.head(self.scale * self.last(self.grouped(torch.relu(self.conv(inputs)))))

    assert couple(Scaled()).named() == {}
