"""Which configs are seeds of one thing."""

from rlsuite.statistics.same_config import differing, digest_of

OLD = {"seed": 0, "steps": 100, "agent": {"name": "sac", "discount": 0.99}}


def test_an_option_that_is_off_or_absent_makes_no_other_run():
    new = {"seed": 1, "steps": 200, "agent": {"name": "sac", "discount": 0.99, "dual": False, "layers": None}}
    assert digest_of(OLD) == digest_of(new)
    assert differing([OLD, new]) == []


def test_an_option_that_is_on_does():
    for value in (True, 0, 0.0, "none"):  # 0 can be a setting: a target entropy, say, whose None is another
        new = {**OLD, "agent": {**OLD["agent"], "dual": value}}
        assert digest_of(OLD) != digest_of(new)
        assert differing([OLD, new]) == ["agent.dual"]


def test_steps_count_where_learning_rates_fall_along_the_run():
    falling = {**OLD, "agent": {**OLD["agent"], "final_learning_rate_share": 0.5}}
    assert differing([falling, {**falling, "steps": 200}]) == ["steps"]
    assert digest_of(falling) != digest_of({**falling, "steps": 200})
