"""The HAAM experiment: its claims by hand, and a tiny one end to end."""

import json

import pytest
import torch

from rlsuite.errors import UserError
from rlsuite.experiment import FAILS, HOLDS
from rlsuite.experiment.jobs import Jobs
from scripts.experiments import haam

GOOD = {
    "noise 0.2": {"success": 0.03},
    "harmonic 0.2": {"success": 0.2},
    "harmonic 0.35": {"success": 0.6, "edge_score": 0.001, "to_b": 0.7, "to_c": 0.7},
    "fgsm 0.08": {"edge_score": 1.8},
    "deepfool": {"to_b": 0.3, "to_c": 0.2},
}


def verdicts(**changes):
    """Two seeds: the second is changed, so each claim must look at the worst."""
    worse = {name: dict(figures) for name, figures in GOOD.items()}
    for key, value in changes.items():
        attack, figure = key.split("__")
        worse[{"light": "harmonic 0.35", "small": "harmonic 0.2", "fgsm": "fgsm 0.08"}[attack]][figure] = value
    return [claim.verdict for claim in haam.claims(({"attacks": GOOD}, {"attacks": worse}), haam.Numbers())]


def test_claims_by_hand():
    assert verdicts() == [HOLDS] * 6
    assert verdicts(light__success=0.44) == [FAILS, *[HOLDS] * 5]
    assert verdicts(small__success=0.149) == [HOLDS, FAILS, *[HOLDS] * 4]  # 5 times 0.03 is 0.15
    assert verdicts(light__edge_score=0.06) == [HOLDS, HOLDS, FAILS, *[HOLDS] * 3]
    assert verdicts(fgsm__edge_score=0.9)[3] == FAILS
    assert verdicts(light__to_b=0.5)[4:] == [FAILS, HOLDS]
    assert verdicts(light__to_c=0.4)[4:] == [HOLDS, FAILS]


def test_debug_experiment_end_to_end(tmp_path, capsys):
    result = haam.run(haam.DEBUG, Jobs(tmp_path / "haam", parallel=0))
    (table,) = result.figures["by_seed"]
    assert list(table["attacks"]) == [
        *("noise 0.2", "noise 0.35", "harmonic 0.2", "harmonic 0.35", "fgsm 0.08", "mi_fgsm 0.08", "pgd 0.08"),
        "deepfool",
    ]
    assert 0 < table["pictures"] <= 40
    for name, row in table["attacks"].items():
        assert all(0.0 <= row[figure] <= 1.0 for figure in ("success", "to_b", "to_c")), name
        if name != "deepfool":
            assert row["largest"] <= float(name.split()[1]) + 1e-6
    light, noise = table["attacks"]["harmonic 0.35"], table["attacks"]["noise 0.35"]
    assert light["edge_score"] < 0.01 < light["edge_score_clipped"] < noise["edge_score"]
    assert light["ssim"] > noise["ssim"]
    assert light["canny"] < noise["canny"]
    json.dumps(result.figures)
    assert "edge_score" in capsys.readouterr().out


def test_edge_pixels_are_cannys():
    """A step over a column of gray is one edge pixel in each row but the first and the last, as the border is none."""
    half = torch.zeros(2, 1, 16, 16)
    half[1, 0, :, 8] = 0.5
    half[1, 0, :, 9:] = 1.0
    assert haam.edge_pixels(half).tolist() == [0.0, 14.0]


def test_the_same_seed_gives_the_same_networks():
    one, other, third = (haam.make_networks(seed) for seed in (0, 0, 1))
    for name in one:
        pairs = list(zip(one[name].parameters(), other[name].parameters(), third[name].parameters(), strict=True))
        assert all(torch.equal(a, b) for a, b, _ in pairs)
        assert not any(torch.equal(a, c) for a, _, c in pairs if a.dim() > 1)


def test_wrong_numbers_are_refused():
    with pytest.raises(UserError, match="seeds=0: use 1 or more"):
        haam.Numbers(seeds=0)
    with pytest.raises(UserError, match="use more than 0 and less than eps"):
        haam.Numbers(eps_small=0.5)
