"""MinAtar's games (Young and Tian 2019, arXiv:1903.03176) under Gymnasium's names: importing this registers them.

``pip install minatar``, and then ``env.id=scripts.examples.minatar_tasks:MinAtar/Breakout-v1``; v1 has only the actions
that do something in a game. The package registers nothing unless it is asked to.
"""

import minatar.gym  # pyright: ignore[reportMissingImports]

minatar.gym.register_envs()
