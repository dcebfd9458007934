"""How much worse a network is on what it has not learned from than on what it has: what regularizers are for."""

from __future__ import annotations

import torch
from torch import nn

from envs.evaluation.subject import Subject
from rlsuite.data.source import Source
from rlsuite.nn.device import device_of

EXAMPLES = 2000


def measure_gap(subject: Subject, examples: int = EXAMPLES) -> dict[str, float]:
    """Return "train_error" and "test_error", mean losses of the task; a policy's are of states its teacher visits.

    Args:
        subject: whose module is judged, in evaluation mode.
        examples: of each part, the first ones, at most.
    """
    task = subject.task
    return {f"{part}_error": _error(subject.module, subject, task.source(part), examples) for part in ("train", "test")}


@torch.no_grad()
def _error(module: nn.Module, subject: Subject, source: Source, examples: int) -> float:
    device = device_of(module)
    total, count = torch.zeros((), dtype=torch.float64, device=device), min(examples, len(source))
    for index in torch.arange(count).split(256):
        batch = {name: value.to(device) for name, value in source.examples(index).items()}
        total += subject.task.loss(module, batch).double().sum()
    return float(total) / count
