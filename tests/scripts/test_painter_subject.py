"""The painter as a subject: its own strokes, unseen scenes, and a score that is that of its paintings."""

import numpy as np
import pytest
import torch

from agents.painter.agent import actor_state
from agents.painter.networks import coordinate_maps
from agents.painter.weights import load_painter
from envs.evaluation.recipe import build_base
from envs.painting.environment import unpack
from rlsuite.metrics.pictures import psnr
from scripts.experiments.painter_subject import PaintingTask, learned_scenes, painter_subject, scored_scenes


@pytest.fixture(scope="module")
def subject():
    return painter_subject(scenes=3, states=70)


def test_it_gives_the_shipped_painters_strokes(subject):
    painter = load_painter()
    generator = torch.Generator().manual_seed(0)
    observation = torch.randint(256, (5, 6 * 32 * 32 + 1), generator=generator, dtype=torch.uint8)
    observation[:, 3 * 32 * 32] %= 4
    state = actor_state(unpack(observation), 4, coordinate_maps(32))
    with torch.no_grad():
        torch.testing.assert_close(subject.module(state), painter.act(observation), rtol=0, atol=1e-6)
    assert [value.shape for value in build_base(subject.base).state_dict().values()] == [
        value.shape for value in subject.module.state_dict().values()
    ]
    assert subject.output().shape == (1, 65)


def test_scores_are_those_of_the_paintings(subject):
    task, painted = subject.task, []
    pictures = scored_scenes(3, 32, 0)
    assert isinstance(task, PaintingTask)
    scores = task.score(subject.module, 0)
    assert scores.shape == (3,)
    assert np.array_equal(scores, task.score(subject.module, 0))
    task.paint(subject.module, pictures, lambda state, action: painted.append(state))
    assert torch.equal(painted[0][:, 3:6], pictures.float() / 255)
    assert not painted[0][:, :3].any()
    before_last = psnr(painted[-1][:, :3], painted[-1][:, 3:6]).numpy()
    black = psnr(torch.zeros(3, 3, 32, 32), pictures.float() / 255).numpy()
    assert (scores > black + 3).all()
    assert (scores > before_last - 1).all()
    assert task.floor == pytest.approx(black.mean(), abs=1e-4)
    assert scores.mean() > 15


def test_scenes_scored_on_are_none_of_those_learned_from():
    scored, learned = scored_scenes(3, 32, 0), learned_scenes(17, 32, 0)
    assert scored.shape == (3, 3, 32, 32)
    assert learned.shape == (17, 3, 32, 32)
    assert not torch.equal(scored, scored_scenes(3, 32, 1))
    assert not torch.equal(learned[:3], scored)


def test_students_learn_the_teachers_strokes_where_they_go(subject):
    task = subject.task
    with torch.no_grad():
        errors = [task.loss(subject.module, task.source("test").examples(torch.arange(70)))]
    for source in (task.source("train"), task.visited(lambda state: torch.full((len(state), 65), 0.5), 3)):
        found = source.examples(torch.arange(70))
        assert len(source) == 70
        with torch.no_grad():
            torch.testing.assert_close(found["action"], subject.module(found["input"]), rtol=0, atol=1e-6)
            errors.append(task.loss(subject.module, found))
    assert float(torch.cat(errors).max()) < 1e-9
