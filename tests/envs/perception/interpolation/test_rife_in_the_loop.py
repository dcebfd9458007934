"""RIFE between cameras and an agent, and cameras' frames to learn from."""

import pytest
import torch

import envs
from envs.perception.catalogue import PERCEPTIONS
from envs.perception.interpolation.network import RIFENetConfig
from envs.perception.interpolation.rife import RIFE, RIFEConfig
from envs.perception.recording import record
from envs.perception.weights import choose_perceivers, save_perceiver
from rlsuite.config.camera import CameraConfig
from rlsuite.errors import UserError
from rlsuite.methods import choose


def tiny(path):
    """A weights file of a tiny network, as perception= takes it."""
    (method,) = choose(
        PERCEPTIONS,
        ["rife"],
        {"rife.network.widths": [8, 8, 8], "rife.network.context": 2, "rife.network.timed": False},
    )
    save_perceiver(path, method.build(seed=1), method)
    return choose_perceivers(["rife"], {"rife.weights": str(path)})


@pytest.mark.parametrize("batch", [2, 5])
def test_a_row_is_the_same_in_any_company(batch, generator):
    rife = RIFE(config=RIFEConfig(network=RIFENetConfig(widths=(8, 8, 8), context=2), cut_below=-1.0)).eval()
    frames, time = torch.rand(2, batch, 3, 32, 32, generator=generator), torch.rand(batch, generator=generator)
    with torch.no_grad():
        together = rife.between(*frames, time)
        alone = torch.cat([rife.between(*frames[:, row : row + 1], time[row : row + 1]) for row in range(batch)])
    torch.testing.assert_close(together, alone)  # convolutions of other batches add in another order


def test_half_the_frames_and_the_state_comes_back_bit_for_bit(tmp_path):
    pytest.importorskip("mujoco_warp", reason="mujoco-warp is not installed (extra: cameras)")
    methods = tiny(tmp_path / "rife.safetensors")

    def made():
        camera = CameraConfig(size=32, every=2, stack=1)
        return envs.make_vector("Reacher", 2, num_threads=1, camera=camera, perception=methods)

    env, other = made(), made()
    action = torch.tensor([[0.9, -0.5], [-0.7, 0.3]])
    first, info = env.reset(seed=0)
    assert info["perception/delay"].tolist() == [0, 0]
    seen = [first, *(env.step(action)[0] for _ in range(3))]
    assert torch.equal(seen[0], seen[1])  # the oldest frame, until there is one that is two steps old
    assert torch.equal(seen[0], seen[2])
    assert not torch.equal(seen[3], seen[2])  # in between the frames of steps 0 and 2
    kept = env.state()
    after = [env.step(action)[0] for _ in range(4)]
    other.reset(seed=5)
    other.load_state(kept)
    assert all(torch.equal(other.step(action)[0], one) for one in after)
    assert env.step(action)[4]["perception/delay"].tolist() == [2, 2]
    env.close()
    other.close()


def test_clips_of_a_task(tmp_path):
    pytest.importorskip("mujoco_warp", reason="mujoco-warp is not installed (extra: cameras)")
    clips = record("Reacher", 32, 56, seed=0, num_envs=2)
    assert sorted(len(clip) for clip in clips) == [7, 7, 51, 51]  # an episode of 50 steps, and what is begun after it
    assert clips[0].shape == (51, 3, 32, 32)
    assert float((clips[0][1:].float() - clips[0][:-1].float()).abs().amax()) > 0
    again = record("Reacher", 32, 56, seed=0, num_envs=2)
    assert all(torch.equal(one, other) for one, other in zip(clips, again, strict=True))
    with pytest.raises(UserError, match="use more steps"):
        record("Reacher", 32, 3, seed=0, num_envs=2)
    with pytest.raises(UserError, match="no simulation of bodies"):
        record("Painting", 32, 10, seed=0)
