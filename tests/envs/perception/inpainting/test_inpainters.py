"""Occluders and inpainters as perceivers: what is hidden, what is remembered, windows, files; in the loop."""

import pytest
import torch

import envs
from envs.perception.catalogue import PERCEPTIONS
from envs.perception.inpainting.alignment import checked, reversed_flow
from envs.perception.inpainting.classical import Fill, FillConfig, LastSeen, last_seen
from envs.perception.inpainting.clips import Panning
from envs.perception.inpainting.network import TSAMNetConfig
from envs.perception.inpainting.occluders import Hidden, HiddenConfig, Patch, PatchConfig
from envs.perception.inpainting.tsam import TSAM, TSAMConfig
from envs.perception.weights import choose_perceivers, save_perceiver
from envs.perception.wrapper import drawn_fields
from rlsuite.config.camera import CameraConfig
from rlsuite.errors import UserError
from rlsuite.methods import choose

TINY = TSAMNetConfig(width=8, depth=3)
FRESH = torch.zeros(1)


def watched(perceiver, frames, phases=None):
    """Return what a perceiver makes of frames (T, 3, H, W), one environment."""
    state, found = perceiver.init_state(1, tuple(frames.shape[-2:])), []
    for place, frame in enumerate(frames):
        phase = FRESH if phases is None else torch.tensor([phases[place]])
        made, state = perceiver({"rgb": frame[None], "phase": phase}, state)
        found.append(made)
    return found


def test_a_patch_hides_its_share_and_moves_slowly(generator):
    frames = torch.rand(60, 3, 20, 30, generator=generator)
    found = watched(Patch(config=PatchConfig(share=0.25, speed=2.0)), frames)
    holes = torch.cat([made["hole"] for made in found])[:, 0]
    assert {tuple(hole.shape) for hole in holes} == {(20, 30)}
    assert set(holes.sum(dim=(1, 2)).tolist()) == {150.0}  # 10 by 15
    corners = torch.stack([torch.stack([hole.nonzero().min(dim=0).values]) for hole in holes]).squeeze(1)
    assert 1 <= int((corners[1:] - corners[:-1]).abs().max()) <= 3
    for frame, made in zip(frames, found, strict=True):
        hidden = made["hole"][0, 0].bool()
        assert not made["rgb"][0][:, hidden].any()
        assert torch.equal(made["rgb"][0][:, ~hidden], frame[:, ~hidden])
    still = watched(Patch(config=PatchConfig(speed=0.0)), frames[:4])
    assert all(torch.equal(made["hole"], still[0]["hole"]) for made in still)


def test_a_patch_waits_between_camera_frames_and_is_elsewhere_in_other_episodes(generator):
    frames = torch.rand(6, 3, 20, 20, generator=generator)
    holes = [made["hole"] for made in watched(Patch(config=PatchConfig(speed=4.0)), frames, [0, 0.5, 0, 0.5, 0, 0.5])]
    assert all(torch.equal(holes[place], holes[place + 1]) for place in (0, 2, 4))
    assert not torch.equal(holes[0], holes[4])
    others = [
        watched(Patch(config=PatchConfig(seed=seed)), frames[place:])[0]["hole"]
        for seed, place in ((0, 0), (0, 1), (1, 0))
    ]
    assert not torch.equal(others[0], others[1])
    assert not torch.equal(others[0], others[2])


def test_named_geometries_are_a_hole():
    seen = {"rgb": torch.ones(1, 3, 2, 2), "ids": torch.tensor([[[[3, -1], [5, 4]]]]), "phase": FRESH}
    made, _ = Hidden(config=HiddenConfig(geoms=(3, 4)))(seen, {})
    assert made["hole"][0, 0].tolist() == [[1.0, 0.0], [0.0, 1.0]]
    assert made["rgb"][0, 2].tolist() == [[0.0, 1.0], [1.0, 0.0]]


def test_what_was_last_seen_stays():
    frames = torch.tensor([0.2, 0.4, 0.6]).view(1, 3, 1, 1, 1).expand(1, 3, 3, 2, 4).contiguous()
    hole = torch.zeros(1, 3, 1, 2, 4, dtype=torch.bool)
    hole[:, 1, ..., 0], hole[:, 2, ..., 0], hole[:, :, ..., 3] = True, True, True
    found = last_seen(frames, hole)
    torch.testing.assert_close(found[0, :, 0, 0, 0], torch.tensor([0.2, 0.2, 0.2]))
    torch.testing.assert_close(found[0, :, 0, 0, 1], torch.tensor([0.2, 0.4, 0.6]))
    assert float(found[0, 0, 0, 0, 3]) == pytest.approx(0.2, abs=1e-4)  # never seen: smooth filling
    truth = {"rgb": torch.ones(1, 3, 2, 4), "hole": torch.eye(4)[:2].view(1, 1, 2, 4)}
    metrics = Fill(config=FillConfig()).metrics({"rgb": truth["rgb"] - 0.1 * truth["hole"]}, truth)
    assert float(metrics["hole_psnr"]) == pytest.approx(20.0, abs=1e-3)
    assert float(metrics["psnr"]) == pytest.approx(20.0 + 6.0206, abs=1e-3)
    assert set(LastSeen(config=FillConfig()).init_state(2, (4, 4))) == {"picture", "ever"}


@torch.no_grad()
@pytest.mark.parametrize("flow", ["exact", "completed"])
def test_a_stream_is_filled_as_its_window(flow):
    clip = Panning(16, 4, hole=4, seed=3).examples(torch.arange(2))
    frames, known = clip["frames"].float() / 255, clip["known"]
    tsam = TSAM(config=TSAMConfig(network=TINY, window=3, flow=flow), seed=1).eval()
    state = tsam.init_state(2, (16, 16))
    phase = torch.zeros(2)
    for place in range(4):
        back = clip["backward"][:, place - 1] if place else torch.zeros(2, 2, 16, 16)
        seen = {"rgb": frames[:, place], "hole": (~known[:, place]).float(), "flow": back, "phase": phase}
        made, state = tsam(seen, state)
        again, same = tsam({**seen, "phase": phase + 0.5}, state)  # between two camera frames
        assert torch.equal(again["rgb"], made["rgb"])
        assert all(torch.equal(same[name], state[name]) for name in state)
    back = clip["backward"][:, 1:]  # the same everywhere, so completion finds it, too
    there = reversed_flow(back.flatten(0, 1)).view_as(back)
    expected = tsam.network(frames[:, 1:], known[:, 1:], checked(there, back))[:, -1]
    torch.testing.assert_close(made["rgb"], expected, atol=1e-4, rtol=0.0)
    assert torch.equal(made["rgb"][:, 0][known[:, 3, 0]], frames[:, 3, 0][known[:, 3, 0]])
    first, _ = tsam({**seen, "rgb": frames[:, 0]}, tsam.init_state(2, (16, 16)))  # a new episode knows nothing else
    alone = tsam.network(frames[:, [0] * 3], known[:, [3] * 3], checked(torch.zeros_like(back), torch.zeros_like(back)))
    torch.testing.assert_close(first["rgb"], alone[:, -1])


def test_flow_of_pictures_alone():
    pytest.importorskip("cv2", reason="OpenCV is not installed")
    clip = Panning(32, 2, hole=6, reach=2, seed=3).examples(torch.arange(1))
    tsam = TSAM(config=TSAMConfig(network=TINY, window=2, flow="found")).eval()
    state = tsam.init_state(1, (32, 32))
    nowhere = torch.full((1, 2, 32, 32), float("nan"))
    for place in range(2):
        hole = (~clip["known"][:, place]).float()
        seen = {"rgb": clip["frames"][:, place].float() / 255, "hole": hole, "flow": nowhere, "phase": FRESH}
        _, state = tsam(seen, state)
    assert bool(state["flow"].isfinite().all())


def test_learning_loses_less_and_weighs_its_parts():
    tsam = TSAM(config=TSAMConfig(network=TINY, adversarial=0.5, judge_width=4), seed=1)
    batch = tsam.source("textures", 32, 0).examples(torch.arange(4))
    optimizer, losses = torch.optim.Adam(tsam.parameters(), lr=3e-3), []
    for _ in range(15):
        parts = tsam.losses(batch)
        optimizer.zero_grad()
        parts["loss"].backward()
        optimizer.step()
        losses.append(float(parts["hole"].detach()))
    weighed = {"difference": 1.0, "hole": 6.0, "adversarial": 0.5, "judge": 1.0}
    found = {name: float(value.detach()) for name, value in parts.items()}
    assert found["loss"] == pytest.approx(sum(weight * found[name] for name, weight in weighed.items()), rel=1e-5)
    assert losses[-1] < 0.8 * losses[0]


@pytest.mark.parametrize(
    "numbers", [{"window": 1}, {"flow": "none"}, {"threshold": 0.0}, {"hole": -1.0}, {"style": 1.0}, {"judge_width": 0}]
)
def test_numbers_that_are_refused(numbers):
    with pytest.raises(UserError, match=r"use|need"):
        TSAMConfig(**numbers)


def test_other_numbers_that_are_refused():
    with pytest.raises(UserError, match="share="):
        PatchConfig(share=1.0)
    with pytest.raises(UserError, match="geoms="):
        HiddenConfig(geoms=())
    with pytest.raises(UserError, match="sweeps="):
        FillConfig(sweeps=0)


def test_who_names_no_hole_is_told_so():
    tsam, patch = TSAM(config=TSAMConfig(network=TINY)), Patch(config=PatchConfig())
    assert drawn_fields([patch, tsam], ("rgb",)) == ("rgb", "flow")
    with pytest.raises(UserError, match=r"hole: no camera draws it; .*inpainting/patch"):
        drawn_fields([tsam], ("rgb",))


def test_an_agent_sees_past_a_patch(tmp_path):
    pytest.importorskip("mujoco_warp", reason="mujoco-warp is not installed (extra: cameras)")
    (method,) = choose(PERCEPTIONS, ["tsam"], {"tsam.network.width": 8, "tsam.network.depth": 3, "tsam.window": 2})
    path = tmp_path / "tsam.safetensors"
    save_perceiver(path, method.build(seed=1), method)
    methods = choose_perceivers(["inpainting/patch", "inpainting/tsam"], {"tsam.weights": str(path)})
    env = envs.make_vector("Reacher", 2, num_threads=1, camera=CameraConfig(size=16, stack=1), perception=methods)
    _, info = env.reset(seed=0)
    assert info["perception/hole"].shape == (2, 1, 16, 16)
    kept = env.state()
    action = torch.tensor([[0.9, -0.5], [-0.7, 0.3]])
    after = [env.step(action)[0] for _ in range(3)]
    env.load_state(kept)
    assert all(torch.equal(env.step(action)[0], one) for one in after)
    env.close()
