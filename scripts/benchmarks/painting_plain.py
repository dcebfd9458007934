"""The paper's training loop of Learning to Paint written plainly in PyTorch: what a reader of the paper would write.

Networks from torch.nn (torch's own weight normalization), float32, a list of transitions as replay from which
minibatches are stacked, the neural renderer for every transition, and backward() through everything, with gradients
of the critic and the discriminator computed and thrown away in the actor's step. Same sizes and same arithmetic as
agent=painter with agent.reward=wgan; nothing is left out and nothing is slowed down on purpose.

Shapes: N environments, B batch, W side, k strokes a bundle.
"""

from __future__ import annotations

import copy
import functools
import random
from collections import deque
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

from renderers.neural import NeuralRenderer

DISCOUNT, RATE = 0.95**5, 0.001


class TReLU(nn.Module):
    """ReLU(x - alpha) + alpha."""

    def __init__(self) -> None:
        super().__init__()
        self.alpha = nn.Parameter(torch.zeros(1))

    def forward(self, inputs: Tensor) -> Tensor:
        """Return the same shape."""
        return torch.relu(inputs - self.alpha) + self.alpha


class Block(nn.Module):
    """A ResNet-18 block, with BatchNorm or weight normalization and TReLU."""

    def __init__(self, inputs: int, outputs: int, stride: int, batch_norm: bool) -> None:
        super().__init__()

        def conv(source: int, kernel: int, step: int) -> nn.Module:
            layer = nn.Conv2d(source, outputs, kernel, step, kernel // 2, bias=not batch_norm)
            return nn.Sequential(layer, nn.BatchNorm2d(outputs)) if batch_norm else weight_norm(layer)

        self.first, self.second = conv(inputs, 3, stride), conv(outputs, 3, 1)
        self.shortcut = conv(inputs, 1, stride) if stride != 1 or inputs != outputs else nn.Identity()
        self.inner, self.outer = (nn.ReLU(), nn.ReLU()) if batch_norm else (TReLU(), TReLU())

    def forward(self, inputs: Tensor) -> Tensor:
        """Map (B, inputs, H, W) to (B, outputs, H / stride, W / stride)."""
        return self.outer(self.second(self.inner(self.first(inputs))) + self.shortcut(inputs))


def resnet(channels: int, outputs: int, width: int, batch_norm: bool) -> nn.Sequential:
    """Return the paper's ResNet-18 without max-pooling."""
    stem = nn.Conv2d(channels, width, 3, 2, 1, bias=not batch_norm)
    layers: list[nn.Module] = [stem, nn.BatchNorm2d(width), nn.ReLU()] if batch_norm else [weight_norm(stem), TReLU()]
    inputs = width
    for wide in (width, 2 * width, 4 * width, 8 * width):
        layers += [Block(inputs, wide, 2, batch_norm), Block(wide, wide, 1, batch_norm)]
        inputs = wide
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8 * width, outputs))


def small(channels: int, outputs: int, width: int, batch_norm: bool, size: int) -> nn.Sequential:
    """Return three convolutions of stride 2 and a linear layer, as agent.network=small."""
    layers: list[nn.Module] = []
    for wide in (width // 2, width, 2 * width):
        conv = nn.Conv2d(channels, wide, 3, 2, 1, bias=not batch_norm)
        layers += [conv, nn.BatchNorm2d(wide), nn.ReLU()] if batch_norm else [weight_norm(conv), TReLU()]
        channels, size = wide, -(-size // 2)
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(channels * size**2, outputs))


def discriminator() -> nn.Sequential:
    """Return the paper's discriminator."""
    layers: list[nn.Module] = []
    channels = 6
    for wide in (16, 32, 64, 128):
        layers += [weight_norm(nn.Conv2d(channels, wide, 5, 2, 2)), TReLU()]
        channels = wide
    return nn.Sequential(*layers, weight_norm(nn.Conv2d(128, 1, 5, 2, 2)), nn.AdaptiveAvgPool2d(1), nn.Flatten())


class PlainPainter:
    """Environments, replay and learner in one.

    Args:
        pictures: (M, 3, W, W) uint8 to paint.
        num_envs: N.
        batch_size: B.
        network: "resnet18" or "small".
        width: of the networks.
        bundle: k.
        length: bundles an episode.
        capacity: transitions kept.
    """

    def __init__(
        self,
        pictures: Tensor,
        *,
        num_envs: int,
        batch_size: int,
        network: str,
        width: int,
        bundle: int,
        length: int,
        capacity: int,
    ) -> None:
        self.pictures, self.num_envs, self.batch_size, self.length = pictures, num_envs, batch_size, length
        self.size = pictures.shape[-1]
        self.renderer = NeuralRenderer(self.size)
        make = resnet if network == "resnet18" else functools.partial(small, size=self.size)
        self.actor = nn.Sequential(make(9, 13 * bundle, width, True), nn.Sigmoid())
        self.critic, self.score = make(12, 1, width, False), discriminator()
        self.slow_actor, self.slow_critic, self.slow_score = (
            copy.deepcopy(network) for network in (self.actor, self.critic, self.score)
        )
        self.actor_adam = torch.optim.Adam(self.actor.parameters(), lr=1e-3)
        self.critic_adam = torch.optim.Adam(self.critic.parameters(), lr=3e-4)
        self.score_adam = torch.optim.Adam(self.score.parameters(), lr=3e-4, betas=(0.5, 0.999))
        self.replay: deque[Any] = deque(maxlen=capacity)
        line = torch.linspace(0.0, 1.0, self.size)
        self.coordinates = torch.stack(torch.meshgrid(line, line, indexing="ij"))
        self.reset()

    def reset(self) -> None:
        """Begin an episode everywhere."""
        pick = torch.randint(len(self.pictures), (self.num_envs,))
        self.target = self.pictures[pick]
        self.canvas = torch.zeros_like(self.target)
        self.step = 0

    def maps(self, batch: int, step: Tensor) -> Tensor:
        """Return the maps of step and coordinates (B, 3, W, W)."""
        share = (step / self.length).view(-1, 1, 1, 1).expand(batch, 1, self.size, self.size)
        return torch.cat([share, self.coordinates.expand(batch, 2, self.size, self.size)], dim=1)

    def render(self, canvas: Tensor, action: Tensor) -> Tensor:
        """Paint bundles on canvases, one stroke after another."""
        strokes = action.view(-1, 13)
        alpha = self.renderer(strokes[:, :10]).view(len(canvas), -1, 1, self.size, self.size)
        colour = strokes[:, 10:].view(len(canvas), -1, 3, 1, 1)
        for stroke in range(alpha.shape[1]):
            canvas = canvas * (1 - alpha[:, stroke]) + alpha[:, stroke] * colour[:, stroke]
        return canvas

    def act(self) -> None:
        """Paint one bundle in every environment and store the transitions."""
        canvas, target = self.canvas.float() / 255, self.target.float() / 255
        self.actor.eval()
        with torch.no_grad():
            step = torch.full((self.num_envs,), float(self.step))
            action = self.actor(torch.cat([canvas, target, self.maps(self.num_envs, step)], dim=1))
            after = (self.render(canvas, action) * 255).to(torch.uint8)
        self.actor.train()
        before = torch.cat([self.canvas, self.target], dim=1)
        following = torch.cat([after, self.target], dim=1)
        self.step += 1
        done = float(self.step == self.length)
        for env in range(self.num_envs):
            self.replay.append((before[env], action[env], following[env], self.step - 1.0, done))
        self.canvas = after
        if done:
            self.reset()

    def update(self) -> None:
        """Do one update in the paper's order."""
        batch = random.sample(self.replay, self.batch_size)
        before, action, following = (torch.stack([row[index] for row in batch]) for index in range(3))
        step, done = (torch.tensor([row[index] for row in batch]) for index in (3, 4))
        canvas, target = before[:, :3].float() / 255, before[:, 3:].float() / 255
        next_canvas, size = following[:, :3].float() / 255, len(batch)

        real, fake = torch.cat([target, target], dim=1), torch.cat([target, next_canvas], dim=1)
        share = torch.rand(size, 1, 1, 1)
        between = (share * real + (1 - share) * fake).requires_grad_()
        gradient = torch.autograd.grad(self.score(between).sum(), between, create_graph=True)[0]
        penalty = ((gradient.flatten(1).norm(dim=1) - 1) ** 2).mean()
        loss = self.score(fake).mean() - self.score(real).mean() + 10 * penalty
        self.score_adam.zero_grad()
        loss.backward()
        self.score_adam.step()

        with torch.no_grad():
            following_action = self.slow_actor(torch.cat([next_canvas, target, self.maps(size, step + 1)], dim=1))
            later, reward = self.evaluate(next_canvas, target, following_action, step + 1, self.slow_critic)
            goal = DISCOUNT * (1 - done.view(-1, 1)) * (later + reward)
        value, reward = self.evaluate(canvas, target, action, step, self.critic)
        loss = nn.functional.mse_loss(value + reward, (goal + reward).detach())
        self.critic_adam.zero_grad()
        loss.backward()
        self.critic_adam.step()

        action = self.actor(torch.cat([canvas, target, self.maps(size, step)], dim=1))
        value, reward = self.evaluate(canvas, target, action, step, self.critic)
        self.actor_adam.zero_grad()
        (-(value + reward).mean()).backward()
        self.actor_adam.step()

        pairs = ((self.slow_actor, self.actor), (self.slow_critic, self.critic), (self.slow_score, self.score))
        with torch.no_grad():
            for slow, own in pairs:
                for old, new in zip(slow.parameters(), own.parameters(), strict=True):
                    old.copy_(old * (1 - RATE) + new * RATE)

    def evaluate(
        self, canvas: Tensor, target: Tensor, action: Tensor, step: Tensor, critic: nn.Module
    ) -> tuple[Tensor, Tensor]:
        """Return V and r (B, 1) of painting bundles on canvases."""
        after = self.render(canvas, action)
        gain = self.slow_score(torch.cat([target, after], dim=1)) - self.slow_score(torch.cat([target, canvas], dim=1))
        return critic(torch.cat([canvas, after, target, self.maps(len(canvas), step + 1)], dim=1)), gain
