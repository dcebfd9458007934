"""The BERT-fused experiment: its claims by hand, and a tiny one end to end."""

import dataclasses
import json

import pytest
import torch

from envs.perception.language.masked_language_model import (
    LanguageModel,
    MaskedLanguageModel,
    MaskedLanguageModelConfig,
)
from envs.perception.language.tokens import learn_pieces
from rlsuite.data.source import split
from rlsuite.errors import UserError
from rlsuite.experiment import FAILS, HOLDS
from rlsuite.experiment.jobs import Jobs
from rlsuite.fit_run import History
from rlsuite.running.seeding import derive_seed
from scripts.experiments import bert_fused


def found(plain, further, fused, both, random, goals):
    scores = dict(zip(bert_fused.ARMS, (plain, further, fused, both, random), strict=True))
    loop = {"plain": {"right": 0.0}, "plain-on": {"right": goals[0]}, "fused": {"right": goals[1]}}
    return ({**{name: {"exact": score} for name, score in scores.items()}, "loop": loop},)


def test_claims_by_hand():
    def verdicts(*figures):
        return [claim.verdict for claim in bert_fused.claims(found(*figures), bert_fused.Numbers())]

    assert verdicts(20.0, 22.0, 30.0, 31.0, 25.0, (20.0, 28.0)) == [HOLDS] * 5
    assert verdicts(22.1, 22.1, 30.0, 31.1, 25.1, (20.0, 27.0)) == [FAILS] * 5


def test_debug_experiment_end_to_end(tmp_path):
    result = bert_fused.run(bert_fused.DEBUG, Jobs(tmp_path, parallel=0))
    assert len(result.claims) == 5
    (one,) = result.figures["translators"]
    assert set(one) == {*bert_fused.ARMS, "loop", "plain minibatches"}
    assert set(one["loop"]) == {"told", "plain", "plain-on", "fused"}
    assert one["plain minibatches"] == 2
    # Whoever is told in English has the right goals, and the scripted policy gets there.
    assert one["loop"]["told"] == {"right": 100.0, "reached": 100.0, "parsed": 100.0}
    json.dumps(result.figures)


def test_no_stage_learns_from_the_pairs_that_end_the_first(monkeypatch):
    seen = []

    def fitted(network, loss, source, config, *, seed):
        held, _ = split(source, (config.held_out, 1.0 - config.held_out), derive_seed(seed, "held out"))
        seen.append((config.patience, [row.tolist() for row in held.examples(torch.arange(len(held)))["target"]]))
        return History()

    monkeypatch.setattr(bert_fused, "fit", fitted)
    pairs = [pair for _, pair in bert_fused.held_out_pairs(("de",), 30)]
    pieces = learn_pieces([text for pair in pairs for text in pair[:2]], 200)
    sizes = MaskedLanguageModelConfig(width=8, hidden=8, heads=2, layers=1, longest=64)
    model = LanguageModel(MaskedLanguageModel(len(pieces), sizes, 0), pieces)
    stage = dataclasses.replace(bert_fused.recipe(1), held_out=0.1)
    stages = dataclasses.replace(stage, patience=3), stage
    bert_fused.taught_translators(pairs, pieces, model, model, stages, 16, 0)
    assert [patience for patience, _ in seen] == [3, 0, 0, 0, 0]
    assert len(seen[0][1]) == 3
    assert all(held == seen[0][1] for _, held in seen)


def test_wrong_numbers_are_refused():
    for change in ({"seeds": 0}, {"patience": 0}, {"languages": ()}, {"languages": ("nl",)}, {"instructions": 0}):
        with pytest.raises(UserError, match=f"{next(iter(change))}="):
            dataclasses.replace(bert_fused.DEBUG, **change)
