"""Networks that were changed, in one file: what builds the untouched one, what was done to it, and the tensors.

Reading repeats the structure of every step on a fresh network and loads the tensors strictly, so the network that
comes back gives the same bits. Names and numbers alone are read from the file; nothing that it names is imported.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from envs.evaluation.catalogue import EVALUATIONS
from envs.evaluation.subject import Base, Step
from rlsuite.config.build import build as build_config
from rlsuite.errors import UserError, near_matches
from rlsuite.methods import find_class, from_plain
from rlsuite.nn.picture_policy import PicturePolicyConfig, build_picture_policy
from rlsuite.nn.plain import PlainPolicyConfig, build_plain_policy
from rlsuite.nn.vision import NETWORKS
from rlsuite.weights_file import read_weights, write_weights

FORMAT = "rlsuite evaluated network 1"
PLAIN_POLICY = "plain_policy"
PICTURE_POLICY = "picture_policy"


def build_base(base: Base) -> nn.Module:
    """Return the untouched network, its weights as they are drawn.

    Raises:
        UserError: if there is no such network, or its numbers do not fit it.
    """
    if base.name == PLAIN_POLICY:
        return build_plain_policy(build_config(PlainPolicyConfig, base.config, "policy."))
    if base.name == PICTURE_POLICY:
        return build_picture_policy(build_config(PicturePolicyConfig, base.config, "policy."))
    if base.name not in NETWORKS:
        known = [PLAIN_POLICY, PICTURE_POLICY, *NETWORKS]
        raise UserError(f"unknown network '{base.name}'{near_matches(base.name, known)}")
    kind = find_class(NETWORKS[base.name])
    try:
        channels, size, outputs = (base.config[key] for key in ("channels", "size", "outputs"))
    except (KeyError, TypeError):
        raise UserError(f"{base.name}: its channels, size and outputs are not said") from None
    config = build_config(kind.Config, base.config.get("config", {}), f"{base.name}.")
    return kind(channels, tuple(size) if isinstance(size, list) else size, outputs, config, 0)


def network_base(name: str, *, channels: int, size: int | tuple[int, int], outputs: int, config: Any) -> Base:
    """Return the Base of a network of the catalogue, from what it was built with."""
    return Base(name, _plain({"channels": channels, "size": size, "outputs": outputs, "config": asdict(config)}))


def policy_base(config: PlainPolicyConfig | PicturePolicyConfig) -> Base:
    """Return the Base of a plain policy, or of one over pictures."""
    name = PLAIN_POLICY if isinstance(config, PlainPolicyConfig) else PICTURE_POLICY
    return Base(name, _plain(asdict(config)))


def rebuild(base: Base, recipe: Sequence[Step]) -> nn.Module:
    """Return a network with the structure that a base and a recipe give, its tensors of no meaning yet.

    Raises:
        UserError: if a step is not in the catalogue, or does not fit what stands before it.
    """
    module = build_base(base)
    methods = from_plain(EVALUATIONS, [{"name": step.name, "config": step.config} for step in recipe])
    for method, step in zip(methods, recipe, strict=True):
        transform = method.build()
        module = transform.finish(transform.rebuild(module, step.plan))
    return module.eval()


def save_network(
    path: Path, module: nn.Module, base: Base, recipe: Sequence[Step], about: Mapping[str, Any] | None = None
) -> None:
    """Write a network; `about` is any JSON to be kept with it.

    Raises:
        UserError: if the file cannot be written.
    """
    said = {"base": list(base), "recipe": [list(step) for step in recipe], "about": dict(about or {})}
    write_weights(path, module.state_dict(), said, format=FORMAT)


def load_network(path: Path | str) -> tuple[nn.Module, Base, tuple[Step, ...], dict[str, Any]]:
    """Return a network that gives the bits it gave when it was saved, what built it, its recipe, and what is kept.

    Raises:
        UserError: if the file cannot be read, is another's, or does not fit what it says.
    """

    def expected(about: dict[str, Any]) -> dict[str, Tensor]:
        return rebuild(*_parts(about)).state_dict()

    said, tensors = read_weights(
        path,
        format=FORMAT,
        fields={"base": list, "recipe": list, "about": dict},
        expected=expected,
        refusal=lambda reason: f"{path} is not a network that evaluate_agent.py wrote: {reason}",
    )
    base, recipe = _parts(said)
    module = rebuild(base, recipe)
    module.load_state_dict(tensors, strict=True)
    return module, base, recipe, said["about"]


def _plain(data: dict[str, Any]) -> dict[str, Any]:
    """Return data as a file gives it back: tuples are lists there."""
    return json.loads(json.dumps(data))


def _parts(said: Mapping[str, Any]) -> tuple[Base, tuple[Step, ...]]:
    try:
        base, recipe = Base(*said["base"]), tuple(Step(*step) for step in said["recipe"])
    except TypeError:
        raise UserError("its base or recipe is damaged") from None
    plain = isinstance(base.name, str) and isinstance(base.config, dict)
    if not plain or not all(isinstance(step.name, str) and isinstance(step.config, dict) for step in recipe):
        raise UserError("its base or recipe is damaged")
    return base, recipe


def same_bits(one: Tensor, other: Tensor) -> bool:
    """Return whether two tensors hold the same bits (NaN equal to itself)."""
    if one.shape != other.shape or one.dtype != other.dtype:
        return False
    return torch.equal(one.contiguous().view(torch.uint8), other.contiguous().view(torch.uint8))
