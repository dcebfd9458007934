"""Sources whose every draw is as near to 1 as float64 has it: what is chosen by it is the last there is."""

import pytest
import torch

from envs.perception.actions.rollouts import rollouts
from envs.perception.codec import clips as codec
from envs.perception.detection.scenes import SceneConfig, Scenes
from envs.perception.inpainting import clips as inpainting
from envs.perception.inpainting.masks import holes
from envs.perception.interpolation.moving import MovingPictures
from envs.perception.segmentation.digit_clips import DigitClips
from envs.perception.tracking.moving_objects import LookAlikes, LookAlikesConfig
from rlsuite.data import counters

ROW = torch.tensor([3])
TEXTURES = torch.zeros(6, 3, 24, 24, dtype=torch.uint8)


@pytest.fixture
def highest(monkeypatch):
    monkeypatch.setattr(counters, "to_unit", lambda bits: torch.full(bits.shape, 1.0 - 2.0**-53, dtype=torch.float64))


@pytest.mark.parametrize(
    "made",
    [
        lambda: MovingPictures(TEXTURES, 16).examples(ROW)["first"],
        lambda: codec.MovingClips(TEXTURES, 16, length=3).examples(ROW)["frames"],
        lambda: inpainting.Panning(24, 3).examples(ROW)["frames"],
        lambda: inpainting.MovingClips(MovingPictures(TEXTURES, 16), 3).examples(ROW)["frames"],
        lambda: holes(0, ROW, 3, (16, 16)),
        lambda: LookAlikes(LookAlikesConfig(size=16)).clips(ROW, 2)["frames"],
        lambda: DigitClips("test", 32, frames=3).examples(ROW)["frames"],
        lambda: rollouts(ROW, 0, 2).boxes(),
    ],
)
def test_no_choice_lies_beyond_the_last(highest, made):
    assert len(made()) == 1


def test_what_is_chosen_is_the_last(highest):
    config = SceneConfig(height=32, width=32, fewest=1, most=3, smallest=4.0, largest=8.0)
    found = Scenes(config).examples(ROW)
    assert int((found["classes"] >= 0).sum()) == 3
    assert set(found["classes"].flatten().tolist()) == {2}
    velocity = inpainting.Panning(24, 3, reach=4).examples(ROW)["forward"]
    assert velocity.unique().tolist() == [4.0]
    clip = DigitClips("test", 32, frames=3).examples(ROW)
    assert (int(clip["current"]), int(clip["reference"])) == (2, 1)
