"""Imagination: POMBU's roll-outs inside its models, against the same in plain loops and against bare matrix products.

One measurement is `agent.trajectories` trajectories of `agent.horizon` steps (agent.trajectories=200: 40,000) with all
members (5 of 512-512): what a policy update imagines. The contestants have the same starts and the same weights:

- ours: `POMBU.imagined`; hidden layers of the models in agent.dynamics.precision (auto: bfloat16 where the processor
  has it).
- loop: what one writes first. Each time step runs the policy on all trajectories and then goes through the members one
  by one: weights normalized, where the models do that (in every call, as torch's weight_norm does), next states,
  reward and V of the next states;
  then the variance over members and a member drawn for every trajectory. Matrix products of 200 rows, in float32.
- modules: the same loop over torch.nn.Sequential models, with weight_norm where they have it; policy and V, too.
- matmul: all matrix products of ours, in the same precision, as one chain of batched products into ready-made memory.

None of them loops over trajectories, as the method's released code does to draw members.

Shapes: K members, B trajectories, D observation, A action.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

from agents.assembly import choose_device, make_agent, make_env, prepare_torch
from agents.pombu.agent import POMBU
from rlsuite.config.schema import TrainConfig
from rlsuite.errors import require
from rlsuite.nn.ensemble import ACTIVATIONS, EnsembleLinear, EnsembleMLP
from rlsuite.nn.weight_norm import EnsembleWeightNormLinear
from scripts.benchmarks.rounds import Contestant, alternate, print_table, report

Model = Callable[[Tensor], Tensor]

_MODULES = {"relu": nn.ReLU, "elu": nn.ELU, "selu": nn.SELU, "silu": nn.SiLU, "gelu": nn.GELU, "tanh": nn.Tanh}


def measure_imagination(config: TrainConfig, rounds: int, seconds: float) -> dict[str, Any]:
    """Measure and print; return the JSON line's content.

    Args:
        config: of agent=pombu, its task and threads.
        rounds: counted rounds.
        seconds: aimed at for each measurement of ours, of one whole imagination at least.
    """
    require(config.agent_name == "pombu", f"agent={config.agent_name}: what=imagination is measured for agent=pombu")
    prepare_torch(config)
    agent = ready(config)
    steps = config.agent.horizon * config.agent.trajectories
    once = _rate(lambda: agent.imagined(agent.policy, 1), steps, 1)
    repeats = max(1, round(seconds * once() / steps))
    loop = [plain_form(agent.dynamics.network, member) for member in range(config.agent.dynamics.num_members)]
    modules = [module_form(agent.dynamics.network, member) for member in range(len(loop))]
    contestants: dict[str, Contestant] = {
        "ours": _rate(lambda: agent.imagined(agent.policy, 1), steps, repeats),
        "loop": _rate(lambda: imagine_in_a_loop(agent, loop, *forms(agent, plain_form)), steps, 1),
        "modules": _rate(lambda: imagine_in_a_loop(agent, modules, *forms(agent, module_form)), steps, 1),
        "matmul": _rate(_matmul(agent), steps, repeats),
    }
    rates = alternate(contestants, rounds)
    print_table(f"imagination {config.env.name}, {torch.get_num_threads()} threads", "steps/s", rates)
    peers = {"ratio_loop": "loop", "ratio_modules": "modules", "ratio_matmul": "matmul"}
    about = {
        "what": "imagination",
        "env": config.env.name,
        "steps": steps,
        "num_members": len(loop),
        "precision": str(agent.dynamics.dtype).removeprefix("torch."),
        "device": str(choose_device(config.device)),
        "rounds": rounds,
    }
    return about | report(rates, peers)


def ready(config: TrainConfig) -> POMBU:
    """Return a fresh agent that has starts to imagine from; its models are as they were drawn."""
    env = make_env(config, config.num_envs)
    agent = make_agent(config, env)
    assert isinstance(agent, POMBU)
    starts, _ = env.reset(seed=0)
    agent.starts[: len(starts)], agent.starts_stored = starts, len(starts)
    env.close()
    return agent


def _rate(run: Callable[[], Any], steps: int, repeats: int) -> Contestant:
    """Return a contestant that measures steps a second."""

    def measure() -> float:
        begin = time.perf_counter()
        for _ in range(repeats):
            run()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        return repeats * steps / (time.perf_counter() - begin)

    return measure


# -- peers --------------------------------------------------------------------------------------------------


def forms(agent: POMBU, form: Callable[[EnsembleMLP, int], Model]) -> tuple[Model, Model]:
    """Return policy and V in a peer's form."""
    return form(agent.policy.network, 0), form(agent.values.network, 0)


def plain_form(network: EnsembleMLP, member: int) -> Model:
    """Return one member of a stacked network as a plain function of rows (B, I)."""

    def forward(hidden: Tensor) -> Tensor:
        for place, layer in enumerate(network.layers):
            if isinstance(layer, EnsembleWeightNormLinear):
                direction = layer.direction[member]
                weight = direction * (layer.scale[member] / direction.norm(dim=0, keepdim=True))
                bias = layer.bias[member, 0]
            else:
                assert isinstance(layer, EnsembleLinear)
                weight, bias = layer.weight[member], layer.bias[member, 0]
            hidden = torch.addmm(bias, hidden, weight)
            if place + 1 < len(network.layers):
                hidden = network.activation(hidden)
        return hidden

    return forward


def module_form(network: EnsembleMLP, member: int) -> Model:
    """Return one member of a stacked network as torch.nn.Sequential."""
    layers: list[nn.Module] = []
    activation = next(_MODULES[name] for name, function in ACTIVATIONS.items() if function is network.activation)
    for layer in network.layers:
        if isinstance(layer, EnsembleWeightNormLinear):
            plain = _linear(layer.direction[member], layer.bias[member, 0])
            weight_norm(plain, dim=0)
            plain.parametrizations.weight.original0.data.copy_(layer.scale[member].T)  # type: ignore
        else:
            assert isinstance(layer, EnsembleLinear)
            plain = _linear(layer.weight[member], layer.bias[member, 0])
        layers += [plain, activation()]
    return nn.Sequential(*layers[:-1])


def _linear(weight: Tensor, bias: Tensor) -> nn.Linear:
    """Return torch's layer with weights (I, O) and biases (O,)."""
    linear = nn.Linear(weight.shape[0], weight.shape[1], device=weight.device)
    linear.weight.data.copy_(weight.T)
    linear.bias.data.copy_(bias)
    return linear


@torch.no_grad()
def imagine_in_a_loop(agent: POMBU, models: Sequence[Model], policy: Model, value: Model) -> tuple[Tensor, Tensor]:
    """Return rewards and local uncertainties (H, B), one member after another in every time step."""
    config, dynamics, generator = agent.config, agent.dynamics, agent.stream.generator
    chosen = torch.randint(agent.starts_stored, (config.trajectories,), generator=generator, device=agent.starts.device)
    observation, rows = agent.starts[chosen], torch.arange(config.trajectories, device=agent.starts.device)
    rewards, uncertainties = [], []
    for time_step in range(config.horizon):
        mean = policy(agent.normalizer(observation))
        noise = torch.randn(mean.shape, generator=generator, device=mean.device)
        action = mean + agent.policy.log_std[0].exp() * noise
        following, earned, later = [], [], []
        for model in models:
            inputs = dynamics.seen(observation, action.clamp(-1.0, 1.0))
            change = model((inputs - dynamics.input_mean) / dynamics.input_std)
            next_observation = observation + dynamics.change_mean + change * dynamics.change_std
            next_observation = next_observation.clamp(-config.largest_state, config.largest_state)
            reward = agent.reward(observation, agent.to_environment(action), next_observation)
            following.append(next_observation)
            earned.append(agent.return_scaler(reward.clamp(-config.largest_reward, config.largest_reward)))
            last = time_step + 1 == config.horizon
            seen = agent.values.inputs(agent.normalizer(next_observation), 1.0 - (time_step + 1) / config.horizon)
            later.append(torch.zeros_like(reward) if last else value(seen)[:, 0])
        returns = torch.stack(earned) + config.discount * torch.stack(later)
        rewards.append(torch.stack(earned).mean(dim=0))
        uncertainties.append(returns.var(dim=0, correction=0))
        members = torch.randint(len(models), rows.shape, generator=generator, device=rows.device)
        observation = torch.stack(following)[members, rows]
    return torch.stack(rewards), torch.stack(uncertainties)


def _matmul(agent: POMBU) -> Callable[[], None]:
    """Return a run of all matrix products of one imagination."""
    config, device = agent.config, agent.starts.device
    size, action_size = agent.starts.shape[1], agent.action_range.size
    members, rows = config.dynamics.num_members, config.trajectories
    products: list[tuple[Tensor, Tensor, Tensor]] = []

    def add(count: int, height: int, sizes: Sequence[int], dtype: torch.dtype) -> None:
        for place, (wide, out) in enumerate(zip(sizes[:-1], sizes[1:], strict=True)):
            of = dtype if place + 2 < len(sizes) else torch.float32
            left = torch.randn(count, height, wide, device=device, dtype=of)
            right = torch.randn(count, wide, out, device=device, dtype=of)
            products.append((left, right, torch.empty(count, height, out, device=device, dtype=of)))

    add(1, rows, (size, *config.hidden_sizes, action_size), torch.float32)
    add(members, rows, (len(agent.dynamics.input_mean), *config.dynamics.hidden_sizes, size), agent.dynamics.dtype)
    add(1, members * rows, (size + agent.values.see_time, *config.hidden_sizes, 1), torch.float32)

    def run() -> None:
        for _ in range(config.horizon):
            for left, right, out in products:
                torch.bmm(left, right, out=out)

    return run
