"""Small networks that can become whole numbers, each a subject that learns its own outputs."""

import dataclasses

import torch
from torch import nn

from envs.evaluation.catalogue import EVALUATIONS
from envs.evaluation.quantization.brelu import BReLUConfig
from envs.evaluation.recipe import network_base, policy_base
from envs.evaluation.subject import Subject
from envs.evaluation.tasks import DenseTask
from envs.evaluation.transform import TeachConfig
from rlsuite.data.arrays import Arrays
from rlsuite.fit import FitConfig
from rlsuite.methods import choose
from rlsuite.nn.normalizer import NormalizerConfig
from rlsuite.nn.plain import PlainPolicyConfig, build_plain_policy
from rlsuite.nn.vision.conv_net import ConvNet, ConvNetConfig
from rlsuite.nn.vision.resnet import ResNet20, ResNetConfig
from rlsuite.optim.choice import OptimizerConfig

FEW = TeachConfig(fit=FitConfig(steps=3, batch_size=32, optimizer=OptimizerConfig(learning_rate=1e-4)), rounds=1)
CONFIG = BReLUConfig(weights=FEW, teach=FEW, calibration=2)


def brelu(**changes):
    (method,) = choose(EVALUATIONS, ["quantization/brelu"])
    return dataclasses.replace(method, config=dataclasses.replace(CONFIG, **changes))


def lively(module, seed=0):
    """Give BatchNorm statistics and scales, some negative and one 0."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for part in module.modules():
            if isinstance(part, nn.BatchNorm2d):
                part.running_mean.normal_(0.0, 0.2, generator=generator)
                part.running_var.uniform_(0.3, 2.0, generator=generator)
                part.weight.uniform_(0.5, 1.5, generator=generator)
                part.bias.normal_(0.0, 0.2, generator=generator)
                part.weight[0], part.weight[1] = 0.0, -0.8
    return module.eval()


def imitating(module, base, inputs):
    """A subject that learns its own outputs."""
    with torch.no_grad():
        source = Arrays({"input": inputs, "target": module(inputs)})
    task = DenseTask(
        source, source, metric=lambda out, wanted: -(out - wanted).abs().flatten(1).mean(1), unit="", floor=0.0
    )
    return Subject(module, inputs[:1], task, base)


def pictures(count=64, channels=2, size=8):
    drawn = torch.randint(256, (count, channels, size, size), generator=torch.Generator().manual_seed(5))
    return drawn.float() / 255.0


def conv(**changes):
    config = ConvNetConfig(widths=(6, 8), hidden=12, batch_norm=True, **changes)
    base = network_base("conv", channels=2, size=8, outputs=3, config=config)
    return imitating(lively(ConvNet(2, 8, 3, config, 1)), base, pictures())


def residual():
    config = ResNetConfig(width=4, depth=1)
    base = network_base("resnet20", channels=2, size=8, outputs=3, config=config)
    return imitating(lively(ResNet20(2, 8, 3, config, 1)), base, pictures())


def policy(squash="tanh", **changes):
    config = PlainPolicyConfig(
        observation_size=5,
        action_size=2,
        hidden_sizes=(32, 32),
        squash=squash,
        normalizer=NormalizerConfig(),
        **changes,
    )
    module = build_plain_policy(config, seed=2)
    generator = torch.Generator().manual_seed(0)
    observation = 2.0 * torch.randn(500, 5, generator=generator) + 1.0
    module.normalizer.update(observation)
    module.action_range.center.fill_(0.5)
    module.action_range.half_range.fill_(3.0)
    return imitating(module, policy_base(config), observation)


SUBJECTS = {"conv": conv, "painter's kind": lambda: conv(squash="sigmoid"), "residual": residual, "policy": policy}
