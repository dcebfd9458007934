"""Learning from attacked inputs: one step from a random start, then the loss there (fast adversarial training).

Wong, Rice and Kolter 2020 (arXiv:2001.03994, algorithm 3): delta uniform in [-eps, eps], delta <- clip(delta + alpha
sign(gradient)), alpha = 1.25 eps, and a step of the weights on x + delta. Inputs stay in the task's box.

Shapes: B batch.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from envs.evaluation.attacks.attack import inside, slope
from envs.evaluation.tasks import Batch, Task


def one_step(
    task: Task,
    module: nn.Module,
    batch: Batch,
    *,
    eps: float,
    step_share: float = 1.25,
    generator: torch.Generator | None = None,
) -> Batch:
    """Return a batch with attacked inputs, bytes as floats in [0, 1].

    Args:
        task: whose loss the attack raises.
        module: in the mode it is to be attacked in; running statistics of one in training see the start, too.
        batch: "input" (B, ...) and what the loss compares with.
        eps: no entry changes by more.
        step_share: alpha / eps.
        generator: of the starts; None for torch's own, which `rlsuite.fit.fit` and `SharedWeights` seed for each
            minibatch.
    """
    inputs = batch["input"]
    inputs = inputs.float() / 255.0 if inputs.dtype == torch.uint8 else inputs
    device = inputs.device if generator is None else generator.device
    share = torch.rand(inputs.shape, generator=generator, device=device).to(inputs) * 2.0 - 1.0
    start = inside(inputs + eps * share, inputs, task.box, eps)
    gradient = slope(lambda x: task.loss(module, {**batch, "input": x}), start)
    return {**batch, "input": inside(start + step_share * eps * gradient.sign(), inputs, task.box, eps)}


def attacked_loss(
    task: Task, module: nn.Module, batch: Batch, *, eps: float, step_share: float = 1.25
) -> dict[str, Tensor]:
    """Return the mean loss on attacked inputs, as `transform.teach` takes losses."""
    return {"loss": task.loss(module, one_step(task, module, batch, eps=eps, step_share=step_share)).mean()}
