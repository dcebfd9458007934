import hypothesis
import pytest
import torch
from hypothesis import strategies

from rlsuite.data import source as sources
from rlsuite.data.arrays import Arrays
from rlsuite.data.counters import counted_seed, to_float32, uniform, uniform_float32
from rlsuite.data.minibatches import minibatch
from rlsuite.errors import UserError


@hypothesis.given(
    length=strategies.integers(1, 40), size=strategies.integers(1, 50), seed=strategies.integers(0, 2**40)
)
def test_minibatches_walk_through_epochs_each_in_an_order_of_its_own(length, size, seed):
    steps = 3 * length // size + 2
    walked = torch.cat([minibatch(seed, step, length, size) for step in range(steps)])
    assert len(walked) == steps * size
    for epoch in walked.split(length):
        if len(epoch) == length:
            assert sorted(epoch.tolist()) == list(range(length))
    # Any step alone is the same as when walked through.
    assert torch.equal(minibatch(seed, steps - 1, length, size), walked[-size:])


def test_epochs_and_seeds_differ():
    first, second = minibatch(0, 0, 100, 100), minibatch(0, 1, 100, 100)
    assert not torch.equal(first, second)
    assert not torch.equal(first, minibatch(1, 0, 100, 100))
    assert not torch.equal(minibatch(1, 0, 100, 50, "random"), minibatch(0, 0, 100, 50, "random"))


def test_random_minibatches_draw_evenly_with_replacement():
    drawn = torch.cat([minibatch(3, step, 10, 100, "random") for step in range(100)])
    counts = torch.bincount(drawn, minlength=10)
    # 1,000 expected each; the deviation is 30.
    assert int((counts - 1000).abs().max()) < 120
    assert torch.equal(minibatch(3, 7, 10, 100, "random"), drawn[700:800])
    assert int(minibatch(3, 0, 1 << 40, 4, "random").min()) > 1 << 20


def test_uniform_numbers_belong_to_their_positions():
    all_of_them = uniform(5, torch.arange(1000), 4)
    assert torch.equal(uniform(5, torch.tensor([700, 3]), 4), all_of_them[[700, 3]])
    assert not torch.equal(uniform(6, torch.arange(1000), 4), all_of_them)
    assert float(all_of_them.mean()) == pytest.approx(0.5, abs=0.02)
    assert len(all_of_them.unique()) == 4000
    # Neither neighbours nor neighbouring seeds go together.
    shifted = torch.corrcoef(torch.stack([all_of_them[:-1].flatten(), all_of_them[1:].flatten()]))[0, 1]
    seeds = torch.corrcoef(torch.stack([all_of_them.flatten(), uniform(6, torch.arange(1000), 4).flatten()]))[0, 1]
    assert abs(float(shifted)) < 0.06
    assert abs(float(seeds)) < 0.06


def test_float32_draws_stay_below_one():
    draws = torch.tensor([0.0, 0.3, 1.0 - 2.0**-24, 1.0 - 2.0**-26, 1.0 - 2.0**-53], dtype=torch.float64)
    assert draws.float()[3:].tolist() == [1.0, 1.0]
    assert to_float32(draws).tolist() == [*draws.float()[:3].tolist(), 1.0 - 2.0**-24, 1.0 - 2.0**-24]
    for count in (1, 3, 4, 400, 12345):
        assert int((to_float32(draws) * count).long().max()) == count - 1
    row = (0, torch.tensor([1605920]), 71)  # here one does round up
    assert float(uniform(*row).float().max()) == 1.0
    assert float(uniform_float32(*row).max()) < 1.0
    assert torch.equal(uniform_float32(0, torch.arange(100), 5), uniform(0, torch.arange(100), 5).float())


def test_counted_seeds_are_31_bits_and_differ():
    found = {counted_seed(seed, counter) for seed in range(50) for counter in range(100)}
    assert len(found) >= 4999  # of 5,000 draws from 2^31
    assert 0 <= min(found) < max(found) < 2**31
    assert max(found) > 2**30


def test_splits_are_disjoint_complete_and_fixed_by_their_seed():
    whole = Arrays({"number": torch.arange(10)})
    first, second = sources.split(whole, (0.3, 0.7), 1)
    numbers = [part.examples(torch.arange(len(part)))["number"] for part in (first, second)]
    assert [len(part) for part in numbers] == [3, 7]
    assert sorted(torch.cat(numbers).tolist()) == list(range(10))
    again, _ = sources.split(whole, (0.3, 0.7), 1)
    assert torch.equal(again.examples(torch.arange(3))["number"], numbers[0])
    assert len(sources.split(whole, (0.5,), 1)) == 1
    with pytest.raises(UserError, match="a part would be empty"):
        sources.split(whole, (0.01, 0.99), 1)
    with pytest.raises(UserError, match="together 1 or less"):
        sources.split(whole, (0.9, 0.9), 1)


def test_arrays_need_rows_of_one_number():
    rows = Arrays({"a": torch.arange(3), "b": torch.arange(6).view(3, 2)})
    assert rows.examples(torch.tensor([2, 0]))["b"].tolist() == [[4, 5], [0, 1]]
    with pytest.raises(ValueError, match="rows of one number"):
        Arrays({"a": torch.arange(3), "b": torch.arange(2)})


def test_missing_data_is_said_in_one_line(tmp_path, monkeypatch):
    monkeypatch.delenv(sources.VARIABLE, raising=False)
    with pytest.raises(UserError, match="MNIST: RLSUITE_DATA is not set"):
        sources.find_data("MNIST", ["mnist.npz"])
    monkeypatch.setenv(sources.VARIABLE, str(tmp_path / "absent"))
    with pytest.raises(UserError, match="there is no folder"):
        sources.find_data("MNIST", ["mnist.npz"])
    monkeypatch.setenv(sources.VARIABLE, str(tmp_path))
    with pytest.raises(UserError, match=r"holds none of mnist\.npz"):
        sources.find_data("MNIST", ["mnist.npz"])
    (tmp_path / "mnist.npz").touch()
    assert sources.find_data("MNIST", ["other", "mnist.npz"]) == tmp_path / "mnist.npz"
    with pytest.raises(UserError, match="split=validation"):
        sources.require_split("validation")
