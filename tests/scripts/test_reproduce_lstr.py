"""The LSTR experiment: its claims by hand, shuffled clips, and a tiny one end to end."""

import dataclasses
import json

import pytest
import torch

from rlsuite.errors import UserError
from rlsuite.experiment import FAILS, HOLDS
from rlsuite.experiment.jobs import Jobs
from scripts.experiments import lstr


def verdicts(named, past, whole):
    names = ("none", "short", "long", "cascade", "shuffled")
    figures = {
        group: dict(zip(names, ((value,) for value in values), strict=True))
        for group, values in (("named", named), ("past", past), ("all", whole))
    }
    return [claim.verdict for claim in lstr.claims(figures, lstr.Numbers())]


def test_claims_by_hand():
    assert verdicts((50, 55, 0, 0, 0), (0, 30, 0, 40, 35), (50, 60, 55, 59.5, 0)) == [HOLDS] * 4
    assert verdicts((50, 54, 0, 0, 0), (0, 30, 0, 39, 35), (50, 60, 55, 59, 0)) == [FAILS] * 4


def test_debug_experiment_end_to_end(tmp_path, monkeypatch):
    monkeypatch.setattr(lstr, "DEEDS", 3)
    result = lstr.run(lstr.DEBUG, Jobs(tmp_path, parallel=0))
    assert len(result.claims) == 4
    json.dumps(result.figures)


def test_shuffling_leaves_the_own_clip_where_it_is(monkeypatch):
    monkeypatch.setattr(lstr, "DEEDS", 3)
    videos, network = lstr.Videos(2, 0), lstr.LSTRNet(lstr.config("cascade"), 0)
    plain, shuffled = (videos.remembered(network, order).tensors for order in (None, 1))
    rows = torch.arange(len(plain["clip"]))
    assert torch.equal(plain["bank"][rows, plain["clip"]], shuffled["bank"][rows, plain["clip"]])
    assert not torch.equal(plain["bank"], shuffled["bank"])
    assert torch.allclose(plain["bank"].sum(dim=1), shuffled["bank"].sum(dim=1), atol=1e-4)


def test_the_bank_stays_what_the_network_makes_and_distances_learn_faster(tmp_path, monkeypatch):
    monkeypatch.setattr(lstr, "DEEDS", 3)
    seen = []

    def teach(network, clips, *rest):
        plain(network, clips, *rest)
        if network.long is not None:
            seen.append((network, clips))

    plain = lstr._teach
    monkeypatch.setattr(lstr, "_teach", teach)
    numbers = {name: getattr(lstr.DEBUG, name) for name in lstr.LEARNS}
    lstr.learn("all", 0, tmp_path, **numbers)
    videos = lstr.Videos(int(numbers["rollouts_learned"]), lstr.derive_seed(0, "learned"))
    assert len(seen) == 3
    for network, clips in seen[:2]:  # in order: the third one's bank is shuffled
        torch.testing.assert_close(videos.remembered(network, None).tensors["bank"], clips.tensors["bank"])
        assert float(network.long.near.detach().abs().max()) == pytest.approx(numbers["distance_rate"], rel=0.01)
    assert float(seen[2][0].long.near.detach().abs().max()) == 0.0


def test_wrong_numbers_are_refused():
    with pytest.raises(UserError, match="seeds="):
        dataclasses.replace(lstr.DEBUG, seeds=0)
