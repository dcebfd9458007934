"""Ranks: two that learn together end where one alone does, and hold the same bits."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import ranks_program
import torch
from paths import ROOT
from safetensors.torch import load_file

from rlsuite import distributed
from rlsuite.distributed import Ranks, asked_for, divided
from rlsuite.errors import UserError


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """What each of two ranks found."""
    folder = tmp_path_factory.mktemp("ranks")
    program = Path(ranks_program.__file__)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([*command, str(program), str(folder)], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return [load_file(folder / f"{rank}.safetensors") for rank in range(2)]


@pytest.fixture(scope="module")
def one():
    """What a rank alone found."""
    return ranks_program.found()


LEARNED = ["ddpg", "td3", "sac", "ace", "sher", "sher_state", "dqn", "ppo"]


@pytest.mark.parametrize("name", LEARNED)
def test_two_ranks_learn_what_one_does_from_the_same_rows(one, two, name):
    names = [key for key in one if key.startswith(f"{name}/")]
    assert names
    for key in names:
        torch.testing.assert_close(two[0][key], one[key], rtol=0.0, atol=1e-5, msg=key)


@pytest.mark.parametrize("name", [*LEARNED, "own_ppo", "own_trpo", "normalizer", "scaler"])
def test_ranks_hold_the_same_bits(two, name):
    names = [key for key in two[0] if key.startswith(f"{name}/")]
    assert names
    assert [key for key in names if not torch.equal(two[0][key], two[1][key])] == []


@pytest.mark.parametrize("name", ["normalizer", "scaler"])
def test_moments_are_those_of_all_ranks_rows_together(one, two, name):
    for key in (key for key in one if key.startswith(f"{name}/")):
        torch.testing.assert_close(
            two[0][key], one[key], rtol=1e-12 if one[key].dtype == torch.float64 else 1e-6, atol=0
        )


def test_gradients_are_averaged_before_they_are_clipped(one, two):
    # The mean of (6, 0) and (0, 8) is (3, 4), of norm 5; clipped first they would have been (1, 0) and (0, 1).
    for found in (one, *two):
        torch.testing.assert_close(found["clipped"], torch.tensor([-0.6, -0.8]))


def test_ranks_agree_on_flags_numbers_and_texts(two):
    for found in two:
        assert found["numbers"].tolist() == [1, 0, 3, 7]
        assert bytes(found["said"].tolist()).decode() == repr([["", ""], ["a", "näher"], ["0", "11"]])
        assert found["same"].tolist() == [True, False]
        assert found["means"].tolist() == [1.5, 2.0]


def test_each_rank_draws_its_own_numbers_and_the_first_those_of_one_alone(one, two):
    assert torch.equal(two[0]["drawn"], one["drawn"])
    assert not torch.equal(two[1]["drawn"], one["drawn"])


def test_alone_everything_comes_back_as_it_was_given():
    here, tensor = Ranks(), torch.tensor([1.0, 2.0])
    assert here.alone
    assert here.leads
    assert here.mean(tensor) is tensor
    assert here.averaged([tensor])[0] is tensor
    assert (here.any(False), here.all(True), here.total(3), here.fewest(3)) == (False, True, 3, 3)
    assert here.texts("said") == ["said"]
    assert distributed.ranks() == here


def test_things_are_dealt_out_in_order():
    assert [Ranks(rank, 4).first(12) for rank in range(4)] == [0, 3, 6, 9]


def test_what_cannot_be_dealt_out_evenly_is_refused():
    config = ranks_program.ActorCriticConfig(batch_size=10)
    assert divided(config, 2, "batch_size").batch_size == 5
    with pytest.raises(UserError, match=r"agent.batch_size=10 .* a multiple of 4"):
        divided(config, 4, "batch_size")


def test_batch_statistics_are_refused_with_the_reason():
    from rlsuite.nn.critics import CriticConfig

    config = ranks_program.ActorCriticConfig(critic=CriticConfig(block="batch_norm"))
    with pytest.raises(
        UserError, match=r"agent\.critic\.block=batch_norm normalizes by the statistics of whole minibatches"
    ):
        config.share(2)


def test_torchruns_variables_must_be_numbers(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "two")
    with pytest.raises(UserError, match="WORLD_SIZE=two"):
        asked_for()
