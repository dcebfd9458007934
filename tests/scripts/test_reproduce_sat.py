"""SAT's experiment: its claims by hand, and a tiny one end to end."""

import torch

from rlsuite.experiment import FAILS, HOLDS
from rlsuite.experiment.jobs import Jobs
from scripts.experiments import sat


def verdicts(hopper=(0.97, 0.96), **changes):
    errors = {
        "4-sat+cgpact": (0.02, 0.03),
        "4-plain+cgpact": (1.0, 0.4),
        "2-sat+cgpact": (0.030, 0.031),
        "2-sat+pact": (0.031, 0.032),
    }
    errors |= {
        name.replace("x", "", 1).replace("_", "-", 1).replace("_", "+"): value for name, value in changes.items()
    }
    kept = {"hopper_td3": {"4": hopper}, "half_cheetah_td3": {"4": (1.0, 0.99)}}
    return [claim.verdict for claim in sat.claims(errors, kept, sat.Numbers())]


def test_claims_by_hand():
    assert verdicts() == [HOLDS] * 4
    assert verdicts(x4_plain_cgpact=(1.0, 0.29)) == [FAILS, HOLDS, HOLDS, HOLDS]  # the worst seed decides
    assert verdicts(x2_sat_pact=(0.031, 0.030)) == [HOLDS, FAILS, HOLDS, HOLDS]
    assert verdicts(hopper=(1.0, 0.89)) == [HOLDS, HOLDS, FAILS, HOLDS]  # the mean does


def test_errors_are_shares_of_the_actions_variance():
    task = sat.pairs(0)
    mean = task.source("train").tensors["action"].mean(0)
    score = task.score(constant(mean), 0)
    assert score.shape == (1000,)
    assert abs(score.mean() + 1.0) < 0.1
    loss = task.loss(constant(mean), task.source("train").examples(torch.arange(9000)))
    torch.testing.assert_close(loss.mean(), torch.tensor(1.0), rtol=1e-3, atol=0)


def constant(output):
    class Constant(torch.nn.Module):
        def forward(self, inputs):
            return output.expand(len(inputs), -1)

    return Constant()


def test_debug_experiment_end_to_end(tmp_path):
    result = sat.run(sat.DEBUG, Jobs(tmp_path, parallel=0))
    assert set(result.figures["kept"]) == {"hopper_td3", "half_cheetah_td3"}
    assert set(result.figures["errors"]) == {f"{bits}-{arm}" for bits in (4, 3, 2) for arm in sat.ARMS} | {
        "4-papers-fan",
        "float",
    }
    costs = result.figures["costs"]["hopper_td3"]
    assert costs["2"]["bytes"] < costs["4"]["bytes"] < costs["8"]["bytes"] < costs["float"]["bytes"]
    assert result.figures["kept"]["hopper_td3"]["float"] == (1.0,)
