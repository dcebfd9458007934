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


def test_a_pixel_clone_is_taught_once_by_its_teacher(tmp_path, monkeypatch):
    ran = []

    class Kept(Jobs):
        def run(self, jobs):
            ran.extend(jobs)

    monkeypatch.setattr(subjects, "Jobs", Kept)
    monkeypatch.setattr(subjects, "train_all", lambda runs, jobs: {name: tmp_path / name for name in runs})
    (path,) = subjects.pixel_clones(["reacher_pixels"], Jobs(tmp_path, parallel=0)).values()
    (job,) = ran
    assert path == tmp_path / "reacher_pixels_teacher" / "pixels.safetensors"
    assert job.words[1:3] == (str(subjects.CLONE), f"run={path.parent}")
    assert job.words[-1] == f"output={path}"
    assert subjects.CLONE.exists()
    path.parent.mkdir()
    path.touch()
    assert list(subjects.pixel_clones(["reacher_pixels"], Jobs(tmp_path, parallel=0))) == ["reacher_pixels"]
    assert len(ran) == 1
    with pytest.raises(UserError, match="unknown subject 'reacher_pixel'"):
        subjects.pixel_clones(["reacher_pixel"], Jobs(tmp_path, parallel=0))
