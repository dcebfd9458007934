"""Small things to judge: a classifier of digits, and a transform whose effect is known."""

from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import nn

from envs.evaluation.recipe import network_base
from envs.evaluation.subject import Subject
from envs.evaluation.tasks import ClassifierTask
from envs.evaluation.transform import TeachConfig, Transform
from rlsuite.data.arrays import Arrays
from rlsuite.fit import FitConfig
from rlsuite.nn.vision.conv_net import ConvNet, ConvNetConfig

QUICK = TeachConfig(fit=FitConfig(steps=60, batch_size=32), rounds=2)


def stripes(count, seed):
    """Pictures (count, 1, 8, 8) of stripes along one axis or the other, and which."""
    generator = torch.Generator().manual_seed(seed)
    label = torch.randint(2, (count,), generator=generator)
    wave = (torch.arange(8) // 2 % 2).float()
    picture = torch.where((label == 1)[:, None, None], wave[None, :, None], wave[None, None, :]).expand(count, 8, 8)
    noise = torch.rand(count, 8, 8, generator=generator)
    return Arrays({"input": (0.6 * picture + 0.4 * noise).unsqueeze(1), "label": label})


def classifier(seed=0):
    config = ConvNetConfig(widths=(4, 4), hidden=8)
    task = ClassifierTask(stripes(256, 1), stripes(100, 2), num_classes=2)
    module = ConvNet(1, 8, 2, config, seed).eval()
    base = network_base("conv", channels=1, size=8, outputs=2, config=config)
    return Subject(module, task.source("test").tensors["input"][:1], task, base)


@dataclass(frozen=True, kw_only=True)
class HalveConfig:
    factor: float = 0.5
    teach: TeachConfig = field(default_factory=lambda: QUICK)


class Halve(Transform):
    """Adds a layer that multiplies outputs by a planned number."""

    Config = HalveConfig
    needs: ClassVar = {"convolutional": "use a network with convolutions"}
    refuses: ClassVar = {"halved": "halve it once"}
    gives = frozenset({"halved"})

    def plan(self, subject):
        return {"factor": self.config.factor}

    def rebuild(self, module, plan):
        return nn.Sequential(module, Scale(plan["factor"]))


class Scale(nn.Module):
    def __init__(self, factor):
        super().__init__()
        self.register_buffer("factor", torch.tensor(factor))

    def forward(self, inputs):
        return inputs * self.factor
