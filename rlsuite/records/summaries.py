"""TensorBoard's messages that are more than a number: the layout, texts, hyperparameters, clips.

Made from TensorBoard's own message classes; neither TensorFlow nor a codec is needed. A clip is an animated GIF, which
the tab Images plays.
"""

# TensorBoard's message classes are made when they are imported, and have no stubs.
# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image
from tensorboard.compat.proto.summary_pb2 import Summary, SummaryMetadata
from tensorboard.plugins.custom_scalar import layout_pb2
from tensorboard.plugins.custom_scalar import metadata as custom_scalar_metadata
from tensorboard.plugins.hparams import api_pb2, metadata, plugin_data_pb2
from tensorboard.plugins.text.summary_v2 import text_pb
from tensorboard.util import tensor_util

from rlsuite.records.cards import FIRST, LAYOUT_TAG, description

CLIP_SIDE = 240  # pixels, the longer side of a clip
_HIDDEN = ("log.", "checkpoint.", "evaluate.")  # what of a config changes no result


def number(tag: str, value: float, *, described: bool) -> Any:
    """Return a number's value for a summary; what stands on its card needs to be said once a file."""
    found = Summary.Value(tag=tag, simple_value=value)
    if described and (text := description(tag)):
        found.metadata.CopyFrom(SummaryMetadata(summary_description=text))
        found.metadata.plugin_data.plugin_name = "scalars"
    return found


def layout() -> Any:
    """Return the tab Custom Scalars: the evaluation return first, between the ends of its interval."""
    ends = layout_pb2.MarginChartContent.Series(value=FIRST, lower="return_interval/low", upper="return_interval/high")
    evaluation = layout_pb2.Chart(
        title="evaluation, with its 95 % interval", margin=layout_pb2.MarginChartContent(series=[ends])
    )

    def lines(title: str, *tags: str) -> Any:
        return layout_pb2.Chart(title=title, multiline=layout_pb2.MultilineChartContent(tag=tags))

    found = layout_pb2.Layout(
        category=[
            layout_pb2.Category(
                title="return", chart=[evaluation, lines("training and evaluation", FIRST, "return/training")]
            ),
            layout_pb2.Category(title="reward terms", chart=[lines("mean a step", "episode/reward_.*")]),
            layout_pb2.Category(title="losses", chart=[lines("losses", "losses/.*")]),
            layout_pb2.Category(title="speed", chart=[lines("environment steps per second", "speed/.*ing")]),
            layout_pb2.Category(title="success, of tasks with goals", chart=[lines("success", "success/.*")]),
        ]
    )
    value = Summary.Value(tag=LAYOUT_TAG, metadata=custom_scalar_metadata.create_summary_metadata())
    value.tensor.CopyFrom(tensor_util.make_tensor_proto(found.SerializeToString()))
    return Summary(value=[value])


def text(tag: str, words: str) -> Any:
    """Return a text in Markdown for the tab Text."""
    return text_pb(tag, words)


def about_run(config: Mapping[str, Any], command: str, commits: Sequence[str]) -> list[Any]:
    """Return what tells a run from others: texts, and for the tab HParams its config with the return as metric.

    Args:
        config: nested plain data, as config.yaml holds it.
        command: that starts or continues it.
        commits: of the source that has trained it.
    """
    flat = dict(flattened(config))
    lines = "\n".join(f"{name}={shown(value)}" for name, value in flat.items())
    # TensorBoard shows those columns first that are said to differ between runs: what the command line chose.
    said = {"agent.name", "env.id", "seed", *(word.partition("=")[0] for word in command.split())}
    start = plugin_data_pb2.SessionStartInfo()
    infos = []
    for name, value in flat.items():
        if name.startswith(_HIDDEN):
            continue
        numeric = isinstance(value, int | float) and not isinstance(value, bool)
        if numeric:
            start.hparams[name].number_value = value
        else:
            start.hparams[name].string_value = shown(value)
        kind = api_pb2.DATA_TYPE_FLOAT64 if numeric else api_pb2.DATA_TYPE_STRING
        infos.append(api_pb2.HParamInfo(name=name, type=kind, differs=name in said))
    metrics = [api_pb2.MetricInfo(name=api_pb2.MetricName(tag=FIRST), display_name="evaluation return")]
    experiment = api_pb2.Experiment(hparam_infos=infos, metric_infos=metrics)
    return [
        _hparams(metadata.EXPERIMENT_TAG, experiment=experiment),
        _hparams(metadata.SESSION_START_INFO_TAG, session_start_info=start),
        text("run/command", f"    {command}"),
        text("run/commit", ", ".join(commits)),
        text("run/config", "\n".join(f"    {line}" for line in lines.splitlines())),
    ]


def run_ended() -> Any:
    """Return the word that a run has come to its end, for the tab HParams."""
    end = plugin_data_pb2.SessionEndInfo(status=api_pb2.STATUS_SUCCESS)
    return _hparams(metadata.SESSION_END_INFO_TAG, session_end_info=end)


def _hparams(tag: str, **content: Any) -> Any:
    data = plugin_data_pb2.HParamsPluginData(version=metadata.PLUGIN_DATA_VERSION, **content)
    about = SummaryMetadata()
    about.plugin_data.plugin_name = metadata.PLUGIN_NAME
    about.plugin_data.content = data.SerializeToString()
    value = Summary.Value(tag=tag, metadata=about)
    value.tensor.CopyFrom(metadata.NULL_TENSOR)  # TensorBoard reads none without a tensor
    return Summary(value=[value])


def flattened(config: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield a nested config's values under dotted names; an environment's options without "options"."""
    for name, value in config.items():
        if isinstance(value, Mapping):
            inner = prefix if name == "options" else f"{prefix}{name}."
            yield from flattened(value, inner)
        else:
            yield f"{prefix}{name}", value


def shown(value: Any) -> str:
    """Return a config's value as the command line takes it."""
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    return str(list(value) if isinstance(value, tuple) else value).replace(" ", "")


def clip(tag: str, frames: Sequence[np.ndarray], frames_per_second: float) -> Any:
    """Return a clip, frames (H, W, 3) uint8, shrunk to CLIP_SIDE pixels."""
    pictures = []
    for frame in frames:
        picture = Image.fromarray(frame)
        picture.thumbnail((CLIP_SIDE, CLIP_SIDE))
        pictures.append(picture.quantize(64))
    encoded = io.BytesIO()
    wait = max(round(1000 / frames_per_second), 20)  # milliseconds; browsers play no GIF faster
    pictures[0].save(encoded, "GIF", save_all=True, append_images=pictures[1:], duration=wait, loop=0)
    height, width = pictures[0].height, pictures[0].width
    image = Summary.Image(encoded_image_string=encoded.getvalue(), height=height, width=width, colorspace=3)
    return Summary(value=[Summary.Value(tag=tag, image=image)])
