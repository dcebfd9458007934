"""The experiment on positive-unlabeled discriminators: claims by hand, counted modes, and a tiny one end to end."""

import torch

from rlsuite.experiment import FAILS
from rlsuite.experiment.jobs import Jobs
from scripts.experiments import pugan


def verdicts(unlabeled=(9.0, 3.0, 3.0, 2.0), modes=8.0):
    distances = {"gan": [[9.0, 4.0, 4.0, 4.0]], "pu_gan": [list(unlabeled)]}
    ring = {"gan": [[7.0]], "pu_gan": [[modes]]}
    found = pugan.claims(distances, ring, pugan.Numbers())
    return [number for number, claim in enumerate(found) if claim.verdict == FAILS]


def test_claims_by_hand():
    assert verdicts() == []
    assert verdicts(unlabeled=(9.0, 3.0, 3.0, 3.2)) == [0]
    assert verdicts(unlabeled=(1.0, 6.0, 6.0, 2.0)) == [1]
    assert verdicts(modes=6.0) == [2]


def test_modes_are_counted():
    angles = torch.arange(8) * (torch.pi / 4)
    centres = 2 * torch.stack((angles.cos(), angles.sin()), dim=1)
    assert pugan.covered(centres.repeat(100, 1)) == 8
    assert pugan.covered(centres[:3].repeat(100, 1)) == 3
    assert pugan.covered(torch.cat((centres[:1].repeat(995, 1), centres[1:2].repeat(5, 1)))) == 1
    assert pugan.covered(centres.repeat(100, 1) * 1.1) == 0


def test_the_rising_share_takes_a_tenth_of_the_run_a_step():
    rising = pugan.losses("pu_rising", 4000)
    assert [round(float(rising.prior_at(torch.tensor(step))), 2) for step in (0, 400, 3999)] == [0.3, 0.4, 0.6]
    assert float(pugan.losses("pu_gan", 4000).prior_at(torch.tensor(3999))) == torch.tensor(0.3)


def test_a_smaller_share_stands_beside_it():
    assert float(pugan.losses("pu_tenth", 4000).prior_at(torch.tensor(3999))) == torch.tensor(0.1)


def test_the_spread_is_of_the_last_four_checkpoints():
    assert pugan.spread([8.0, 0.0, 0.0, 1.0, 0.0, 1.0]) == 0.5
    assert pugan.spread([3.0, 3.0, 3.0]) == 0.0


def test_the_experiment_end_to_end(tmp_path):
    result = pugan.run(pugan.DEBUG, Jobs(tmp_path, parallel=0))
    assert len(result.claims) == 3
    (row,) = result.figures["digits"]["pu_gan"]
    assert len(row["distance"]) == 3
    assert len(row["clamped"]) >= 1
    assert set(result.figures["ring"]) == set(result.figures["ring_spread"]) == {"gan", "pu_gan", "pu_tenth"}
    assert len(result.figures["ring_spread"]["pu_tenth"]) == 1
