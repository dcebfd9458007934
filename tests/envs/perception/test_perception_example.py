"""docs/perception.md's worked example is run as it stands there."""

import re
from dataclasses import dataclass

import torch
from paths import ROOT

from envs.perception.perceiver import Perceiver


def test_the_example_smooths_and_keeps_a_fresh_episodes_first_frame():
    text = (ROOT / "docs" / "perception.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    names = {"dataclass": dataclass, "Perceiver": Perceiver, "torch": torch}
    exec(code, names)  # our own page's
    smooth = names["Smoothing"](config=names["SmoothingConfig"](rate=0.25))
    state = smooth.init_state(2, (4, 4))
    shown = []
    for value, phase in ((0.8, 0.0), (0.8, 0.5), (0.0, 0.0)):
        seen = {"rgb": torch.full((2, 3, 4, 4), value), "phase": torch.full((2,), phase)}
        made, state = smooth(seen, state)
        shown.append(made["rgb"][0, 0, 0, 0].item())
    assert torch.allclose(torch.tensor(shown), torch.tensor([0.8, 0.8, 0.6]))
