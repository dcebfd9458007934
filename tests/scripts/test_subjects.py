"""Policies that experiments share: trained once, kept apart from the experiments, and judged as any policy is."""

import pytest

from agents.subject import JudgeConfig
from rlsuite.errors import UserError
from rlsuite.experiment.jobs import Jobs
from scripts.experiments import subjects


def test_a_short_training_is_kept_with_the_experiment_and_judged(tmp_path):
    jobs = Jobs(tmp_path / "jobs", parallel=0)
    found = subjects.trained_subjects(["hopper_td3"], jobs, steps=300)
    (run,) = found.values()
    assert run.parent == tmp_path / "jobs"
    assert subjects.trained_subjects(["hopper_td3"], jobs, steps=300) == found
    subject = subjects.subject_of(run, JudgeConfig(episodes=2, states=64, num_threads=1), seed=1)
    assert "policy" in subject.traits
    assert subject.example.shape == (1, 11)
    assert subject.task.score(subject.module, 0).shape == (2,)


def test_unknown_subjects_are_refused(tmp_path):
    with pytest.raises(UserError, match="unknown subject 'hoper_td3'"):
        subjects.trained_subjects(["hoper_td3"], Jobs(tmp_path, parallel=0))


def test_whole_trainings_have_a_folder_of_their_own(tmp_path, monkeypatch):
    asked = {}
    monkeypatch.setattr(subjects, "train_all", lambda runs, jobs: asked.update(runs=runs, folder=jobs.folder) or {})
    subjects.trained_subjects(["half_cheetah_td3"], Jobs(tmp_path, parallel=0))
    assert asked["folder"] == subjects.FOLDER
    assert "steps=100000" in asked["runs"]["half_cheetah_td3"]
    assert not any("preset" in word for word in asked["runs"]["half_cheetah_td3"])
