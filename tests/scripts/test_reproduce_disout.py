"""The Disout experiment: its expert, its claims by hand, and a tiny one end to end."""

import dataclasses
import json

import pytest
import torch

from rlsuite.errors import UserError
from rlsuite.experiment import FAILS, HOLDS
from rlsuite.experiment.jobs import Jobs
from scripts.experiments import disout
from scripts.experiments.reaching import LINKS, Reaching

ENDS = {"still": (-11.0,), "expert": (-6.0,), "still_error": (0.01,)}


def verdicts(right, error, returns, largest=0.5):
    def arms(pair):
        return {"disout": (pair[0],), "none": (pair[1],)}

    policies = {"test_error": arms(error), "return": arms(returns)}
    return [claim.verdict for claim in disout.claims(arms(right), policies, largest, ENDS, disout.Numbers())]


def test_claims_by_hand():
    assert verdicts((95.6, 96.0), (0.9, 1.0), (-8.4, -8.0)) == [HOLDS] * 5
    assert verdicts((95.4, 96.0), (1.1, 1.0), (-9.6, -9.0), 1.1) == [FAILS] * 5


def test_debug_experiment_end_to_end(tmp_path, monkeypatch):
    monkeypatch.setattr(disout, "ARMS", {name: disout.ARMS[name] for name in ("none", "disout")})  # half of the time
    result = disout.run(disout.DEBUG, Jobs(tmp_path, parallel=0))
    assert len(result.claims) == 5
    assert set(result.figures["ends"]) == {"still", "expert", "still_error"}
    assert list(result.figures["right"]) == list(disout.ARMS)
    assert {len(sizes) for sizes in result.figures["sizes"]} == {2, 3}  # places of digits, and of reaching
    json.dumps(result.figures)


def test_digits_are_split_where_it_is_said():
    subject = disout.digit_subject(0, 60)
    train, test = (subject.task.source(part) for part in ("train", "test"))
    assert (len(train), len(test)) == (60, 1737)
    labels = torch.cat([source.examples(torch.arange(len(source)))["label"] for source in (train, test)])
    assert labels.bincount().sum() == 1797


def test_the_expert_pulls_the_fingertip_along_the_gradient():
    angles = torch.tensor([[0.4, -1.1], [2.0, 0.7]], dtype=torch.float64, requires_grad=True)
    target = torch.tensor([[0.05, 0.1], [-0.1, 0.02]], dtype=torch.float64)
    both = angles.sum(1)
    first, second = LINKS
    tip = torch.stack(
        [first * angles[:, 0].cos() + second * both.cos(), first * angles[:, 0].sin() + second * both.sin()], 1
    )
    (slope,) = torch.autograd.grad(0.5 * (tip - target).square().sum(), angles)
    velocity = torch.tensor([[0.3, -0.2], [0.0, 1.0]], dtype=torch.float64)
    states = torch.cat([angles.cos(), angles.sin(), target, velocity, tip - target], 1).detach()
    action = Reaching(stiffness=2.0, damping=0.1)(states)
    assert torch.allclose(action, -2.0 / second * slope - 0.1 * velocity)


def test_wrong_numbers_are_refused():
    for change in ({"seeds": 0}, {"digits": 20}):
        with pytest.raises(UserError, match=f"{next(iter(change))}="):
            dataclasses.replace(disout.DEBUG, **change)
