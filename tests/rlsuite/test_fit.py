import itertools
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from torch import nn

from rlsuite.data.arrays import Arrays
from rlsuite.data.minibatches import minibatch
from rlsuite.data.source import split
from rlsuite.errors import UserError
from rlsuite.fit import FitConfig, NonFiniteLossError, Turn, fit, held_out_loss
from rlsuite.optim.choice import GroupConfig, OptimizerConfig, ScheduleConfig
from rlsuite.optim.mixing import MixingConfig
from rlsuite.records.checkpoint import save_checkpoint
from rlsuite.running.seeding import derive_seed


def examples(number=48):
    generator = torch.Generator().manual_seed(5)
    inputs = torch.rand(number, 3, generator=generator)
    noise = 0.1 * torch.randn(number, 1, generator=generator)
    return Arrays({"inputs": inputs, "truth": inputs.sum(dim=1, keepdim=True) + noise})


def network(dropout=0.0):
    torch.manual_seed(3)
    return nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Dropout(dropout), nn.Linear(8, 1))


def squared(module, batch):
    error = module(batch["inputs"]) - batch["truth"]
    return {"loss": error.square().mean(), "largest": error.abs().max()}


def tensors(module):
    return [value.clone() for value in module.state_dict().values()]


def equal(first, second):
    return all(torch.equal(one, other) for one, other in zip(first, second, strict=True))


def test_it_is_the_plain_loop_bit_for_bit():
    config = FitConfig(steps=25, batch_size=10, optimizer=OptimizerConfig(learning_rate=0.01), check_every=10)
    ours, plain, source = network(), network(), examples()
    history = fit(ours, squared, source, config, seed=4)
    optimizer, losses = torch.optim.Adam(plain.parameters(), 0.01, fused=True), []
    for step in range(25):
        batch = source.examples(minibatch(derive_seed(4, "minibatches 0"), step, 48, 10))
        loss = squared(plain, batch)["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.detach())
    assert equal(tensors(ours), tensors(plain))
    assert [record["step"] for record in history.records] == [10, 20, 25]
    assert history.records[2]["loss"] == pytest.approx(float(torch.stack(losses[20:]).mean()), rel=1e-6)
    assert (history.stopped, history.steps) == ("steps", 25)
    assert ours.training  # the mode it had


MIXINGS = {
    "none": MixingConfig(),
    "interpolatron": MixingConfig(kind="interpolatron"),
    "anderson": MixingConfig(kind="anderson", every=3, averaged=True, ridge=0.1),
}


@pytest.mark.parametrize(
    ("name", "mixing"),
    [("sgd", "interpolatron"), ("adam", "anderson"), *((name, "none") for name in ("sgd", "adam", "adamw", "rmsprop"))],
)
def test_a_fit_cut_in_two_ends_in_the_same_bits(name, mixing, tmp_path):
    """With dropout, a schedule, groups, mixtures and weights kept of the best measurement."""
    groups = (GroupConfig(names=("0.*",), learning_rate=0.02),)
    config = FitConfig(
        steps=40,
        batch_size=7,
        optimizer=OptimizerConfig(
            name=name, learning_rate=0.01, weight_decay=0.01, groups=groups, mixing=MIXINGS[mixing]
        ),
        schedule=ScheduleConfig(kind="cosine", warmup=5),
        clip_norm=1.0,
        held_out=0.2,
        patience=50,
        check_every=5,
        save_every=10,
    )
    whole, cut = network(0.3), network(0.3)
    expected = fit(whole, squared, examples(), config, seed=0)

    def stop(step, share):
        if step == 27:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(cut, squared, examples(), config, seed=0, hooks=(stop,), run_dir=tmp_path)
    fresh, seen = network(0.3), []
    hooks = (lambda *done: seen.append(done),)
    history = fit(fresh, squared, examples(), config, seed=0, hooks=hooks, run_dir=tmp_path)
    assert seen[0] == (20, 0.5)
    assert history == expected
    assert equal(tensors(fresh), tensors(whole))
    again = network(0.3)
    seen.clear()
    assert fit(again, squared, examples(), config, seed=0, hooks=hooks, run_dir=tmp_path) == history
    assert seen == [(40, 1.0)]  # it has ended: nothing is done again
    assert equal(tensors(again), tensors(whole))
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert len(lines) == 2 * 40 // 5


KILLED = """
import sys, time
from pathlib import Path
sys.path.insert(0, {tests!r})
import rlsuite
import torch
torch.set_num_threads(1)
from test_fit import LONG, examples, fit, network, squared
fit(network(0.3), squared, examples(), LONG, seed=0, hooks=(lambda *done: time.sleep(0.05),), run_dir=Path({folder!r}))
"""
LONG = FitConfig(steps=100, batch_size=7, check_every=5, save_every=10)


def test_a_killed_process_goes_on_to_the_same_bytes(tmp_path):
    text = KILLED.format(tests=str(Path(__file__).parent), folder=str(tmp_path))
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    process = subprocess.Popen([sys.executable, "-c", text], env=environment)
    latest = tmp_path / "checkpoints" / "latest"
    for _ in range(3000):
        if latest.exists() and int(latest.read_text() or 0) >= 20:
            break
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert 20 <= int(latest.read_text()) < 100
    resumed, whole = network(0.3), network(0.3)
    expected = fit(whole, squared, examples(), LONG, seed=0)
    assert fit(resumed, squared, examples(), LONG, seed=0, run_dir=tmp_path) == expected
    assert equal(tensors(resumed), tensors(whole))


def test_another_fit_is_not_continued(tmp_path):
    config = FitConfig(steps=6, check_every=2, save_every=2)
    fit(network(), squared, examples(), config, seed=0, run_dir=tmp_path)
    for changed, seed, source, words in (
        (FitConfig(steps=7, check_every=2, save_every=2), 0, examples(), "steps=7 (it was 6)"),
        (config, 1, examples(), "seed=1 (it was 0)"),
        (config, 0, examples(50), "examples=[50] (it was [48])"),
    ):
        with pytest.raises(UserError) as refused:
            fit(network(), squared, source, changed, seed=seed, run_dir=tmp_path)
        assert words in str(refused.value)
    with pytest.raises(UserError, match="holds another module"):
        fit(nn.Linear(3, 1), squared, examples(), config, seed=0, run_dir=tmp_path)
    fit(network(), squared, examples(), FitConfig(steps=6, check_every=2, save_every=99), seed=0, run_dir=tmp_path)
    with pytest.raises(UserError, match="not all that it was made with is the same"):
        fit(network(), squared, examples(), config, seed=0, run_dir=tmp_path, about={"noise": 3})
    fit(network(), squared, examples(), config, seed=0, run_dir=tmp_path / "noisy", about={"noise": 2})
    with pytest.raises(UserError, match=r"about\.noise=3 \(it was 2\)"):
        fit(network(), squared, examples(), config, seed=0, run_dir=tmp_path / "noisy", about={"noise": 3})
    (tmp_path / "other").mkdir()
    save_checkpoint(tmp_path / "other", 3, {"agent": {}}, {"config": {}})
    with pytest.raises(UserError, match="holds a run of another kind"):
        fit(network(), squared, examples(), config, seed=0, run_dir=tmp_path / "other")


def test_early_stop_puts_the_best_weights_back():
    """A held-out loss that first falls and then rises: five examples, noise learned by heart."""
    source = Arrays({"inputs": examples().tensors["inputs"][:10], "truth": torch.randn(10, 1)})
    config = FitConfig(
        steps=2000,
        batch_size=5,
        held_out=0.5,
        patience=5,
        check_every=10,
        optimizer=OptimizerConfig(learning_rate=0.03),
    )
    module = network()
    history = fit(module, squared, source, config, seed=1)
    held = [record["held_out"] for record in history.records]
    assert history.stopped == "early"
    assert len(held) == held.index(min(held)) + 6
    kept, _ = split(source, (0.5, 0.5), derive_seed(1, "held out"))
    assert held_out_loss(module, squared, kept, 3) == pytest.approx(min(held), rel=1e-5)


def test_turns_move_their_own_weights_on_their_own_examples():
    module = network()
    seen = {"inner": [], "outer": []}

    def loss(name):
        def squared_seen(module, batch):
            seen[name].append(len(batch["inputs"]))
            return {"loss": (module(batch["inputs"]) - batch["truth"]).square().mean()}

        return squared_seen

    before = {name: value.clone() for name, value in module.named_parameters()}
    turns = [
        Turn(
            name="inner",
            loss=loss("inner"),
            parameters=("0.*",),
            optimizer=OptimizerConfig(name="sgd", learning_rate=0.1),
        ),
        Turn(name="outer", loss=loss("outer"), parameters=("4.*",), source=examples(3)),
    ]
    history = fit(module, turns, examples(), FitConfig(steps=4, batch_size=5, check_every=4), seed=0)
    moved = {name.split(".")[0] for name, value in module.named_parameters() if not torch.equal(value, before[name])}
    assert moved == {"0", "4"}
    assert {"inner/loss", "outer/loss"} < set(history.records[0])
    assert seen == {"inner": [5] * 4, "outer": [5] * 4}
    with pytest.raises(UserError, match=r"names=5\.\*"):
        fit(module, [Turn(name="x", loss=squared, parameters=("5.*",))], examples(), FitConfig(steps=1), seed=0)
    with pytest.raises(ValueError, match="names of their own"):
        fit(module, [turns[0], turns[0]], examples(), FitConfig(steps=1), seed=0)


def test_hooks_carry_the_share_done():
    seen = []
    fit(network(), squared, examples(), FitConfig(steps=4), seed=0, hooks=(lambda *done: seen.append(done),))
    assert seen == [(0, 0.0), (1, 0.25), (2, 0.5), (3, 0.75), (4, 1.0)]


@pytest.mark.parametrize("factor", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_stops_it_even_if_it_recovers(factor):
    calls = itertools.count()

    def broken(module, batch):
        loss = squared(module, batch)["loss"]
        return {"loss": loss, "other": loss.detach() * (factor if next(calls) == 3 else 1)}

    with pytest.raises(NonFiniteLossError, match="other became non-finite by minibatch 10"):
        fit(network(), broken, examples(), FitConfig(steps=20, check_every=10), seed=0)


def test_weights_that_are_not_finite_are_not_handed_out():
    def explode(module, batch):
        return {"loss": module.weight.sum() * 1e38}

    config = FitConfig(steps=1, optimizer=OptimizerConfig(name="sgd", learning_rate=1e3, momentum=0.0))
    with pytest.raises(NonFiniteLossError, match="weight weight became non-finite"):
        fit(nn.Linear(3, 1), explode, examples(), config, seed=0)


def test_a_deadline_stops_it_and_a_later_one_goes_on(tmp_path):
    def config(seconds):
        return FitConfig(steps=12, check_every=100, deadline_s=seconds)

    def slow(step, share):
        time.sleep(0.05 if step < 4 else 0)

    first = fit(network(), squared, examples(), config(0.15), seed=0, hooks=(slow,), run_dir=tmp_path)
    assert first.stopped == "deadline"
    assert 0 < first.steps < 12
    assert fit(network(), squared, examples(), config(0.15), seed=0, run_dir=tmp_path).steps == first.steps
    module, whole = network(), network()
    assert fit(module, squared, examples(), config(60), seed=0, run_dir=tmp_path).stopped == "steps"
    fit(whole, squared, examples(), config(0), seed=0)
    assert equal(tensors(module), tensors(whole))


def test_torchs_own_stream_is_left_where_it_was():
    module = network(0.5)
    torch.manual_seed(7)
    expected = torch.rand(1)
    torch.manual_seed(7)
    fit(module, squared, examples(), FitConfig(steps=2), seed=0)
    assert torch.equal(torch.rand(1), expected)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"steps": 0}, "steps=0: use 1 or more"),
        ({"order": "sorted"}, "order=sorted"),
        ({"patience": 3}, "it needs held_out="),
        ({"held_out": 1.0}, "held_out=1.0"),
        ({"clip_norm": -1.0}, "clip_norm=-1.0"),
    ],
)
def test_bad_numbers_are_refused(changes, words):
    with pytest.raises(UserError, match=words):
        FitConfig(**changes)


def test_too_few_examples_are_refused():
    with pytest.raises(UserError, match="a part would be empty"):
        fit(network(), squared, examples(3), FitConfig(held_out=0.01), seed=0)
