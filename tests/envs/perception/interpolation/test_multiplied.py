"""More frames for a clip: how many, where cuts are, what becomes of frames that only repeat."""

import pytest
import torch

from envs.perception.interpolation.classical import Average
from envs.perception.interpolation.interpolator import InterpolatorConfig
from envs.perception.interpolation.stream import multiplied


def scene(seed, brightness=0.0):
    """A frame of a scene; brighter later on."""
    return 0.2 + 0.4 * torch.rand(3, 40, 40, generator=torch.Generator().manual_seed(seed)) + brightness


def levels(frames, factor, repeated_above=1.0):
    """How much brighter than its scene's first each new frame is, and of which scene, in order."""
    average = Average(config=InterpolatorConfig())
    found = []
    for frame in multiplied(frames, average, factor, repeated_above):
        differences = {name: (frame - scene(name)) for name in (1, 2)}
        name, apart = min(differences.items(), key=lambda item: float(item[1].std()))
        assert float(apart.std()) < 1e-6  # never a mixture of both
        found.append((name, round(float(apart.mean()), 4)))
    return found


def test_frames_in_between_and_the_last_one_repeats():
    frames = [scene(1), scene(1, 0.3), scene(1, 0.1)]
    assert [level for _, level in levels(frames, 2)] == [0.0, 0.15, 0.3, 0.2, 0.1, 0.1]
    assert [level for _, level in levels(frames, 3)] == [0.0, 0.1, 0.2, 0.3, 0.2333, 0.1667, 0.1, 0.1, 0.1]
    assert list(multiplied([], Average(config=InterpolatorConfig()), 2)) == []


def test_a_cut_spoils_no_other_pair():
    frames = [scene(1), scene(1, 0.2), scene(2), scene(2, 0.2)]
    expected = [(1, 0.0), (1, 0.1), (1, 0.2), (2, 0.0), (2, 0.0), (2, 0.1), (2, 0.2), (2, 0.2)]
    assert levels(frames, 2) == expected


def test_frames_that_repeat_are_made_anew():
    frames = [scene(1), scene(1), scene(1, 0.3)]
    assert [level for _, level in levels(frames, 2)] == [0.0, 0.0, 0.0, 0.15, 0.3, 0.3]
    assert [level for _, level in levels(frames, 2, 0.996)] == pytest.approx([0.0, 0.075, 0.15, 0.225, 0.3, 0.3])


def test_what_rests_before_a_cut_rests_until_it():
    frames = [scene(1), scene(1), scene(2), scene(2, 0.3)]
    expected = [(1, 0.0), (1, 0.0), (1, 0.0), (2, 0.0), (2, 0.0), (2, 0.15), (2, 0.3), (2, 0.3)]
    assert levels(frames, 2, 0.996) == expected


def test_a_long_rest_is_no_repetition():
    frames = [scene(1)] * 6 + [scene(1, 0.3)]
    found = [level for _, level in levels(frames, 2, 0.996)]
    assert len(found) == 14
    assert found[:7] == [0.0] * 7  # at most the last few frames of the rest move
    assert found[-2:] == [0.3, 0.3]
    assert len(levels([scene(1)] * 5, 2, 0.996)) == 10
