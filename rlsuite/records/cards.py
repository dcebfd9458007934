"""Where TensorBoard shows a number: the tag of its chart, what stands beside it, and which numbers share one.

metrics.jsonl names a number by its record's kind and its own name ("evaluate", "mean"); a card has a group and a name
("return/evaluation"). The groups: return, success, episode, losses, speed, agent, ensemble; and return_interval, the
bounds that the chart of the evaluation return is drawn between.
"""

from __future__ import annotations

FIRST = "return/evaluation"
LAYOUT_TAG = "custom_scalars__config__"

# (kind, name) -> card.
_CARDS = {
    ("evaluate", "mean"): FIRST,
    ("evaluate", "low"): "return_interval/low",
    ("evaluate", "high"): "return_interval/high",
    ("evaluate", "std"): "return_interval/deviation",
    ("evaluate", "success_rate"): "success/evaluation",
    ("evaluate", "length"): "episode/length_evaluation",
    ("evaluate", "failed"): "episode/failed_evaluation",
    ("evaluate", "cut"): "episode/cut_evaluation",
    ("evaluate", "train_s"): "speed/training_seconds",
    ("train", "return_mean"): "return/training",
    ("train", "success_rate"): "success/training",
    ("train", "length_mean"): "episode/length",
    ("train", "episodes"): "episode/number",
    ("train", "failed_episodes"): "episode/failed",
    ("train", "updates"): "speed/updates",
    ("train", "steps_per_second"): "speed/stepping",
    ("train", "steps_per_second_act"): "speed/stepping_and_acting",
    ("train", "steps_per_second_update"): "speed/training",
}
_ENSEMBLE = ("chosen_", "score_margin", "disagreement")
_OF_KIND = {"train": "", "evaluate": "_evaluation"}

_DESCRIPTIONS = {
    FIRST: "Mean return of the evaluation's episodes: own environments, no exploration, the same starts every time. "
    "Its 95 % interval is in the tab Custom Scalars.",
    "return/training": "Mean return of the training episodes that ended since the last record, exploration included.",
    "return_interval/low": "Lower end of the 95 % interval of return/evaluation, over the evaluation's episodes.",
    "return_interval/high": "Upper end of the 95 % interval of return/evaluation, over the evaluation's episodes.",
    "return_interval/deviation": "Standard deviation of the return over the evaluation's episodes.",
    "success/evaluation": "Share of the evaluation's episodes that reached their goal.",
    "success/training": "Share of the training episodes ended since the last record that reached their goal.",
    "episode/length": "Mean length, in steps, of the training episodes that ended since the last record.",
    "episode/length_evaluation": "Mean length, in steps, of the evaluation's episodes.",
    "episode/number": "Training episodes ended so far.",
    "episode/failed": "Training episodes cut short by a failed simulation since the last record; they are in no mean.",
    "episode/failed_evaluation": "Evaluation episodes cut short by a failed simulation; they are in no mean.",
    "episode/cut_evaluation": "Evaluation episodes that did not end within the evaluation's step limit.",
    "speed/training": "Environment steps per second of wall clock, updates included; evaluations and checkpoints not.",
    "speed/stepping": "Environment steps per second of the time spent in the environments alone.",
    "speed/stepping_and_acting": "Environment steps per second of the time spent in environments and policy.",
    "speed/training_seconds": "Seconds of wall clock so far, those of evaluations left out.",
    "speed/updates": "Gradient updates so far.",
}
_OF_GROUPS = {
    "losses": "A loss of the last update before the record.",
    "agent": "A number that the agent reports of itself.",
    "ensemble": "Which of the ensemble's members act, and by how much they differ.",
}


def is_reward_term(name: str) -> bool:
    """Say whether a number of a step's info is a term of the reward, by the names that Gymnasium's tasks give them."""
    return name.startswith("reward_") or name.endswith("_penalty")


def card(kind: str, name: str) -> str:
    """Return the tag, "group/name", of a number called `name` in a record of a kind such as "train"."""
    if (kind, name) in _CARDS:
        return _CARDS[kind, name]
    ending = _OF_KIND.get(kind, f"_{kind}")
    if is_reward_term(name):
        return f"episode/{name}{ending}"
    if "loss" in name:
        return f"losses/{name}{ending}"
    group = "ensemble" if name.startswith(_ENSEMBLE) else "agent"
    return f"{group}/{name}{ending}"


def description(tag: str) -> str:
    """Return what stands on a card, or "" where its name says it all."""
    group, _, name = tag.partition("/")
    if group == "episode" and is_reward_term(name):
        return "This term of the task's reward, mean of all training steps since the last record."
    return _DESCRIPTIONS.get(tag, _OF_GROUPS.get(group, ""))
