"""Tasks on any device and dtype: fed tensors of another device, a stray tensor of the host raises."""

import pytest
import torch
from host_waits import NoHostSync

import envs
from envs.catalogue import build, task_class
from envs.constants import constant
from envs.learning_to_run.shaping import TERMS
from envs.random import EnvironmentRandom
from envs.simulation.base import SelectedFields, moved
from envs.simulation.cpu import CpuSimulation
from envs.task import Task

TASKS = [
    name
    for name in envs.task_names()
    if not name.endswith("Dense") and issubclass(task_class(name), Task) and not build(name).starts_by_physics
]
META = torch.device("meta")


class ShapesOnly:
    """A simulation whose fields are float32 tensors without numbers."""

    device, dtype = META, torch.float32

    def __init__(self, task, num_envs):
        self.num_envs = num_envs
        self._real = CpuSimulation.of_task(task, num_envs, num_threads=1)
        self.facts = self._real.facts.moved(META, torch.float32)
        self.everyone = torch.arange(num_envs, device=META)
        self._fields = {}

    def field(self, name):
        if name not in self._fields:
            self._fields[name] = moved(self._real.field(name), META, torch.float32)
        return self._fields[name]

    def model_field(self, name):
        return moved(self._real.model_field(name), META, torch.float32)

    def chosen(self, mask):
        return None

    def reset(self, env_ids, qpos, qvel):
        assert (qpos.shape, qvel.shape) == (self.field("qpos").shape, self.field("qvel").shape)
        assert qpos.dtype == qvel.dtype == torch.float32

    def forward(self, env_ids, *, positions_only=False):
        pass

    def set_constants(self, env_ids):
        pass

    def step(self, substeps, env_ids=None):
        assert env_ids is None
        return {}


RUNNERS = [
    {"features": "ace", "max_obstacles": 20},
    {"features": "nnaisense"},
    {"features": "sj", "contact": "analytic", "muscles": "source", "shaping": tuple(TERMS)},
    {"features": "reason8", "difficulty": 0, "action_repeat": 4, "stale_bodies": True},
]


@pytest.mark.parametrize(
    ("name", "options"), [*((name, {}) for name in TASKS), *(("LearningToRun", options) for options in RUNNERS)]
)
def test_a_task_makes_no_tensor_where_its_fields_are_not(name, options):
    task = build(name, **options)
    simulation = ShapesOnly(task, 3)
    random = EnvironmentRandom(3, 0, device=META, dtype=torch.float32)

    def whole_step():
        with random.only(torch.ones(3, dtype=torch.bool, device=META)):
            task.begin(simulation, random, simulation.everyone)
        before = task.tracked(simulation).clone()
        action = torch.zeros(3, len(task.action_bounds(simulation.facts)[0]), device=META)
        task.actuate(simulation, action, random)
        assert task.physics(simulation) == {}
        task.after_step(simulation, random)
        outcome = task.outcome(simulation, before, task.tracked(simulation), action)
        seen = [task.observation(simulation), task.observation(SelectedFields(simulation, simulation.everyone))]
        return [*seen, outcome.reward, *outcome.info.values(), *task.reset_info(simulation).values()], outcome

    whole_step()  # constants are copied from the host once
    with NoHostSync():
        found, outcome = whole_step()
    assert all(value.device == META and value.dtype == torch.float32 and len(value) == 3 for value in found)
    assert (outcome.terminated.device, outcome.terminated.dtype) == (META, torch.bool)


def test_a_stray_tensor_of_the_host_raises():
    with pytest.raises(RuntimeError):
        torch.zeros(3, device=META) + torch.ones(3)


def test_constants_are_made_once_for_each_device_and_dtype():
    like = torch.zeros(1)
    first = constant((1.0, 2.5), like)
    assert first.tolist() == [1.0, 2.5]
    assert constant((1.0, 2.5), like) is first
    assert constant((1.0, 2.5), like.double()).dtype == torch.float64
    with torch.inference_mode():
        made = constant((3.0,), like)
    assert not made.is_inference()


def test_facts_move_with_all_that_they_hold():
    facts = CpuSimulation.of_task(build("FetchPush"), 1, num_threads=1).facts
    there = facts.moved(META, torch.float32)
    assert there.initial_qpos.dtype == torch.float32
    assert there.grip.chain.device == META
    assert there.fingers.position.dtype == torch.int64
    assert there.model is facts.model
    assert facts.initial_qpos.dtype == torch.float64
