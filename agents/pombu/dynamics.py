"""An ensemble of deterministic models s' = s + f_k(s, a), trained with early stopping on splits of their own.

All members train side by side in stacked networks, each as if alone: held-out transitions, minibatches, gradient
norm, patience and best weights. One call of `advance` is a few passes and a validation, and the whole state lies in
buffers, so that training can be interrupted between any two calls and resumed to the same bits.

Three mistakes this class of method is known for, each with a test: splits drawn anew with every pass make all members
the same; data thrown away with every iteration; weights drawn from a wrongly truncated normal (here from a plain one).

Shapes: K members, C capacity, B batch, D observation, A action.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from agents.pombu.config import DynamicsConfig
from rlsuite.nn.ensemble import EnsembleMLP
from rlsuite.nn.exploration import RandomStream
from rlsuite.nn.precision import update_dtype
from rlsuite.optim.state import adam
from rlsuite.optim.step import take_step
from rlsuite.running.cuda_graph import GraphedPiece
from rlsuite.running.seeding import derive_seed

_SMALLEST_STD = 1e-6
_LARGEST_LOSS = torch.finfo(torch.float32).max  # finite: what is not finite in an agent is a failure


class _Given(NamedTuple):
    """What a member's step is told: its rows (K, B) of what is stored."""

    rows: Tensor


class Dynamics(nn.Module):
    """K models and the real transitions they learn from.

    Args:
        observation_size: D.
        action_size: A.
        config: see DynamicsConfig.
        seed: of weights, splits and minibatches.
        angles: entries of the observation that are angles, in radians; see DynamicsConfig.see_angles.
        device: where everything lies.

    Attributes:
        count: transitions stored.
        passes: over the data, of the training that runs or ran last.
        trained: whether training has come to its end.
    """

    angles: Tensor
    observation: Tensor
    action: Tensor
    change: Tensor
    held_out: Tensor
    input_mean: Tensor
    input_std: Tensor
    change_mean: Tensor
    change_std: Tensor
    best_loss: Tensor
    passes_since_best: Tensor

    def __init__(
        self,
        observation_size: int,
        action_size: int,
        config: DynamicsConfig,
        *,
        seed: int,
        angles: tuple[int, ...] = (),
        device: torch.device | str = "cpu",
    ) -> None:
        super().__init__()
        self.config = config
        seen_angles = angles if config.see_angles else ()
        inputs = observation_size + action_size + 2 * len(seen_angles)
        self.sizes = (inputs, observation_size)
        self.dtype = update_dtype(config.precision, device)
        members, capacity = config.num_members, config.capacity
        self.stream = RandomStream(derive_seed(seed, "model batches"), device)
        self.weights = RandomStream(derive_seed(seed, "model weights"), "cpu")  # fresh networks are drawn on the host
        self.network = self._fresh_network().to(device)
        self.best = self._fresh_network().to(device).requires_grad_(False)
        buffers = {
            "observation": torch.zeros(capacity, observation_size),
            "action": torch.zeros(capacity, action_size),
            "change": torch.zeros(capacity, observation_size),
            "held_out": torch.zeros(members, capacity, dtype=torch.bool),
            "input_mean": torch.zeros(inputs),
            "input_std": torch.ones(inputs),
            "change_mean": torch.zeros(observation_size),
            "change_std": torch.ones(observation_size),
            "best_loss": torch.full((members,), _LARGEST_LOSS),
            "passes_since_best": torch.zeros(members, dtype=torch.int64),
        }
        for name, tensor in buffers.items():
            self.register_buffer(name, tensor.to(device))
        places = torch.tensor(seen_angles, dtype=torch.int64, device=device)
        self.register_buffer("angles", places, persistent=False)  # the task's, and no part of what was learned
        # The schedule counts on the host: asking a device for a number would wait for it.
        self.count, self.passes, self.trained = 0, 0, True
        self.recorded: GraphedPiece | None = None
        self.parameter_list: list[Tensor] = list(self.network.parameters())
        self.optimizer = adam(self.parameter_list, config.learning_rate, weight_decay=config.weight_decay)

    def _fresh_network(self) -> EnsembleMLP:
        inputs, outputs = self.sizes
        return EnsembleMLP(
            self.config.num_members,
            inputs,
            self.config.hidden_sizes,
            outputs,
            activation=self.config.activation,
            normalization=self.config.normalization,
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
        count = self.count
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
        self.count = rows.stop

    # -- training -----------------------------------------------------------------------------------------

    def begin_training(self, iteration: int) -> None:
        """Start over with the data there is: statistics, optimizer, patience, and now and then the networks."""
        every = self.config.reset_every
        if every and iteration % every == 0:
            self.network.load_state_dict(self._fresh_network().state_dict())
        self._begin_moments()
        inputs = self.seen(self.observation[: self.count], self.action[: self.count])
        for name, rows in (("input", inputs), ("change", self.change[: self.count])):
            std, mean = torch.std_mean(rows, dim=0, correction=0)
            getattr(self, f"{name}_mean").copy_(mean)
            getattr(self, f"{name}_std").copy_(std.clamp_min(_SMALLEST_STD))
        self.best.load_state_dict(self.network.state_dict())
        self.best_loss.fill_(_LARGEST_LOSS)
        self.passes_since_best.zero_()
        self.passes, self.trained = 0, False

    def advance(self) -> dict[str, Tensor]:
        """Make some passes over the data and validate; at the end every member has its best weights again.

        Returns:
            0-d tensors: mean training and validation loss over the members.
        """
        training_rows, held_out_rows = self._split()
        training = torch.zeros((), device=self.change.device)
        passes = min(self.config.validate_every, self.config.max_passes - self.passes)
        for _ in range(passes):
            training = self._pass(training_rows)
        validation = self._validate(held_out_rows, passes)
        self.passes += passes
        # The one number that training waits for, once in validate_every passes.
        if self.passes >= self.config.max_passes or bool((self.passes_since_best >= self.config.patience).all()):
            self.network.load_state_dict(self.best.state_dict())
            self.trained = True
        return {"model_loss": training, "model_validation_loss": validation.mean()}

    def _split(self) -> tuple[Tensor, Tensor]:
        """Return the rows each member trains on and those held out for it, (K, n) each.

        n is the same for every member: a fixed share of each trajectory is held out.
        """
        held = self.held_out[:, : self.count]
        rows = held.int().argsort(dim=1, stable=True)
        kept = self.count - int(held[0].sum())
        return rows[:, :kept], rows[:, kept:]

    def _pass(self, rows: Tensor) -> Tensor:
        """Show every member its training rows (K, n) once, in an order of its own."""
        order = torch.rand(rows.shape, generator=self.stream.generator, device=rows.device).argsort(dim=1)
        loss = torch.zeros((), device=rows.device)
        for part in rows.gather(1, order).split(self.config.batch_size, dim=1):
            recorded = self.recorded if part.shape[1] == self.config.batch_size else None
            loss = (self.fit(part) if recorded is None else recorded.run(_Given(part)))["loss"]
        return loss

    def fit(self, rows: Tensor) -> dict[str, Tensor]:
        """Do one gradient step of every member on its rows (K, B) of what is stored; return the mean "loss", 0-d."""
        losses = self._losses(rows)
        self._step(losses.sum())
        return {"loss": losses.detach().mean()}

    def _begin_moments(self) -> None:
        """Forget the optimizer's moments: in place where a recording holds their addresses."""
        if self.recorded is None:
            self.optimizer.state.clear()
            return
        for state in self.optimizer.state.values():
            for tensor in state.values():
                tensor.zero_()

    def _losses(self, rows: Tensor) -> Tensor:
        """Return each member's mean squared error (K,) of standardized changes at its rows (K, B)."""
        target = (self.change[rows] - self.change_mean) / self.change_std
        return (self._standardized(self.observation[rows], self.action[rows]) - target).square().mean(dim=(1, 2))

    def _step(self, loss: Tensor) -> None:
        gradients = torch.autograd.grad(loss, self.parameter_list)
        take_step(self.optimizer, self.parameter_list, gradients, self.config.gradient_norm, by_member=True)

    @torch.no_grad()
    def _validate(self, rows: Tensor, passes: int) -> Tensor:
        """Return members' losses (K,) on rows (K, n) held out for them, and keep the weights of those that improved.

        Args:
            rows: of the stored transitions.
            passes: since the last validation.
        """
        losses = torch.zeros_like(self.best_loss)
        for part in rows.split(self.config.batch_size, dim=1):
            losses += self._losses(part) * (part.shape[1] / rows.shape[1])
        waiting = self.passes_since_best < self.config.patience  # a member that is done stays as it was best
        better = (losses < self.best_loss) & waiting
        self.best_loss.copy_(torch.where(better, losses, self.best_loss))
        since = torch.where(better, 0, self.passes_since_best + passes)
        self.passes_since_best.copy_(torch.where(waiting, since, self.passes_since_best))
        for best, now in zip(self.best.parameters(), self.network.parameters(), strict=True):
            best.copy_(torch.where(better.view(-1, 1, 1), now, best))
        return losses

    # -- prediction ---------------------------------------------------------------------------------------

    def _standardized(self, observation: Tensor, action: Tensor) -> Tensor:
        return self.network(self._inputs(observation, action))

    def seen(self, observation: Tensor, action: Tensor) -> Tensor:
        """Return what models see, (..., D + A + 2 angles): an angle's sine and cosine say how gravity and floor lie."""
        parts = [observation, action]
        if len(self.angles):
            angle = observation.index_select(-1, self.angles)
            parts += [angle.sin(), angle.cos()]
        return torch.cat(parts, dim=-1)

    def _inputs(self, observation: Tensor, action: Tensor) -> Tensor:
        inputs = (self.seen(observation, action) - self.input_mean) / self.input_std
        return inputs.to(self.dtype)

    @torch.no_grad()
    def predictor(self) -> Callable[[Tensor, Tensor], Tensor]:
        """Return a function from observations (B, D) and actions (B, A) to all next observations (K, B, D).

        The members' weights are made ready once, as they are now: ask anew after training.
        """
        network = self.network.frozen(self.dtype, scale=self.change_std, shift=self.change_mean)
        members = self.config.num_members

        @torch.no_grad()
        def predict(observation: Tensor, action: Tensor) -> Tensor:
            return network(self._inputs(observation, action).expand(members, -1, -1)).add_(observation)

        return predict

    # -- state --------------------------------------------------------------------------------------------

    def get_extra_state(self) -> Tensor:
        """Return the counts of the schedule."""
        return torch.tensor([self.count, self.passes, int(self.trained)])

    def set_extra_state(self, state: Tensor) -> None:
        """Continue from get_extra_state."""
        self.count, self.passes, trained = state.tolist()
        self.trained = bool(trained)
