"""TensorBoard's cards: their names, what stands on them, and what an event file says of a run, read back."""

import io

import numpy as np
import pytest
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.custom_scalar import layout_pb2
from tensorboard.plugins.hparams import metadata

from rlsuite.records.cards import FIRST, LAYOUT_TAG, card, description, is_reward_term
from rlsuite.records.monitor import Monitor
from rlsuite.records.summaries import flattened

CONFIG = {
    "agent": {"name": "td3", "rate": 0.5, "sizes": [8, 8], "on": True},
    "env": {"id": "rlsuite/Hopper", "adapter": "", "options": {"reset_noise_scale": 0.1}},
    "seed": 3,
    "log": {"every": 5},
}
COMMAND = "python scripts/train_agent.py agent=td3 agent.rate=0.5"


def read(folder):
    events = EventAccumulator(str(folder), size_guidance={"images": 0})
    events.Reload()
    return events


@pytest.mark.parametrize(
    ("kind", "name", "tag"),
    [
        ("evaluate", "mean", "return/evaluation"),
        ("evaluate", "low", "return_interval/low"),
        ("train", "return_mean", "return/training"),
        ("train", "success_rate", "success/training"),
        ("train", "reward_forward", "episode/reward_forward"),
        ("train", "critic_loss", "losses/critic_loss"),
        ("held_out", "loss", "losses/loss_held_out"),
        ("train", "steps_per_second_update", "speed/training"),
        ("train", "entropy", "agent/entropy"),
        ("evaluate", "chosen_actor", "ensemble/chosen_actor_evaluation"),
        ("train", "chosen_share_2", "ensemble/chosen_share_2"),
        ("train", "episodes", "episode/number"),
    ],
)
def test_groups(kind, name, tag):
    assert card(kind, name) == tag


def test_every_card_of_its_own_is_described_and_no_two_are_one():
    from rlsuite.records import cards

    assert set(cards._CARDS.values()) == set(cards._DESCRIPTIONS)
    assert len(set(cards._CARDS.values())) == len(cards._CARDS)
    assert "mean of all training steps" in description("episode/reward_ctrl")
    assert description("losses/x") == description("losses/y") != ""
    assert description("elsewhere/x") == ""


def test_terms_of_the_reward():
    assert [name for name in ("reward_ctrl", "distance_penalty", "reward", "x_velocity") if is_reward_term(name)] == [
        "reward_ctrl",
        "distance_penalty",
    ]


def test_an_event_file_tells_which_run_it_is(tmp_path):
    with Monitor(tmp_path, total_steps=20, console=False) as monitor:
        monitor.about_run(CONFIG, COMMAND, ["abc123", "def456"])
        for step in (10, 20):
            monitor.record(step, "evaluate", {"mean": float(step), "low": 1.0, "high": 30.0})
        monitor.run_ended(20)
    events = read(tmp_path)
    assert [(event.step, event.value) for event in events.Scalars(FIRST)] == [(10, 10.0), (20, 20.0)]
    assert events.SummaryMetadata(FIRST).summary_description == description(FIRST)
    start = metadata.parse_session_start_info_plugin_data(
        events.SummaryMetadata(metadata.SESSION_START_INFO_TAG).plugin_data.content
    )
    assert start.hparams["agent.name"].string_value == "td3"
    assert start.hparams["agent.rate"].number_value == 0.5
    assert start.hparams["agent.sizes"].string_value == "[8,8]"
    assert start.hparams["agent.on"].string_value == "true"
    assert start.hparams["env.reset_noise_scale"].number_value == 0.1
    assert "log.every" not in start.hparams  # it changes no result
    experiment = metadata.parse_experiment_plugin_data(
        events.SummaryMetadata(metadata.EXPERIMENT_TAG).plugin_data.content
    )
    assert [info.name.tag for info in experiment.metric_infos] == [FIRST]
    first = {info.name for info in experiment.hparam_infos if info.differs}
    assert first == {"agent.name", "env.id", "seed", "agent.rate"}
    names = [tag for tag in events.Tags()["tensors"] if tag.startswith("run/")]
    texts = {tag: events.Tensors(tag)[0].tensor_proto.string_val[0].decode() for tag in names}
    assert texts["run/command"] == f"    {COMMAND}"
    assert texts["run/commit"] == "abc123, def456"
    assert "    log.every=5" in texts["run/config"].splitlines()
    assert "agent.sizes=[8,8]" in texts["run/config"]
    layout = layout_pb2.Layout.FromString(events.Tensors(LAYOUT_TAG)[0].tensor_proto.string_val[0])
    assert layout.category[0].title == "return"
    (series,) = layout.category[0].chart[0].margin.series
    assert (series.value, series.lower, series.upper) == (FIRST, "return_interval/low", "return_interval/high")


def test_a_clip_is_a_film_that_moves(tmp_path):
    frames = [np.full((480, 320, 3), shade, np.uint8) for shade in (0, 100, 200)]
    with Monitor(tmp_path, total_steps=1, console=False) as monitor:
        monitor.clip(1, "evaluation/clip", frames, 10.0)
    (event,) = read(tmp_path).Images("evaluation/clip")
    film = Image.open(io.BytesIO(event.encoded_image_string))
    assert (film.format, film.n_frames, film.size) == ("GIF", 3, (160, 240))
    assert film.info["duration"] == 100
    film.seek(2)
    assert film.convert("RGB").getpixel((5, 5)) == (200, 200, 200)


def test_an_older_run_goes_on_in_its_own_folder(tmp_path):
    (tmp_path / "tensorboard").mkdir()
    with Monitor(tmp_path, total_steps=9, console=False, resume_step=3) as monitor:
        monitor.record(4, "train", {"x": 1.0})
    assert not list(tmp_path.glob("events.*"))
    assert [event.step for event in read(tmp_path / "tensorboard").Scalars("agent/x")] == [4]


def test_configs_are_flat_as_the_command_line_writes_them():
    assert dict(flattened(CONFIG))["env.reset_noise_scale"] == 0.1
    assert dict(flattened({"a": {"b": {"c": 1}}, "d": None})) == {"a.b.c": 1, "d": None}
