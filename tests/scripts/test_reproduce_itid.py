"""The ITID experiment: its pictures and claims by hand, and a tiny one end to end."""

import dataclasses
import json

import pytest
import torch

from rlsuite.errors import UserError
from rlsuite.experiment import FAILS, HOLDS
from rlsuite.experiment.jobs import Jobs
from scripts.experiments import itid


def figures(test, same, invariance):
    return {"test": test, "trained": same, "invariance": invariance}


def arms(drawn, weighted):
    plain = figures(50.0, 98.0, 0.5)
    return ({"plain": plain, "drawn": figures(*drawn), "weighted": figures(50.0, 98.0, weighted)},)


def nets(parameters, error):
    gaps, seen = (10.0, 20.0, 30.0, 40.0), (0.9, 0.8, 0.7, 0.6)
    return [
        {"gap": gap, "invariance": mean, "parameters": size, "error": error, "bound": 0.8}
        for gap, mean, size in zip(gaps, seen, parameters, strict=True)
    ]


def reached(chosen, least):
    factors = {"light": (0.9, -5.0), "tint": (0.8, -6.0), "camera": (0.7, -9.0), least: (0.5, -7.0)}
    plain = {name: {"invariance": mean, "return": score} for name, (mean, score) in factors.items()}
    if least == "texture":
        plain["texture"]["return"] = -5.5
    learned = 0.6 if chosen > 0.8 else 0.4
    one = {"kept": 0.6, "learned": learned, "factors": plain}
    return ({"plain": one, "any": {"kept": 0.9}, "chosen": {"kept": chosen}},)


def test_claims_by_hand():
    def verdicts(*found):
        return [claim.verdict for claim in itid.claims(*found, itid.Numbers())]

    good = arms((65.0, 95.0, 0.75), 0.56), nets((3, 1, 4, 2), 0.7), reached(0.89, "camera")
    assert verdicts(*good) == [HOLDS] * 11
    bad = arms((64.0, 94.0, 0.7), 0.52), nets((1, 2, 3, 4), 0.9), reached(0.7, "texture")
    assert verdicts(*bad) == [FAILS] * 4 + [HOLDS] + [FAILS] * 6


def test_patches_go_with_labels_as_often_as_is_said():
    for share, least, most in ((1.0, 1.0, 1.0), (0.5, 0.5, 0.6), (0.0, 0.05, 0.15)):
        found = itid.patched("test", share, 0).tensors
        agree = float((found["level"] == found["label"]).float().mean())
        assert least <= agree <= most
        assert torch.allclose(found["input"][:, 0, 1, 1], (found["level"] + 1) / 10)
    assert found["input"].shape == (359, 1, 16, 16)
    # The digit is there, whole but for the corner, and not always in one place.
    ink = found["input"][:, 0, 3:, 3:].flatten(1).argmax(1)
    assert len(ink.unique()) > 50


def test_debug_experiment_end_to_end(tmp_path):
    result = itid.run(itid.DEBUG, Jobs(tmp_path, parallel=0))
    assert len(result.claims) == 11
    (one,) = result.figures["reaching"]
    assert one["expert"] > one["still"]
    assert one["plain"]["sensitivity"] >= 0.0
    assert list(one["plain"]["factors"]) == ["light", "camera"]
    assert len(result.figures["sizes"]) == 2
    assert set(result.figures["digits"][0]) == set(itid.ARMS)
    assert len({one["parameters"] for one in result.figures["sizes"]}) == 2
    json.dumps(result.figures)


def test_wrong_numbers_are_refused():
    for change in ({"seeds": 0}, {"correlation": 2.0}, {"networks": 16}, {"factors": ("light",)}, {"widest": 0.0}):
        with pytest.raises(UserError, match=f"{next(iter(change))}="):
            dataclasses.replace(itid.DEBUG, **change)
