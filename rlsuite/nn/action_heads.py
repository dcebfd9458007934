"""Distributions over actions from a network's outputs: Gaussian of vectors, categorical and Bernoulli of choices.

Every one has log_prob, entropy, mode and sample; draws come from a generator that the caller names.

Shapes: R rows, A action, L outputs of the network, K the largest number of choices.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Protocol

import gymnasium
import torch
from gymnasium.spaces import MultiBinary
from torch import Tensor
from torch.nn import functional

from rlsuite.action_space import choice_counts

_LOG_ROOT_TWO_PI = 0.5 * math.log(2.0 * math.pi)


class ActionLaw(Protocol):
    """How R actions are distributed."""

    def log_prob(self, action: Tensor) -> Tensor:
        """Return the log density or log probability (R,) of actions (R, A)."""
        ...

    def entropy(self) -> Tensor:
        """Return the entropy (R,), or 0-d where it is the same in every row."""
        ...

    def kept(self) -> ActionLaw:
        """Return a copy that stays as it is when the network's weights change, without gradients."""
        ...

    def divergence_from(self, old: Any) -> Tensor:
        """Return KL(old || this) (R,) of another of the same kind."""
        ...

    def mode(self) -> Tensor:
        """Return the likeliest actions (R, A)."""
        ...

    def sample(self, generator: torch.Generator) -> Tensor:
        """Draw actions (R, A)."""
        ...


@dataclass(frozen=True)
class Gaussian:
    """Independent normal entries with a deviation that is the same in every row.

    Attributes:
        mean: (R, A).
        log_std: (A,).
    """

    mean: Tensor
    log_std: Tensor

    def log_prob(self, action: Tensor) -> Tensor:
        """Return the log density (R,) of actions (R, A)."""
        scaled = (action - self.mean) * torch.exp(-self.log_std)
        return -(0.5 * scaled.square() + self.log_std + _LOG_ROOT_TWO_PI).sum(dim=-1)

    def entropy(self) -> Tensor:
        """Return the entropy, 0-d."""
        return (self.log_std + _LOG_ROOT_TWO_PI + 0.5).sum()

    def kept(self) -> Gaussian:
        """Return a copy that stays as it is when the network's weights change, without gradients."""
        return Gaussian(self.mean.detach().clone(), self.log_std.detach().clone())

    def divergence_from(self, old: Gaussian) -> Tensor:
        """Return KL(old || this) (R,)."""
        scaled = ((old.mean - self.mean).square() + (2.0 * old.log_std).exp()) * torch.exp(-2.0 * self.log_std)
        return (self.log_std - old.log_std + 0.5 * scaled - 0.5).sum(dim=-1)

    def mode(self) -> Tensor:
        """Return the mean (R, A)."""
        return self.mean

    def sample(self, generator: torch.Generator) -> Tensor:
        """Draw actions (R, A)."""
        noise = torch.randn(self.mean.shape, generator=generator, device=self.mean.device)
        return torch.addcmul(self.mean, self.log_std.exp(), noise)


@dataclass(frozen=True)
class Categorical:
    """A choices, each of its own number, independent given the row.

    Attributes:
        logits: (R, A, K), -inf where a choice is none.
    """

    logits: Tensor

    def log_prob(self, action: Tensor) -> Tensor:
        """Return the log probability (R,) of choices (R, A), int64."""
        return self._log_probs().gather(-1, action.unsqueeze(-1)).squeeze(-1).sum(dim=-1)

    def entropy(self) -> Tensor:
        """Return the entropy (R,)."""
        log_probs = self._log_probs()
        # Where there is no choice the probability is 0, and 0 times -inf would be no number.
        return -(log_probs.exp() * log_probs.masked_fill(self.logits == -math.inf, 0.0)).sum(dim=(-2, -1))

    def kept(self) -> Categorical:
        """Return a copy that stays as it is when the network's weights change, without gradients."""
        return Categorical(self.logits.detach().clone())

    def divergence_from(self, old: Categorical) -> Tensor:
        """Return KL(old || this) (R,)."""
        before = old._log_probs()
        none = self.logits == -math.inf  # where there is no choice, on either side
        ratio = before.masked_fill(none, 0.0) - self._log_probs().masked_fill(none, 0.0)
        return (before.exp() * ratio).sum(dim=(-2, -1))

    def mode(self) -> Tensor:
        """Return the likeliest choices (R, A)."""
        return self.logits.argmax(dim=-1)

    def sample(self, generator: torch.Generator) -> Tensor:
        """Draw choices (R, A): the largest logit plus Gumbel noise."""
        draw = torch.rand(self.logits.shape, generator=generator, device=self.logits.device)
        return (self.logits - (-draw.log()).log()).argmax(dim=-1)

    def _log_probs(self) -> Tensor:
        return functional.log_softmax(self.logits, dim=-1)


@dataclass(frozen=True)
class Bernoulli:
    """A switches, independent given the row.

    Attributes:
        logits: (R, A), of being 1.
    """

    logits: Tensor

    def log_prob(self, action: Tensor) -> Tensor:
        """Return the log probability (R,) of switches (R, A), 0 or 1."""
        return -functional.binary_cross_entropy_with_logits(self.logits, action.to(self.logits), reduction="none").sum(
            dim=-1
        )

    def entropy(self) -> Tensor:
        """Return the entropy (R,)."""
        logits = self.logits
        return (functional.softplus(logits) - logits * logits.sigmoid()).sum(dim=-1)

    def kept(self) -> Bernoulli:
        """Return a copy that stays as it is when the network's weights change, without gradients."""
        return Bernoulli(self.logits.detach().clone())

    def divergence_from(self, old: Bernoulli) -> Tensor:
        """Return KL(old || this) (R,)."""
        rest = functional.softplus(self.logits) - functional.softplus(old.logits)
        return (old.logits.sigmoid() * (old.logits - self.logits) + rest).sum(dim=-1)

    def mode(self) -> Tensor:
        """Return the likelier switches (R, A), int64."""
        return (self.logits > 0.0).long()

    def sample(self, generator: torch.Generator) -> Tensor:
        """Draw switches (R, A), int64."""
        draw = torch.rand(self.logits.shape, generator=generator, device=self.logits.device)
        return (draw < self.logits.sigmoid()).long()


def num_outputs(space: gymnasium.Space) -> int:
    """Return L for an action space: A of a Box, a logit a switch of MultiBinary, a logit a choice of the others."""
    counts = choice_counts(space)
    if counts is None:
        assert space.shape is not None
        return space.shape[0]
    return len(counts) if isinstance(space, MultiBinary) else sum(counts)


def choice_law(space: gymnasium.Space, logits: Tensor) -> Categorical | Bernoulli:
    """Return the distribution over a space of choices that logits (R, L) give."""
    if isinstance(space, MultiBinary):
        return Bernoulli(logits)
    counts = choice_counts(space)
    assert counts is not None
    if len(set(counts)) == 1:
        return Categorical(logits.unflatten(-1, (len(counts), counts[0])))
    most = max(counts)
    parts = [functional.pad(part, (0, most - part.shape[-1]), value=-math.inf) for part in logits.split(counts, -1)]
    return Categorical(torch.stack(parts, dim=-2))
