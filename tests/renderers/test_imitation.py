import dataclasses

import pytest
import torch

from renderers.bezier import draw_exact
from renderers.imitation import ImitationConfig, Strokes, fit_config, train_renderer, validation_error
from renderers.neural import NeuralRenderer
from rlsuite.data.minibatches import minibatch
from rlsuite.running.seeding import derive_seed

CONFIG = ImitationConfig(
    size=32, steps=6, batch_size=4, pool=20, circles=10, validation=6, learning_rates=(3e-4, 1e-4), milestones=(4,)
)


@pytest.mark.parametrize("pool", [0, 20])
def test_training_is_the_plain_loop_bit_for_bit(pool):
    config = dataclasses.replace(CONFIG, pool=pool)
    reports = []
    renderer, error = train_renderer(config, lambda *seen: reports.append(seen), every=3)
    plain = NeuralRenderer(32, generator=torch.Generator().manual_seed(1))
    optimizer = torch.optim.Adam(plain.parameters(), 3e-4, fused=True)
    strokes = Strokes(config, derive_seed(0, "strokes"))
    for step in range(6):
        if step == 4:
            optimizer.param_groups[0]["lr"] = 1e-4
        pick = minibatch(derive_seed(0, "minibatches 0"), step, pool or len(strokes), 4, "random")
        batch = strokes.examples(pick)
        loss = (plain(batch["shape"]) - batch["truth"]).square().mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
    assert all(torch.equal(one, other) for one, other in zip(renderer.parameters(), plain.parameters(), strict=True))
    assert [step for step, _ in reports] == [3, 6]
    assert reports[-1][1] == error
    seen = Strokes(config, derive_seed(0, "validation")).examples(torch.arange(6))
    assert validation_error(renderer, **seen) == error


def test_strokes_are_the_same_whenever_they_are_asked_for():
    strokes = Strokes(CONFIG, 3)
    together, alone = strokes.examples(torch.tensor([7, 1 << 39])), strokes.examples(torch.tensor([1 << 39]))
    assert torch.equal(together["shape"][1:], alone["shape"])
    assert torch.equal(together["truth"][1:], draw_exact(alone["shape"], 32, brush="bezier", circles=10))


def test_a_training_that_was_interrupted_goes_on(tmp_path):
    def stop(step, _):
        if step == 12:
            raise KeyboardInterrupt

    config = dataclasses.replace(CONFIG, steps=20)
    with pytest.raises(KeyboardInterrupt):
        train_renderer(config, stop, every=1, run_dir=tmp_path)
    seen: list[int] = []
    resumed, _ = train_renderer(config, lambda step, _: seen.append(step), every=1, run_dir=tmp_path)
    assert seen[0] == 10  # the last checkpoint
    expected, _ = train_renderer(config, every=1)
    assert all(torch.equal(one, other) for one, other in zip(resumed.parameters(), expected.parameters(), strict=True))


def test_the_last_learning_rate_is_the_last_one_named():
    schedule = fit_config(CONFIG).schedule
    assert [3e-4 * schedule.factor(step, 6) for step in (0, 3, 4, 5)] == pytest.approx([3e-4, 3e-4, 1e-4, 1e-4])
    assert fit_config(dataclasses.replace(CONFIG, learning_rates=(1e-3,), milestones=())).schedule.kind == "constant"
