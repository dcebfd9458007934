"""What may stand between cameras and an agent, by name. One line a method.

`rlsuite.methods.choose(PERCEPTIONS, ["interpolation/rife"], {"rife.weights": "FILE"})` gives configured ones.
"""

PERCEPTIONS: dict[str, str] = {}
