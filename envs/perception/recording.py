"""What cameras see of a task whose actions are drawn at random, as clips.

Shapes: N environments, T frames of a clip, S side of a picture.
"""

from __future__ import annotations

import torch
from torch import Tensor

import envs
from rlsuite.action_space import ActionLimits
from rlsuite.config.camera import CameraConfig
from rlsuite.errors import require

HELD = 4  # steps for which a random action is held: otherwise bodies only tremble


def record(env_id: str, size: int, steps: int, seed: int, *, num_envs: int = 8, shortest: int = 7) -> list[Tensor]:
    """Return clips (T, 3, S, S) uint8, one for each episode of each environment, of at least `shortest` frames.

    Args:
        env_id: one of the suite's tasks of simulated bodies.
        size: S.
        steps: of all environments.
        seed: of episodes and actions.
        num_envs: N.
        shortest: clips of fewer frames are left out.

    Raises:
        UserError: if the task cannot be drawn, or no episode is long enough.
    """
    env = envs.make_vector(env_id, num_envs, flat=True, camera=CameraConfig(size=size, stack=1))
    try:
        actions = ActionLimits(env.single_action_space)
        generator = torch.Generator().manual_seed(seed)
        seen, _ = env.reset(seed=seed)
        running: list[list[Tensor]] = [[frame] for frame in seen.cpu()]
        clips: list[Tensor] = []
        action = actions.uniform(num_envs, generator)
        for step in range(steps):
            if step % HELD == 0:
                action = actions.uniform(num_envs, generator)
            seen, _, terminated, truncated, info = env.step(action)
            frames, ends = seen.cpu(), (terminated | truncated).cpu().tolist()
            for number, ended in enumerate(ends):
                if ended:
                    clips.append(torch.stack([*running[number], info["final_obs"][number].cpu()]))
                    running[number] = []
                running[number].append(frames[number])
    finally:
        env.close()
    clips += [torch.stack(frames) for frames in running]
    found = [clip for clip in clips if len(clip) >= shortest]
    require(bool(found), f"no episode of {env_id} has {shortest} frames; use more steps")
    return found
