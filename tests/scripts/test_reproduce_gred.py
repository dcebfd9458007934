"""The GRED experiment: its claims by hand, and a tiny one end to end."""

import json

import pytest
import torch

from envs.evaluation.defences.guard import Guarded
from rlsuite.errors import UserError
from rlsuite.experiment import FAILS, HOLDS
from rlsuite.experiment.jobs import Jobs
from scripts.experiments import gred


def found(auc=0.99, walk=0.99, noise=0.45, far=0.4, learned=0.95, bare=0.2, all_=0.4):
    return {
        "attacks": {
            "deepfool": {"auc_norm": 0.99, "walk": 1.0, "noise": 0.45},
            "cw2 0": {"auc_norm": auc, "walk": walk, "noise": noise},
            "l2 2": {"auc_norm": far, "auc_learned": learned},
        },
        "knowing": {"bare": bare, "guarded, all": all_},
    }


def verdicts(**changes):
    """Two seeds: the second is changed, so each claim but the last must look at the worst."""
    return [claim.verdict for claim in gred.claims((found(), found(**changes)), gred.Numbers())]


def test_claims_by_hand():
    assert verdicts() == [HOLDS] * 6
    assert verdicts(auc=0.96) == [FAILS, *[HOLDS] * 5]
    assert verdicts(walk=0.94) == [HOLDS, FAILS, *[HOLDS] * 4]
    assert verdicts(noise=0.7) == [HOLDS, HOLDS, FAILS, *[HOLDS] * 3]
    assert verdicts(far=0.71)[3] == FAILS
    assert verdicts(learned=0.84)[4] == FAILS
    assert verdicts(all_=0.15)[5] == FAILS  # (0.2 - 0.05) / 2
    assert verdicts(all_=0.25)[5] == HOLDS


def test_debug_experiment_end_to_end(tmp_path, capsys):
    result = gred.run(gred.DEBUG, Jobs(tmp_path, parallel=0))
    (one,) = result.figures["by_seed"]
    assert list(one["attacks"]) == ["deepfool", "cw2 0", "cw2 5", "l2 1", "l2 2", "fgsm 0.1", "fgsm 0.2", "pgd 0.1"]
    for name, row in one["attacks"].items():
        assert all(0.0 <= value <= 1.0 for key, value in row.items() if key != "length"), name
    assert one["attacks"]["l2 1"]["length"] <= 1.0 + 1e-5
    known = one["knowing"]
    against = [value for key, value in known.items() if key.startswith("guarded, ") and "noise" not in key]
    assert known["guarded, all"] <= min(against)
    assert len(result.claims) == 6
    json.dumps(result.figures)
    assert "guarded, hiding 10" in capsys.readouterr().out


def test_an_attack_that_changed_nothing_has_a_row_of_zeros():
    subject = gred.digit_subject(0, 100)
    x = subject.task.source("test").examples(torch.arange(4))["input"]
    label = subject.module(x).argmax(1)
    row = gred.row(Guarded(subject.module), x, label, x, torch.Generator())
    assert set(row.values()) == {0.0}
    assert {"success", "length", "auc_norm", "guard"} < set(row)


def test_the_network_does_not_learn_from_what_sets_the_threshold():
    """1,438 pictures apart, and all of them: no two digits of the data set are the same."""
    task = gred.digit_subject(0, 400).task
    train, held = (part.examples(torch.arange(len(part)))["input"] for part in (task.source("train"), task.validation))
    assert (len(train), len(held)) == (1038, 400)
    assert (torch.cdist(held.flatten(1), train.flatten(1)) > 0).all()


def test_wrong_numbers_are_refused():
    for change in ({"seeds": 0}, {"held": 0}, {"clean": 1}, {"eps": 0.0}):
        with pytest.raises(UserError, match=f"{next(iter(change))}="):
            gred.Numbers(**change)
