"""Optimizer states as flat tensors, so that checkpoints need no pickle."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor


def adam(
    parameters: Iterable[Tensor],
    learning_rate: float,
    *,
    weight_decay: float = 0.0,
    epsilon: float = 1e-8,
    betas: tuple[float, float] = (0.9, 0.999),
) -> torch.optim.Optimizer:
    """Return Adam(W) fused over all parameters: one kernel a step on CPU and CUDA alike."""
    parameters = list(parameters)
    # The update may run inside a CUDA graph, which would keep a learning rate that is a plain number for ever.
    capturable = parameters[0].is_cuda
    rate = torch.tensor(learning_rate, device=parameters[0].device) if capturable else learning_rate
    if weight_decay:
        return torch.optim.AdamW(
            parameters,
            lr=rate,
            betas=betas,
            eps=epsilon,
            weight_decay=weight_decay,
            fused=True,
            capturable=capturable,
        )
    return torch.optim.Adam(parameters, lr=rate, betas=betas, eps=epsilon, fused=True, capturable=capturable)


def set_learning_rate(optimizer: torch.optim.Optimizer, learning_rate: float) -> None:
    """Let the optimizer's next steps have this rate, those of a recorded CUDA graph, too."""
    for group in optimizer.param_groups:
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(learning_rate)
        else:
            group["lr"] = learning_rate


def optimizer_tensors(optimizers: Mapping[str, torch.optim.Optimizer]) -> dict[str, Tensor]:
    """Return every state tensor under ``<optimizer>.<parameter index>.<name>``."""
    return {
        f"{name}.{index}.{key}": value
        for name, optimizer in optimizers.items()
        for index, entry in optimizer.state_dict()["state"].items()
        for key, value in entry.items()
        if isinstance(value, Tensor)
    }


def load_optimizer_tensors(optimizers: Mapping[str, torch.optim.Optimizer], tensors: Mapping[str, Tensor]) -> None:
    """Put back what optimizer_tensors returned; learning rates stay those the optimizers were made with."""
    for name, optimizer in optimizers.items():
        state: dict[int, dict[str, Tensor]] = {}
        for path, value in tensors.items():
            owner, index, key = path.rsplit(".", 2)
            if owner == name:
                state.setdefault(int(index), {})[key] = value.clone()
        optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
