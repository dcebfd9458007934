"""Policies as ONNX files that need nothing of this suite: normalizer, ensemble and action bounds are inside.

Shapes: N rows, D observation, A action.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium
import torch
from torch import Tensor, nn

from rlsuite.errors import UserError
from rlsuite.extras import import_extra, quiet_onnx_exporter, require_extras
from rlsuite.nn.action_range import into_space


class Policy(nn.Module):
    """The deterministic policy of a trained agent, as a module that maps observations to actions.

    Args:
        agent: with a method greedy(observation).
        action_space: of a single environment, which every action lies in and whose dtype and shape it has; None leaves
            actions as the agent gives them.
    """

    def __init__(self, agent: Any, action_space: gymnasium.Space | None = None) -> None:
        super().__init__()
        self.agent = agent
        self.into_space = nn.Identity() if action_space is None else into_space(action_space)

    def forward(self, observation: Tensor) -> Tensor:
        """Map raw observations (N, D) to actions (N, ...) in the environment's units."""
        return self.into_space(self.agent.greedy(observation))


def export_onnx(
    agent: Any,
    observation_size: int | tuple[int, ...],
    path: Path,
    *,
    action_space: gymnasium.Space | None = None,
    dtype: torch.dtype = torch.float32,
) -> Path:
    """Write the agent's policy as ONNX, with any number of rows N.

    Args:
        agent: with a method greedy(observation).
        observation_size: D, or the shape of one observation.
        path: the file; its directory is made if missing.
        action_space: see Policy.
        dtype: of the observations that the file takes; float64 where float32 would swallow what changes in them.

    Raises:
        UserError: if the ONNX packages are not installed, the agent has no deterministic policy, or the file
            cannot be written.
    """
    require_extras("exporting", "onnx", "onnxscript")
    device = next(agent.parameters()).device
    shape = (observation_size,) if isinstance(observation_size, int) else observation_size
    example = torch.zeros(2, *shape, dtype=dtype, device=device)
    agent.greedy(example)  # says so where there is no such policy
    policy = Policy(agent, action_space).to(device)
    learned = [weight for weight in policy.parameters() if weight.requires_grad]
    policy.eval().requires_grad_(False)
    rows = torch.export.Dim("rows", min=1)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with quiet_onnx_exporter():
            torch.onnx.export(
                policy,
                (example,),
                str(path),
                input_names=["observation"],
                output_names=["action"],
                dynamic_shapes={"observation": {0: rows}},
                dynamo=True,
                external_data=False,
                verbose=False,
            )
    except OSError as error:
        raise UserError(f"cannot write {path} ({error.strerror}); choose another output=") from None
    finally:
        for weight in learned:  # the agent may go on learning
            weight.requires_grad_()
    return path


def difference_in_onnxruntime(
    agent: Any, path: Path, observation: Tensor, *, action_space: gymnasium.Space | None = None
) -> float:
    """Return the largest difference between the agent's actions and the file's in onnxruntime.

    Args:
        agent: what was exported.
        path: the ONNX file.
        observation: (N, D), of the dtype it was exported for.
        action_space: what it was exported with.
    """
    onnxruntime = import_extra("onnxruntime", "checking the export")
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    (action,) = session.run(None, {"observation": observation.cpu().numpy()})
    with torch.no_grad():
        expected = Policy(agent, action_space).to(observation.device)(observation)
    return float((torch.from_numpy(action).double() - expected.cpu().double()).abs().max())
