"""An ensemble of deterministic models s' = s + f_k(s, a), trained with early stopping on splits of their own.

All members train side by side in stacked networks, each as if alone: held-out transitions, minibatches, gradient
norm, patience and best weights. One call of `advance` is a few passes and a validation, and the whole state lies in
buffers, so that training can be interrupted between any two calls and resumed to the same bits.

Three mistakes this class of method is known for, each with a test: splits drawn anew with every pass make all members
the same; data thrown away with every iteration; weights drawn from a wrongly truncated normal (here from a plain one).

Shapes: K members, C capacity, B batch, D observation, A action.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from agents.pombu.config import DynamicsConfig
from rlsuite.nn.ensemble import EnsembleMLP
from rlsuite.nn.exploration import RandomStream
from rlsuite.nn.precision import update_dtype
from rlsuite.optim.state import adam

_SMALLEST_STD = 1e-6


class Dynamics(nn.Module):
    """K models and the real transitions they learn from.

    Args:
        observation_size: D.
        action_size: A.
        config: see DynamicsConfig.
        seed: of weights, splits and minibatches.
        device: where everything lies.
    """

    observation: Tensor
    action: Tensor
    change: Tensor
    held_out: Tensor
    count: Tensor
    input_mean: Tensor
    input_std: Tensor
    change_mean: Tensor
    change_std: Tensor
    best_loss: Tensor
    passes_since_best: Tensor
    passes: Tensor
    training_ended: Tensor

    def __init__(
        self,
        observation_size: int,
        action_size: int,
        config: DynamicsConfig,
        *,
        seed: int,
        device: torch.device | str = "cpu",
    ) -> None:
        super().__init__()
        self.config = config
        self.sizes = (observation_size, action_size)
        self.dtype = update_dtype(config.precision, device)
        members, capacity = config.num_members, config.capacity
        self.stream = RandomStream(seed, device)
        self.weights = RandomStream(seed + 1, "cpu")  # fresh networks are drawn on the host
        self.network = self._fresh_network().to(device)
        self.best = self._fresh_network().to(device).requires_grad_(False)
        buffers = {
            "observation": torch.zeros(capacity, observation_size),
            "action": torch.zeros(capacity, action_size),
            "change": torch.zeros(capacity, observation_size),
            "held_out": torch.zeros(members, capacity, dtype=torch.bool),
            "count": torch.tensor(0),
            "input_mean": torch.zeros(observation_size + action_size),
            "input_std": torch.ones(observation_size + action_size),
            "change_mean": torch.zeros(observation_size),
            "change_std": torch.ones(observation_size),
            "best_loss": torch.full((members,), torch.inf),
            "passes_since_best": torch.zeros(members, dtype=torch.int64),
            "passes": torch.tensor(0),
            "training_ended": torch.tensor(True),
        }
        for name, tensor in buffers.items():
            self.register_buffer(name, tensor.to(device))
        self.optimizer = adam(self.network.parameters(), config.learning_rate)

    def _fresh_network(self) -> EnsembleMLP:
        observation_size, action_size = self.sizes
        return EnsembleMLP(
            self.config.num_members,
            observation_size + action_size,
            self.config.hidden_sizes,
            observation_size,
            normalization="weight",
            generator=self.weights.generator,
        )

    # -- data ---------------------------------------------------------------------------------------------

    def add(self, observation: Tensor, action: Tensor, next_observation: Tensor) -> None:
        """Store whole trajectories; a share of each is held out, another one for every member.

        Args:
            observation: (T, N, D) of N trajectories of T steps.
            action: (T, N, A), in the models' units.
            next_observation: (T, N, D) true next observations.
        """
        steps, number = observation.shape[:2]
        count = int(self.count)
        free = self.config.capacity - count
        if steps * number > free:  # the oldest make room
            kept = (self.config.capacity - steps * number) // steps * steps  # whole trajectories only
            for name in ("observation", "action", "change"):
                stored = getattr(self, name)
                stored[:kept] = stored[count - kept : count].clone()
            self.held_out[:, :kept] = self.held_out[:, count - kept : count].clone()
            count = kept
        rows = slice(count, count + steps * number)
        # Trajectory by trajectory, so that a share of each can be cut out.
        self.observation[rows] = observation.transpose(0, 1).flatten(0, 1)
        self.action[rows] = action.transpose(0, 1).flatten(0, 1)
        self.change[rows] = (next_observation - observation).transpose(0, 1).flatten(0, 1)
        draw = torch.rand(
            (self.config.num_members, number, steps), generator=self.stream.generator, device=observation.device
        )
        cut = max(1, round(self.config.held_out * steps))
        rank = draw.argsort(dim=2).argsort(dim=2)
        self.held_out[:, rows] = (rank < cut).flatten(1)
        self.count.fill_(rows.stop)

    # -- training -----------------------------------------------------------------------------------------

    def begin_training(self, iteration: int) -> None:
        """Start over with the data there is: statistics, optimizer, patience, and now and then the networks."""
        every = self.config.reset_every
        if every and iteration % every == 0:
            self.network.load_state_dict(self._fresh_network().state_dict())
        self.optimizer.state.clear()
        count = int(self.count)
        inputs = torch.cat([self.observation[:count], self.action[:count]], dim=1)
        for name, rows in (("input", inputs), ("change", self.change[:count])):
            std, mean = torch.std_mean(rows, dim=0, correction=0)
            getattr(self, f"{name}_mean").copy_(mean)
            getattr(self, f"{name}_std").copy_(std.clamp_min(_SMALLEST_STD))
        self.best.load_state_dict(self.network.state_dict())
        self.best_loss.fill_(torch.inf)
        self.passes_since_best.zero_()
        self.passes.zero_()
        self.training_ended.fill_(False)

    @property
    def trained(self) -> bool:
        """Whether training has come to its end."""
        return bool(self.training_ended)

    def advance(self) -> dict[str, Tensor]:
        """Make some passes over the data and validate; at the end every member has its best weights again.

        Returns:
            0-d tensors: mean training and validation loss over the members.
        """
        training = torch.zeros((), device=self.change.device)
        for _ in range(self.config.validate_every):
            training = self._pass()
        validation = self._validate()
        self.passes += self.config.validate_every
        done = (self.passes_since_best >= self.config.patience).all() | (self.passes >= self.config.max_passes)
        if bool(done):
            self.network.load_state_dict(self.best.state_dict())
            self.training_ended.fill_(True)
        return {"model_loss": training, "model_validation_loss": validation.mean()}

    def _pass(self) -> Tensor:
        """Show every member its training transitions once, in an order of its own."""
        count = int(self.count)
        kept = ~self.held_out[:, :count]
        number = int(kept[0].sum())  # the same for every member: a fixed share of each trajectory is held out
        draw = torch.rand(kept.shape, generator=self.stream.generator, device=kept.device)
        order = draw.masked_fill_(~kept, 2.0).argsort(dim=1)[:, :number]
        loss = torch.zeros((), device=kept.device)
        for rows in order.split(self.config.batch_size, dim=1):
            losses = self._losses(rows)
            self._step(losses.sum())
            loss = losses.detach().mean()
        return loss

    def _losses(self, rows: Tensor) -> Tensor:
        """Return each member's mean squared error (K,) of standardized changes at its rows (K, B)."""
        target = (self.change[rows] - self.change_mean) / self.change_std
        return (self._standardized(self.observation[rows], self.action[rows]) - target).square().mean(dim=(1, 2))

    def _step(self, loss: Tensor) -> None:
        parameters = list(self.network.parameters())
        gradients = torch.autograd.grad(loss, parameters)
        squares = torch.stack([gradient.square().flatten(1).sum(dim=1) for gradient in gradients]).sum(dim=0)
        factor = (self.config.gradient_norm / squares.sqrt().clamp_min(1e-12)).clamp(max=1.0).view(-1, 1, 1)
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.grad = gradient * factor
        self.optimizer.step()

    @torch.no_grad()
    def _validate(self) -> Tensor:
        """Return each member's loss (K,) on what is held out for it, and keep the weights of those that improved."""
        count = int(self.count)
        held = self.held_out[:, :count]
        rows = held.int().argsort(dim=1, descending=True, stable=True)[:, : int(held[0].sum())]
        losses = torch.zeros_like(self.best_loss)
        for part in rows.split(self.config.batch_size, dim=1):
            losses += self._losses(part) * (part.shape[1] / rows.shape[1])
        waiting = self.passes_since_best < self.config.patience  # a member that is done stays as it was best
        better = (losses < self.best_loss) & waiting
        self.best_loss.copy_(torch.where(better, losses, self.best_loss))
        since = torch.where(better, 0, self.passes_since_best + self.config.validate_every)
        self.passes_since_best.copy_(torch.where(waiting, since, self.passes_since_best))
        for best, now in zip(self.best.parameters(), self.network.parameters(), strict=True):
            best.copy_(torch.where(better.view(-1, 1, 1), now, best))
        return losses

    # -- prediction ---------------------------------------------------------------------------------------

    def _standardized(self, observation: Tensor, action: Tensor) -> Tensor:
        inputs = (torch.cat([observation, action], dim=-1) - self.input_mean) / self.input_std
        return self.network(inputs.to(self.dtype))

    @torch.no_grad()
    def predict(self, observation: Tensor, action: Tensor) -> Tensor:
        """Return every member's next observations (K, B, D) for observations (B, D) and actions (B, A)."""
        members = self.config.num_members
        change = self._standardized(
            observation.expand(members, *observation.shape), action.expand(members, *action.shape)
        )
        return observation + torch.addcmul(self.change_mean, change, self.change_std)
