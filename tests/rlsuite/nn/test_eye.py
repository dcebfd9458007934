"""Eyes of off-policy agents: shifts by hand, features in range."""

import torch

from rlsuite.nn.eye import Eye, EyeConfig, random_shift


def test_shifts_are_whole_pixels_with_the_border_repeated(generator):
    pictures = torch.arange(2 * 3 * 5 * 6, dtype=torch.uint8).view(2, 3, 5, 6)
    draws = generator.get_state()
    moves = torch.randint(-2, 3, (2, 2, 1), generator=generator)
    generator.set_state(draws)
    moved = random_shift(pictures, 2, generator)
    for row in range(2):
        down, right = moves[0, row].item(), moves[1, row].item()
        for y in range(5):
            for x in range(6):
                source = pictures[row, :, min(max(y - down, 0), 4), min(max(x - right, 0), 5)]
                assert torch.equal(moved[row, :, y, x], source)
    assert moved.dtype == torch.uint8


def test_every_shift_comes_and_pictures_shift_apart(generator):
    column = torch.arange(9, dtype=torch.uint8).expand(400, 1, 9, 9)
    middle = random_shift(column, 2, generator)[:, 0, 4, 4].long()
    counts = torch.bincount(middle, minlength=9)
    assert counts[2:7].min() > 40
    assert counts.sum() == counts[2:7].sum()


def test_features_of_any_leading_axes(generator):
    eye = Eye((3, 16, 16), EyeConfig(features=7), seed=0)
    pictures = torch.randint(256, (2, 4, 3, 16, 16), dtype=torch.uint8, generator=generator)
    features = eye(pictures)
    assert features.shape == (2, 4, 7)
    assert features.abs().max() <= 1.0
    assert torch.allclose(features[1], eye(pictures[1]), atol=1e-6)
    assert torch.equal(Eye((3, 16, 16), EyeConfig(features=7), seed=0)(pictures), features)
    still = Eye((3, 16, 16), EyeConfig(features=7, shift=0), seed=0)
    assert torch.equal(still.learn(pictures, generator), features)
    assert not torch.equal(eye.learn(pictures, generator), features)
