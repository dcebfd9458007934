"""The runner's parts: muscle paths and curves, joint stops, kinematics, contacts, each against something plainer."""

import math

import mujoco
import numpy as np
import pytest
import torch

import envs
from envs.learning_to_run.contact import PLACE, contact_forces
from envs.learning_to_run.dynamics import current_pose, runner_facts
from envs.learning_to_run.ligaments import stop_effort, stop_torque
from envs.learning_to_run.muscles import CURVES, PARAMETERS, Muscles, activated
from envs.learning_to_run.path_points import MUSCLES
from envs.learning_to_run.paths import AT_ANKLE, AT_HIP, AT_KNEE, ORDER, MusclePaths
from scripts.benchmarks.runner_plain import PlainRunner


def random_joints(count, seed=0):
    """Angles (2, 3, count) over all that a runner may do."""
    generator = torch.Generator().manual_seed(seed)
    low = torch.tensor([-1.5, -2.7, -1.0], dtype=torch.float64).view(1, 3, 1)
    high = torch.tensor([2.4, 0.5, 0.7], dtype=torch.float64).view(1, 3, 1)
    return low + (high - low) * torch.rand(2, 3, count, generator=generator, dtype=torch.float64)


def test_lengths_are_those_of_the_lines_through_the_points():
    joints = random_joints(150)
    length = MusclePaths()(joints).length
    plain = PlainRunner()
    for leg in (0, 1):
        for index in range(joints.shape[2]):
            angles = dict(zip(("hip", "knee", "ankle"), joints[leg, :, index].tolist(), strict=True))
            for place, muscle in enumerate(ORDER):
                assert float(length[leg, place, index]) == pytest.approx(plain.length(muscle, angles), abs=1e-8)


def test_derivatives_are_those_of_the_lengths():
    paths, joints, near = MusclePaths(), random_joints(400), 1e-6
    state = paths(joints)
    for joint, (muscles, rate) in enumerate(
        ((AT_HIP, state.by_hip), (AT_KNEE, state.by_knee), (AT_ANKLE, state.by_ankle))
    ):
        shift = torch.zeros(1, 3, 1, dtype=torch.float64)
        shift[0, joint] = near
        change = (paths(joints + shift).length - paths(joints - shift).length) / (2 * near)
        others = [index for index in range(9) if index not in range(9)[muscles]]
        assert not change[:, others].any()
        error = (change[:, muscles] - rate).abs()
        assert float(error.median()) < 1e-8
        # A difference over a place where a path takes another point is none.
        assert float((error > 1e-6).double().mean()) < 0.001


def test_moment_arms_of_a_bent_knee():
    """At hip 0, knee -20 degrees, ankle 0; centimetres; the knee's are of extension."""
    joints = torch.zeros(2, 3, 1, dtype=torch.float64)
    joints[:, 1] = math.radians(-20.0)
    state = MusclePaths()(joints)
    expected = {
        "hamstrings": (-4.9, -3.8, 0.0),
        "bifemsh": (0.0, -3.0, 0.0),
        "glut_max": (-5.6, 0.0, 0.0),
        "iliopsoas": (3.9, 0.0, 0.0),
        "rect_fem": (4.2, 5.0, 0.0),
        "vasti": (0.0, 4.6, 0.0),
        "gastroc": (0.0, -2.3, -4.8),
        "soleus": (0.0, 0.0, -4.6),
        "tib_ant": (0.0, 0.0, 4.6),
    }
    for joint, (muscles, rate) in enumerate(
        ((AT_HIP, state.by_hip), (AT_KNEE, state.by_knee), (AT_ANKLE, state.by_ankle))
    ):
        for muscle, value in zip(ORDER[muscles], rate[0, :, 0], strict=True):
            assert -100.0 * float(value) == pytest.approx(expected[muscle][joint], abs=0.1)


def states(count, seed=1):
    """Return lengths around each muscle's range, speeds, activations, strengths, (2, 9, count)."""
    generator = torch.Generator().manual_seed(seed)
    rows = torch.tensor([PARAMETERS[muscle] for muscle in ORDER], dtype=torch.float64)
    draw = torch.rand(4, 2, 9, count, generator=generator, dtype=torch.float64)
    length = rows[:, 2:3] + rows[:, 1:2] * (0.2 + 1.8 * draw[0])
    return length, rows[:, 1:2] * (24.0 * draw[1] - 12.0), draw[2], 0.5 + draw[3]


def test_mujoco_curves_are_the_engines():
    length, speed, activation, strength = states(60)
    tension, _ = Muscles("mujoco").force(length, speed, activation, strength)
    for place, muscle in enumerate(ORDER):
        for index in range(60):
            at = (0, place, index)
            plain = PlainRunner._tension(muscle, *(float(value[at]) for value in (length, speed, activation)))
            assert float(tension[at] / strength[at]) == pytest.approx(plain, rel=1e-9, abs=1e-6)


@pytest.mark.parametrize("curves", CURVES)
def test_damping_is_the_slope_over_speed(curves):
    muscles, near = Muscles(curves), 1e-7
    length, speed, activation, strength = states(200)
    slope = muscles.force(length, speed, activation, strength)[1]
    high, low = (muscles.force(length, speed + sign * near, activation, strength)[0] for sign in (1.0, -1.0))
    error = ((high - low) / (2 * near) - slope).abs() / (1.0 + slope)
    assert (slope >= 0.0).all()
    assert float(error.median()) < 1e-4
    assert float((error > 1e-2).double().mean()) < 0.01  # curves have corners


def test_source_curves_at_their_landmarks():
    """Thelen 2003: full force at optimal length, 1.4 times it when stretched fast, none at the fastest shortening."""
    muscles = Muscles("source")
    rows = torch.tensor([PARAMETERS[muscle] for muscle in ORDER], dtype=torch.float64)
    force, optimal, slack, strain, pennation = (rows[:, index].view(1, 9, 1).expand(2, 9, 1) for index in range(5))
    length = slack * (1.0 + 0.5 * strain) + optimal * pennation.cos()
    one = torch.ones(2, 9, 1, dtype=torch.float64)
    still, fast, slow = (
        muscles.force(length, rate * optimal, one, one)[0] / (force * pennation.cos()) for rate in (0.0, 1e6, -1e3)
    )
    assert torch.allclose(still, one, atol=1e-9)
    assert torch.allclose(fast, 1.4 * one, atol=1e-4)
    assert torch.allclose(slow, 0.0 * one, atol=1e-9)


def test_activation_follows_the_engines_law():
    for activation in (0.0, 0.05, 0.5, 1.0):
        for excitation in (0.0, 0.3, 1.0):
            rate = mujoco.mju_muscleDynamics(excitation, activation, np.array([0.01, 0.04, 0.0]))
            after = activated(torch.tensor([activation]), torch.tensor([excitation]), 1e-3)
            assert float(after) == pytest.approx(activation + 1e-3 * rate, abs=1e-7)


def test_joint_stops_at_five_angles():
    """Of the knee, whose range is -140 to 10 degrees; by the formula of CoordinateLimitForce."""
    stiffness, width = math.degrees(20.0), math.radians(10.0)
    quintic = 10 * 0.5**3 - 15 * 0.5**4 + 6 * 0.5**5
    expected = {
        -60.0: 0.0,
        10.0: 0.0,
        15.0: -stiffness * quintic * width / 2.0,
        30.0: -stiffness * math.radians(20.0),
        -150.0: stiffness * width,
    }
    for angle, torque in expected.items():
        joints = torch.zeros(2, 3, 1, dtype=torch.float64)
        joints[1, 1] = math.radians(angle)
        found = stop_torque(joints, torch.zeros_like(joints))
        assert float(found[1, 1]) == pytest.approx(torque, abs=1e-9)
        assert float(stop_effort(found)) == pytest.approx(abs(torque), abs=1e-9)
    damped = stop_torque(joints, torch.full_like(joints, 2.0))
    assert float(damped[1, 1]) == pytest.approx(torque - 2.0 * math.degrees(0.25), abs=1e-9)


def moving_env(**options):
    env = envs.make_vector("LearningToRun", 5, num_threads=1, dtype=torch.float64, difficulty=0, **options)
    env.reset(seed=0)
    generator = torch.Generator().manual_seed(3)
    for _ in range(30):
        env.step(torch.rand(5, 18, generator=generator))
    return env


def test_bodies_are_where_the_engine_has_them():
    env = moving_env()
    raw, simulation = env.observation(), env.simulation
    model, data = simulation.batch.get_model(0), mujoco.MjData(simulation.model)
    for index in range(5):
        simulation.batch.get_data(index, data)
        plain = PlainRunner()
        for side in "rl":  # where the knees are now, not where they were a substep ago
            knee = float(data.qpos[4 if side == "r" else 7])
            body = model.body(f"tibia_{side}").id
            model.body_pos[body, [0, 2]] = plain._function("tibia_x", knee), plain._function("tibia_y", knee)
        mujoco.mj_forward(model, data)
        names = ("head", "pelvis", "torso", "toes_l", "toes_r", "talus_l", "talus_r")
        places = np.concatenate([data.body(name).xpos[[0, 2]] for name in names])
        np.testing.assert_allclose(raw[index, 22:36], places, atol=1e-12)
        np.testing.assert_allclose(raw[index, 18:20], data.subtree_com[0][[0, 2]], atol=1e-12)


def test_velocities_are_those_of_the_places():
    env = moving_env()
    simulation, near = env.simulation, 1e-6
    position, velocity, pose = current_pose(simulation)
    facts = runner_facts(simulation)

    def moved(sign):
        later = position + sign * near * velocity
        tibia, rate = facts.paths.tibia(later[3:].view(2, 3, -1)[:, 1])
        return facts.skeleton.pose(later, velocity, tibia, rate)

    for name, rate in (("mass", pose.mass_velocity), ("ankle", pose.ankle_velocity)):
        for axis in (0, 1):
            change = (getattr(moved(1.0), name)[axis] - getattr(moved(-1.0), name)[axis]) / (2 * near)
            torch.testing.assert_close(change, rate[axis], rtol=1e-6, atol=1e-6)


def test_contact_forces_do_the_work_of_what_they_press():
    """The coordinates' forces are the gradient of depth energies; friction is left out by standing still."""
    env = moving_env(contact="analytic")
    position, _, _ = current_pose(env.simulation)
    facts, near = runner_facts(env.simulation), 1e-6
    balls = torch.tensor([[[0.3], [0.0], [0.15]]], dtype=torch.float64).expand(1, 3, 5).clone()
    position = position.clone()
    position[:2] = torch.tensor([[0.2], [0.9]], dtype=torch.float64)
    balls[0, 0] = 0.2 + torch.linspace(-0.2, 0.2, 5, dtype=torch.float64)
    still = torch.zeros_like(position)

    def at(place):
        tibia, _ = facts.paths.tibia(place[3:].view(2, 3, -1)[:, 1])
        return facts.skeleton.pose(place, still, tibia, torch.zeros_like(tibia)), tibia

    def energy(place, tibia):
        pose = facts.skeleton.pose(place, still, tibia, torch.zeros_like(tibia))
        total = 0.0
        for bone, side in ((facts.skeleton.calcn, 0.0835 + 0.00792), (facts.skeleton.toes, 0.0835 + 0.009)):
            arm = bone[0] + PLACE[0], bone[1] + PLACE[1]
            cos, sin = pose.foot
            x = pose.ankle[0] + cos * arm[0] - sin * arm[1]
            y = pose.ankle[1] + sin * arm[0] + cos * arm[1]
            total = total + 0.4 * 63245.6 * (0.05 - y).clamp(min=0.0) ** 2.5
            ball_x, ball_y, radius = balls[0]
            away = ((x - ball_x) ** 2 + (y - ball_y) ** 2 + side**2).sqrt()
            stiff = 4.0 / 3.0 * 0.5**1.5 * 1e6 / radius * (0.05 * radius / (0.05 + radius)).sqrt()
            total = total + 0.4 * stiff * (0.05 + radius - away).clamp(min=0.0) ** 2.5
        return total.sum(0)

    pose, tibia = at(position)
    force, normal = contact_forces(facts.skeleton, pose, (position[0], position[1]), balls)
    assert int((normal > 0).sum()) >= 5
    for row in range(9):
        shift = torch.zeros(9, 1, dtype=torch.float64)
        shift[row] = near
        # The engine's tibia hangs still while a step is made.
        change = (energy(position + shift, tibia) - energy(position - shift, tibia)) / (2 * near)
        torch.testing.assert_close(force[row], -change, rtol=1e-4, atol=1e-2)


def test_actions_are_right_leg_first():
    env = envs.make_vector("LearningToRun", 18, num_threads=1, difficulty=0)
    env.reset(seed=0)
    *_, info = env.step(torch.eye(18))
    activation = info["activations"]
    assert (activation.argmax(dim=1) == torch.arange(18)).all()
    # soleus: the right ankle extends more than where nothing is excited, the left one does not
    index = MUSCLES.index("soleus")
    assert float(env.observation()[index, 8]) < float(env.observation()[9 + index, 8]) - 1e-4
    assert float(env.observation()[9 + index, 11]) < float(env.observation()[index, 11]) - 1e-4
