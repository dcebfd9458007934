"""Feature maps and shaping terms against plain twins: one episode, one number after the other."""

import math

import pytest
import torch

from envs.learning_to_run.features import FEATURES, make_features, nnaisense
from envs.learning_to_run.mirror import RAW_NAMES
from envs.learning_to_run.shaping import TERMS, Shaping

PLACE = {name: index for index, name in enumerate(RAW_NAMES)}


def episode(steps=40, seed=0):
    """Raw observations (steps, 41) of a made-up run past three balls, 0.2 m a step."""
    generator = torch.Generator().manual_seed(seed)
    raw = torch.randn(steps, 41, generator=generator, dtype=torch.float64).round(decimals=3)
    pelvis = 0.2 * torch.arange(steps, dtype=torch.float64)
    raw[:, 1] = raw[:, 24] = pelvis
    raw[:, 2] = raw[:, 25] = 0.9 + 0.1 * raw[:, 2]
    raw[:, 22:36:2] = pelvis.unsqueeze(1) + 0.3 * raw[:, 22:36:2]
    raw[:, 24] = pelvis
    raw[:, 23:36:2] = 0.3 * raw[:, 23:36:2].abs()
    raw[:, 18] = pelvis + 0.1 * raw[:, 18]
    balls = [(1.5, 0.01, 0.1), (3.0, -0.02, 0.2), (4.1, 0.0, 0.05)]
    for step in range(steps):
        ahead = [ball for ball in balls if ball[0] + ball[2] >= float(pelvis[step])]
        x, y, radius = ahead[0] if ahead else (100.0 + float(pelvis[step]), 0.0, 0.0)
        raw[step, 38:] = torch.tensor([x - float(pelvis[step]), y, radius], dtype=torch.float64)
        if not ahead:
            raw[step, 38] = 100.0
    return raw


def shown(name, raw, excitation=0.3):
    """Return what a map shows of an episode (steps, 41): (steps, D)."""
    features = make_features(name)
    memory = features.start(raw[:1])
    rows = [features.observe(memory, raw[:1])]
    for row in raw[1:]:
        memory = features.update(memory, row.unsqueeze(0), torch.full((1, 18), excitation, dtype=torch.float64))
        assert memory.shape == (1, features.memory_size)
        rows.append(features.observe(memory, row.unsqueeze(0)))
    return torch.cat(rows)


def plain_ace(raw):
    """ACE's 76 numbers of an episode, a list a step (the appendix of the authors' code in words)."""
    seen, found = [], []
    for step, o in enumerate(raw.tolist()):
        before = raw[max(step - 1, 0)].tolist()
        px, py = o[1], o[2]
        a = list(o)
        a[0] /= 2
        a[1] = 0.0
        a[2] -= 0.9
        a[3] /= 4
        a[4] /= 8
        for index in range(6, 18):
            a[index] /= 4
        a[18], a[19], a[20], a[21] = o[18] - px, o[19] - py, o[20] - o[4], o[21] - o[5]
        for index in range(22, 36):
            a[index] = o[index] - (px, py)[index % 2]
        a[38:] = [0.0, 0.0, 0.0]
        a += [o[index] - 0.9 for index in range(23, 36, 2)]
        speeds = [(o[index] - before[index]) / 0.01 for index in range(22, 36)]
        pelvis = speeds[2:4]
        b = [(speed - pelvis[index % 2]) / (8, 1)[index % 2] for index, speed in enumerate(speeds)]
        if step > 0 and o[38] != 100.0 and (not seen or abs(seen[-1][0] - (o[38] + px)) > 1e-9):
            seen.append((o[38] + px, o[39], o[40]))
        listed = [(min(max(x - px, -3), 8) / 7, 5 * y, 5 * r) for x, y, r in reversed(seen)]
        listed = (listed + [(-3 / 7, 0.0, 0.0)] * 2)[:2]
        if o[38] == 100.0:
            listed = [*listed, (8 / 7, 0.0, 0.0)][1:]
        c = [value for ball in reversed(listed) for value in ball]
        d = [min(max(5 * (t - o[index]) + 0.5, 0), 1) for index in (29, 31, 33, 35) for t in (0.0, 0.1)]
        found.append([math.copysign(math.sqrt(abs(v)), v) if abs(v) > 1 else v for v in [*a, *b, *c, *d]])
    return torch.tensor(found, dtype=torch.float64)


def test_aces_76_numbers_over_an_episode_with_three_balls():
    raw = episode()
    found = shown("ace", raw)
    assert found.shape == (40, 76)
    torch.testing.assert_close(found, plain_ace(raw), rtol=0, atol=1e-12)


def plain_reason8(raw):
    """The 52 numbers, with repaired places."""
    bodies = [name for name in RAW_NAMES[22:36] if not name.startswith("pelvis")]
    found, last, repaired, before = [], None, None, None
    for step, row in enumerate(raw.tolist()):
        o = dict(zip(RAW_NAMES, row, strict=True))
        now = {name: o[name] for name in bodies}
        if last is not None:
            shift = {"x": o["mass_x"] - last["mass_x"], "y": o["mass_y"] - last["mass_y"]}
            now = {n: repaired[n] + shift[n[-1]] if o[n] == last[n] else o[n] for n in bodies}
        before, repaired, last = repaired or now, now, o
        state = {**o, **now}
        for name in ("mass_x", *(n for n in bodies if n.endswith("x"))):
            state[name] -= o["pelvis_x"]
        names = [n for n in RAW_NAMES[:38] if n not in ("pelvis_x", "pelvis.x", "pelvis.y")]
        ball = [min(o["ball_x"], 10.0), o["ball_y"], o["ball_radius"], 1.0] if o["ball_x"] < 100 else [-1.0, 0, 0, 0]
        found.append([*(state[n] for n in names), step / 1000, *(100.0 * (now[n] - before[n]) for n in bodies), *ball])
    return torch.tensor(found, dtype=torch.float64)


def test_a_ball_is_one_ball_in_float32_too():
    raw = episode(120)
    raw[:, [1, 24]] = pelvis = 0.037 * torch.arange(120, dtype=torch.float64).unsqueeze(1)
    for step in range(120):  # a ball at 1.5 m, and from there on one at 4.1
        place = 1.5 if float(pelvis[step]) < 1.6 else 4.1
        raw[step, 38:] = torch.tensor([place - float(pelvis[step]), 0.0, 0.1], dtype=torch.float64)
    whole, half = shown("ace", raw), shown("ace", raw.float())
    torch.testing.assert_close(half.double(), whole, atol=1e-3, rtol=0.0)


def test_reason8s_52_numbers_with_a_repeated_place():
    raw = episode(12)
    raw[5, 26], raw[6, 26], raw[6, 33] = raw[4, 26], raw[4, 26], raw[5, 33]
    found = shown("reason8", raw)
    assert found.shape == (12, 52)
    torch.testing.assert_close(found, plain_reason8(raw), rtol=0, atol=1e-10)


def root(value):
    return math.copysign(math.sqrt(abs(value)), value)


def plain_sj(raw):
    """Some of the 82 numbers by name, of every step."""
    found, last, following, before, old = [], [-2.0, 0.0, 0.1], [2.0, 0.0, 0.1], None, None
    importance = lambda x: -x / 3 + 5 / 6 if -0.5 < x < 2.5 else 0.0  # noqa: E731
    for step, row in enumerate(raw.tolist()):
        o = dict(zip(RAW_NAMES, row, strict=True))
        moved = o["pelvis_x"] - before["pelvis_x"] if before else 0.0
        ball = [o["ball_x"], o["ball_y"], o["ball_radius"]]
        if step == 1:
            following = ball
        elif step > 1:
            if ball[1:] != following[1:]:
                last, following = list(following), [-2.0 if ball[0] == 100.0 else ball[0], *ball[1:]]
            else:
                following = [following[0] - moved, *following[1:]]
            last = [last[0] - moved, *last[1:]]
        speed = {
            n: (o[n] - before[n]) / 0.01 - o[f"pelvis_v{n[-1]}"] if before else -o[f"pelvis_v{n[-1]}"]
            for n in ("head.x", "toes_l.y", "talus_r.x")
        }
        values = {
            0: o["tilt"],
            1: o["pelvis_x"] / 100.0,
            2: (o["pelvis_y"] - 0.9) / 0.1,
            4: root(o["pelvis_vx"] - 1.0),
            7: root(o["knee_r"] - o["tilt"]),
            15: root((o["hip_rate_l"] - o["tilt_rate"]) / 5.0),
            18: (o["mass_x"] - o["pelvis_x"] + 0.14) / 0.05,
            23: (o["head.y"] - o["pelvis_y"] - 0.61) / 0.02,
            26: o["toes_l.x"] - o["pelvis_x"] + 0.1,
            33: (o["talus_r.y"] - o["pelvis_y"] + 0.9) / 0.3,
            34: (o["strength_l"] - 1.0) / 0.2,
            36: importance(last[0]),
            37: last[1] / 0.14433756729740643 * importance(last[0]),
            39: importance(following[0]),
            41: (following[2] - 0.1) / 0.05 * importance(following[0]),
            42: root(speed["head.x"]),
            47: root(speed["toes_l.y"]),
            52: root(speed["talus_r.x"]) / 2.5,
            54: root(o["tilt_rate"] - before["tilt_rate"] if before else 0.0),
            77: max(1.0 - 20.0 * o["toes_l.y"], -1.0),
            81: (o["pelvis_x"] - 28.0) / (1.0 + abs(o["pelvis_x"] - 28.0)),
        }
        change = {name: o[name] - (before or o)[name] for name in RAW_NAMES}
        # The pelvis's change is taken off twice: from the velocity, and from its change.
        values[58] = root((change["knee_rate_r"] - 2.0 * change["tilt_rate"]) / 4.0)
        values[63] = root(change["mass_vx"] - change["pelvis_vx"] - change["pelvis_vx"])
        relative = {n: s - (old or dict.fromkeys(speed, 0.0))[n] - change[f"pelvis_v{n[-1]}"] for n, s in speed.items()}
        values[65], values[70] = root(relative["head.x"]), root(relative["toes_l.y"]) / 0.6
        before, old = o, speed
        found.append(values)
    return found


def test_sjs_82_numbers():
    raw = episode()
    found = shown("sj", raw)
    assert found.shape == (40, 82)
    for step, values in enumerate(plain_sj(raw)):
        for index, value in values.items():
            assert float(found[step, index]) == pytest.approx(value, abs=1e-9), (step, index)


def test_nnaisenses_430_numbers():
    raw = episode()
    found = shown("nnaisense", raw)
    assert found.shape == (40, 430)
    column = {name: index for index, name in enumerate(nnaisense.NAMES)}
    o = [dict(zip(RAW_NAMES, row, strict=True)) for row in raw.tolist()]
    balls = [(1.5, 0.01, 0.1), (3.0, -0.02, 0.2), (4.1, 0.0, 0.05)]
    activation = [0.05]
    for _ in range(39):
        a = activation[-1]
        for _ in range(10):
            time = 0.01 * (0.5 + 1.5 * a) if a < 0.3 else 0.04 / (0.5 + 1.5 * a)
            a += 0.001 * (0.3 - a) / time
        activation.append(a)
    for step in range(40):
        now, past = o[step], lambda back, step=step: o[max(step - back, 0)]
        none = now["ball_x"] == 100.0
        seen = [ball for ball in balls if any(x["ball_y"] == ball[1] and x["ball_x"] < 100 for x in o[: step + 1])]
        begins = [(x - r - now["toes_r.x"], y + r - now["toes_r.y"]) for x, y, r in seen if now["toes_r.x"] < x - r]
        ends = [(x + r - now["talus_l.x"], y + r - now["talus_l.y"]) for x, y, r in seen if now["talus_l.x"] < x + r]
        values = {
            "strength_l": now["strength_l"],
            "ball_x": 3.0 if none else now["ball_x"],
            "no_ball": float(none),
            "tilt": now["tilt"],
            "tilt.d1": now["tilt"] - past(1)["tilt"],
            "knee_l.d7": past(6)["knee_l"] - past(7)["knee_l"],
            "head.x": now["head.x"] - now["pelvis_x"],
            "head.xd2": past(1)["head.x"] - past(2)["head.x"],
            "tali_x_l": now["talus_l.x"] - now["talus_r.x"],
            "tali_y_r": now["talus_r.y"] - now["talus_l.y"],
            "tali_change_x_r": now["talus_r.x"] - now["talus_l.x"] - past(1)["talus_r.x"] + past(1)["talus_l.x"],
            "toes_r.ball_x": begins[0][0] if begins else 3.0,
            "toes_r.ball_y": begins[0][1] if begins else 3.0,
            "talus_l.ball_x": ends[0][0] if ends else 3.0,
            "talus_l.ball_y": ends[0][1] if ends else 3.0,
            "vasti_l.activation0": activation[step],
            "soleus_r.activation7": activation[max(step - 7, 0)],
        }
        for name, value in values.items():
            assert float(found[step, column[name]]) == pytest.approx(value, abs=1e-9), (step, name)


@pytest.mark.parametrize("name", FEATURES)
def test_maps_of_several_episodes_are_those_of_each(name):
    several = torch.stack([episode(9, seed) for seed in range(3)])
    features = make_features(name)
    memory = features.start(several[:, 0])
    for step in range(1, 9):
        memory = features.update(memory, several[:, step], torch.full((3, 18), 0.3, dtype=torch.float64))
    together = features.observe(memory, several[:, 8])
    for index in range(3):
        torch.testing.assert_close(together[index], shown(name, several[index])[-1], rtol=0, atol=1e-12)


def raw_state(**values):
    """Return a raw observation (1, 41): zeros but for named numbers."""
    raw = torch.zeros(1, 41, dtype=torch.float64)
    raw[0, PLACE["ball_x"]] = 100.0
    for name, value in values.items():
        raw[0, PLACE[name.replace("__", ".")]] = value
    return raw


# Five states: upright; leaning back, knees straight; leaning forward, knees bent; in a ball's box; in a long step.
STATES = [
    raw_state(head__x=0.05, head__y=1.5, talus_l__x=0.1, talus_r__x=-0.1),
    raw_state(head__x=-0.4, head__y=1.3, knee_r=0.3, knee_l=0.15, pelvis_vx=-1.0),
    raw_state(head__x=0.6, head__y=1.39, knee_r=-0.5, knee_l=-1.2, pelvis_vx=3.0, mass_x=0.3),
    raw_state(pelvis_x=1.0, ball_x=0.2, ball_y=0.02, ball_radius=0.1, toes_r__x=1.06, toes_r__y=0.16, head__x=1.0),
    raw_state(pelvis_x=2.0, head__x=2.1, talus_l__x=2.5, talus_r__x=1.6, head__y=1.41),
]
START = raw_state(talus_l__x=-0.2, talus_r__x=0.3)
EXPECTED = {
    "lean": [0.0, -0.05 * 0.25, 0.0, 0.0, 0.0],
    "knee": [0.0, -0.03 * 0.25, 0.0, 0.0, 0.0],
    "lean_starter": [0.0, -0.03 * 0.1, 0.0, 0.0, 0.0],
    "knee_starter": [0.0, -0.02 * 0.25, 0.0, 0.0, 0.0],
    "sj": [0.01, -0.01 + 0.01 - 0.04 - 0.005, 0.03 + 0.01, 0.01 - 1.0, 0.01 - 2.0],
    "fall": [0.0, -0.2, 0.0, -0.2, 0.0],
    "fall_hard": [0.0, -2.0, 0.0, -2.0, 0.0],
    "ball": [0.0, 0.0, 0.0, -0.5, 0.0],
    "head_high": [0.01, 0.0, 0.0, 0.0, 0.01],
    "straight": [
        0.0015,
        -0.0015,
        -0.00015 - 0.025 * 0.1,
        0.015 * -1.4 - 0.025 * 0.8,
        0.00015 - 0.025 * 1.8,
    ],
    "feet": [
        (0.3 - 0.4 + 0.05) / 4,
        (0.2 - 0.3 - 0.4) / 4,
        (0.2 - 0.3 + 0.6) / 4,
        (1.0 + 0.2 - 0.3 + 1.0) / 4 - 1.0,
        (2.0 + 2.7 + 1.3 + 2.1) / 4 - 2.0,
    ],
    "step": [0.5 * 0.7, 0.0, 0.0, 0.0, 0.5 * 0.7],
    "bend": [0.0, -0.045, 0.1 * (0.5 + math.pi / 4), 0.0, 0.0],
    "smallsteps": [0.0, 0.0, 0.0, 0.0, -0.1],
    "headpelvis": [0.0, 0.0, -(0.2 + 0.23 / 3), 0.0, 0.0],
}


@pytest.mark.parametrize("name", TERMS)
def test_shaping_at_five_states(name):
    fallen = [False, True, False, True, False]
    for state, low, expected in zip(STATES, fallen, EXPECTED[name], strict=True):
        shaping = Shaping([name])
        memory = torch.full((1, shaping.memory_size), 0.7, dtype=torch.float64)
        added, after = shaping.update(memory, START, state, torch.tensor([low]))
        assert float(added) == pytest.approx(expected, abs=1e-12)
        if name == "step":  # crossed feet count anew
            apart = abs(float(state[0, 32] - state[0, 34]))
            assert float(after) == pytest.approx(0.0 if expected else max(0.7, apart))


def test_terms_add_up():
    both = Shaping(["lean", "knee"])
    added, _ = both.update(both.start(START), START, STATES[1], torch.tensor([False]))
    assert float(added) == pytest.approx(-0.05 * 0.25 - 0.03 * 0.25)
