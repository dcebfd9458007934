"""Interpolators as perceivers: the clock, cuts, ends, rows apart; classical ones by hand; RIFE's numbers."""

import pytest
import torch

from envs.perception.catalogue import PERCEPTIONS
from envs.perception.interpolation.classical import DIS, Average, DISConfig, Repeat
from envs.perception.interpolation.interpolator import Interpolator, InterpolatorConfig, likeness, scene_likeness
from envs.perception.interpolation.network import RIFENetConfig
from envs.perception.interpolation.rife import RIFE, SHIPPED, RIFEConfig
from envs.perception.weights import build_perceiver, choose_perceivers, save_perceiver
from rlsuite.errors import UserError
from rlsuite.methods import choose

NO_CUTS = InterpolatorConfig(cut_below=-1.0)
TINY = RIFENetConfig(widths=(8, 8, 8), context=2)


def flat(*values):
    return torch.tensor(values).view(-1, 1, 1, 1).expand(-1, 3, 12, 12).contiguous()


def shown(perceiver, frames, every, steps):
    """Grey levels shown at each step to one environment whose camera sees flat frames."""
    state, found = perceiver.init_state(1, (12, 12)), []
    for step in range(steps):
        seen = {"rgb": flat(frames[step // every]), "phase": torch.tensor([step % every / every])}
        fields, state = perceiver(seen, state)
        found.append(round(float(fields["rgb"][0, 0, 0, 0]), 5))
    return found


def test_what_is_shown_was_one_camera_frame_ago():
    average = Average(config=NO_CUTS)
    assert shown(average, [0.0, 0.4, 0.8, 0.2], 2, 8) == [0.0, 0.0, 0.0, 0.2, 0.4, 0.6, 0.8, 0.5]
    assert shown(average, [0.0, 0.3, 0.6], 3, 9) == [0.0, 0.0, 0.0, 0.0, 0.1, 0.2, 0.3, 0.4, 0.5]
    assert shown(average, [0.1, 0.3, 0.5], 1, 3) == [0.1, 0.1, 0.3]
    assert shown(Repeat(config=NO_CUTS), [0.0, 0.4, 0.8], 2, 6) == [0.0, 0.0, 0.0, 0.4, 0.4, 0.8]


def test_rows_have_clocks_and_episodes_of_their_own():
    average = Average(config=NO_CUTS)
    state = average.init_state(2, (12, 12))
    _, state = average({"rgb": flat(0.2, 0.2), "phase": torch.tensor([0.0, 0.0])}, state)
    _, state = average({"rgb": flat(0.6, 0.6), "phase": torch.tensor([0.0, 0.0])}, state)
    fresh = average.init_state(2, (12, 12))
    state = {name: torch.stack([value[0], fresh[name][1]]) for name, value in state.items()}  # row 1 begins anew
    before = {name: value.clone() for name, value in state.items()}
    fields, after = average({"rgb": flat(0.6, 0.9), "phase": torch.tensor([0.5, 0.0])}, state)
    assert [round(float(value), 5) for value in fields["rgb"][:, 0, 0, 0]] == [0.4, 0.9]
    assert after["seen"].tolist() == [2, 1]
    assert all(torch.equal(before[name], state[name]) for name in state)  # arguments are left as they are
    assert {name: (value.shape, value.dtype) for name, value in after.items()} == {
        name: (value.shape, value.dtype) for name, value in state.items()
    }


def test_likeness_of_frames(generator):
    one, other = torch.rand(2, 1, 3, 64, 64, generator=generator)
    assert float(likeness(one, one)) == pytest.approx(1.0)
    assert float(scene_likeness(one, other)) < 0.2
    panned = torch.roll(one, (6, -10), dims=(2, 3))  # exactly (3, -5) of the small picture's pixels
    assert float(likeness(one, panned)) < 0.2
    assert float(scene_likeness(one, panned)) == pytest.approx(1.0)
    both = scene_likeness(torch.cat([one, one]), torch.cat([other, panned]))
    assert both.tolist() == pytest.approx([float(scene_likeness(one, other)), 1.0])


def test_nothing_is_made_across_a_cut_and_ends_are_the_frames(generator):
    first, second = torch.rand(2, 4, 3, 40, 40, generator=generator)
    average = Average(config=InterpolatorConfig())
    time = torch.tensor([0.0, 0.3, 0.5, 1.0])
    found = average.interpolated(first, second, time)
    assert torch.equal(found, torch.stack([first[0], first[1], second[2], second[3]]))
    near = (first + 0.05).clamp(max=1.0)
    found = average.interpolated(first, near, time)
    assert torch.equal(found[[0, 3]], torch.stack([first[0], near[3]]))
    torch.testing.assert_close(found[1], 0.7 * first[1] + 0.3 * near[1])


def panned(shift, bar=False):
    """Two frames of a smooth texture that moves, and the one in between; with a thin bar on grey instead."""
    random = torch.Generator().manual_seed(0)
    wide = torch.nn.functional.interpolate(
        torch.rand(1, 3, 24, 36, generator=random), size=(96, 144), mode="bicubic"
    ).clamp(0, 1)
    if bar:
        wide = torch.full((1, 3, 96, 144), 0.4)
        wide[..., 60:62] = 1.0
    return [wide[..., 20 - place : 116 - place].contiguous() for place in (0, shift // 2, shift)]


def decibels(found, truth):
    inside = (found - truth)[..., 12:-12, 12:-12]
    return float(-10 * inside.square().mean().clamp_min(1e-10).log10())


SHIPS = pytest.mark.skipif(
    not SHIPPED.is_file(), reason="no weights are shipped; docs/methods/rife.md says how to train"
)
LEARNED = pytest.param("rife", marks=SHIPS)


@pytest.mark.parametrize("shift", [2, 6])
@pytest.mark.parametrize(("name", "above"), [("dis", 20.0), pytest.param("rife", 2.0, marks=SHIPS)])
def test_pans(name, above, shift):
    first, middle, second = panned(shift)
    found = build_perceiver(choose_perceivers([name])[0]).interpolated(first, second, torch.tensor([0.5]))
    assert decibels(found, middle) > decibels((first + second) / 2, middle) + above


@pytest.mark.parametrize("name", ["dis", LEARNED])
def test_a_thin_bar_is_no_worse_than_two_pale_ones(name):
    first, middle, second = panned(4, bar=True)
    found = build_perceiver(choose_perceivers([name])[0]).interpolated(first, second, torch.tensor([0.5]))
    assert decibels(found, middle) > decibels((first + second) / 2, middle)


def test_flow_of_dis_leads_to_both_frames():
    first, middle, second = panned(6)
    dis = DIS(config=DISConfig())
    for time in (0.25, 0.5):
        flow = dis.flow(first, second, torch.tensor([time]))[0, :, 30:66, 30:66].flatten(1).median(dim=1).values
        torch.testing.assert_close(flow, torch.tensor([-6 * time, 0.0, 6 * (1 - time), 0.0]), atol=0.15, rtol=0.0)
    assert middle.shape == first.shape


def test_time_runs_from_the_first_frame_to_the_second():
    rife = RIFE(config=RIFEConfig(network=TINY, cut_below=-1.0)).eval()
    first, second = torch.rand(2, 1, 3, 40, 40)
    ends = rife.interpolated(first.repeat(2, 1, 1, 1), second.repeat(2, 1, 1, 1), torch.tensor([0.0, 1.0]))
    assert torch.equal(ends, torch.cat([first, second]))


class Halving(RIFE):
    """Whose network is the average, and counts its calls."""

    calls = 0

    def _once(self, first, second, time):
        self.calls += 1
        assert set(time.tolist()) == {0.5}
        return 0.5 * (first + second)


def test_weights_that_know_the_middle_halve_their_way():
    halving = Halving(config=RIFEConfig(network=RIFENetConfig(widths=(8, 8, 8), context=2, timed=False)))
    found = halving.between(flat(0.0, 0.0, 0.0), flat(1.0, 1.0, 1.0), torch.tensor([0.25, 0.5, 0.875]))
    torch.testing.assert_close(found[:, 0, 0, 0], torch.tensor([0.25, 0.5, 0.875]))
    assert halving.calls == 3
    third = halving.between(flat(0.0), flat(1.0), torch.tensor([1 / 3]))
    assert float(third[0, 0, 0, 0]) == pytest.approx(1 / 3, abs=1 / 16)
    halving.calls = 0
    halving.between(flat(0.0), flat(1.0), torch.tensor([0.5]))
    assert halving.calls == 1


def test_turned_averages_both_views():
    plain, turned = (RIFE(config=RIFEConfig(network=TINY, turned=value)).eval() for value in (False, True))
    first, second, time = torch.rand(1, 3, 64, 64), torch.rand(1, 3, 64, 64), torch.tensor([0.3])
    upside_down = plain.between(first.flip((2, 3)), second.flip((2, 3)), time).flip((2, 3))
    expected = 0.5 * (plain.between(first, second, time) + upside_down)
    torch.testing.assert_close(turned.between(first, second, time), expected)
    torch.testing.assert_close(
        turned.between(first.flip((2, 3)), second.flip((2, 3)), time).flip((2, 3)), expected
    )  # it treats both views alike


def test_learning_loses_less_and_its_parts_are_the_papers():
    torch.manual_seed(0)
    rife = RIFE(config=RIFEConfig(network=TINY, distillation=0.01, true_flow=0.05))
    first, middle, second = (frame[..., 16:80, 16:80] for frame in panned(4))
    flow = torch.tensor([-2.0, 0.0, 2.0, 0.0]).view(1, 4, 1, 1).expand(1, 4, 64, 64)
    batch = {"first": first, "middle": middle, "second": second, "time": torch.tensor([0.5]), "flow": flow}
    optimizer = torch.optim.AdamW(rife.parameters(), lr=3e-3)
    losses = []
    for _ in range(20):
        parts = rife.losses(batch)
        optimizer.zero_grad()
        parts["loss"].backward()
        optimizer.step()
        losses.append(float(parts["loss"].detach()))
    weighed = {"reconstruction": 1.0, "teacher": 1.0, "distillation": 0.01, "end_point_error": 3 * 0.05}  # a stage
    found = {name: float(value.detach()) for name, value in parts.items()}
    assert found["loss"] == pytest.approx(sum(w * found[name] for name, w in weighed.items()), rel=1e-5)
    assert losses[-1] < 0.8 * losses[0]
    assert set(RIFE(config=RIFEConfig(network=TINY, distillation=0.0)).losses(batch)) == {"loss", "reconstruction"}


def test_coarse_blocks_learn_first():
    rife = RIFE(config=RIFEConfig(network=TINY, distillation=0.0, true_flow=0.1, coarse_first=True))
    first, middle, second = panned(4)
    batch = {"first": first, "middle": middle, "second": second, "time": torch.tensor([0.5])}
    with pytest.raises(UserError, match="true_flow"):
        rife.losses(batch)
    batch["flow"] = torch.zeros(1, 4, 96, 96)

    def moved(share):
        rife.zero_grad()
        rife.progress(share)
        rife.losses(batch)["loss"].backward()
        parts = [*rife.network.flow_net.blocks, rife.network.fusion]
        return [any(weight.grad is not None for weight in part.parameters()) for part in parts]

    assert moved(0.0) == moved(0.49) == [True, False, False, False]
    assert moved(0.5) == moved(0.69) == [True, True, False, False]
    assert moved(0.7) == [True, True, True, False]
    assert moved(0.92) == moved(1.0) == [True, True, True, True]


def test_a_file_holds_numbers_and_network_and_no_teacher(tmp_path):
    (method,) = choose(PERCEPTIONS, ["rife"], {"rife.network.widths": [8, 8, 8], "rife.network.context": 2})
    rife = method.build(seed=5)
    path = tmp_path / "rife.safetensors"
    save_perceiver(path, rife, method)
    (named,) = choose_perceivers(["rife"], {"rife.weights": str(path), "rife.fineness": 2.0})
    loaded = build_perceiver(named)
    assert named.config.network == TINY
    frames, time = torch.rand(2, 2, 3, 40, 40), torch.tensor([0.5, 0.2])
    with torch.no_grad():
        again = rife.network(*frames, time, 2.0)
    assert torch.equal(loaded.between(*frames, time), again)


def test_equal_seeds_equal_bits_and_metrics():
    one, same, other = (RIFE(config=RIFEConfig(network=TINY), seed=seed).state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert not torch.equal(one["network.fusion.head.weight"], other["network.fusion.head.weight"])
    found = Interpolator(config=NO_CUTS).metrics({"rgb": flat(0.5, 0.5)}, {"rgb": flat(0.5, 0.6)})
    assert [round(float(value), 3) for value in found["psnr"]] == [100.0, 20.0]
    assert float(found["ssim"][0]) == pytest.approx(1.0)


@pytest.mark.parametrize(
    "numbers", [{"fineness": 0.3}, {"distillation": -1.0}, {"coarse_first": True}, {"cut_below": float("nan")}]
)
def test_numbers_that_are_refused(numbers):
    with pytest.raises(UserError, match=r"use|needs"):
        RIFEConfig(**numbers)
