"""The shipped painter's file at few bits: its weights' bits, and little beside them, all of it accounted for."""

import pytest
import torch

from envs.evaluation.catalogue import EVALUATIONS
from envs.evaluation.probes import count_bytes, itemize_bytes
from envs.evaluation.quantization.layer import PackedLayer, quantizable
from envs.evaluation.transform import apply
from rlsuite.methods import choose
from scripts.experiments.painter_subject import painter_subject


@pytest.fixture(scope="module")
def painter():
    return painter_subject(scenes=1, states=16)


def made(painter, method, bits, ends):
    numbers = {"bits": bits, "places.first": ends, "places.last": ends, "teach.fit.steps": 1, "teach.rounds": 1}
    (chosen,) = choose(EVALUATIONS, [method], {f"{method}.{key}": value for key, value in numbers.items()})
    return apply(chosen, painter, 0)


def packed_layers(subject):
    return {path: part for path, part in subject.module.named_modules() if isinstance(part, PackedLayer)}


@pytest.mark.parametrize(
    ("method", "bits", "ends"),
    [("sat", 8, 8), ("sat", 4, 4), ("sat", 4, 8), ("sat", 2, 2), ("sat", 1, 8), ("pams", 8, 8), ("pams", 4, 4)],
)
def test_packed_painters_take_their_weights_bits(painter, method, bits, ends):
    sizes = {path: layer.weight.numel() for path, layer in quantizable(painter.module).items()}
    subject = made(painter, method, bits, ends)
    layers, paths = packed_layers(subject), list(sizes)
    assert list(layers) == paths
    width = {path: ends if path in (paths[0], paths[-1]) else bits for path in paths}
    for path, layer in layers.items():
        assert layer.codes.numel() == -(-width[path] * sizes[path] // 8)
    weights = sum(width[path] * sizes[path] for path in paths) / 8
    items, whole = itemize_bytes(subject), count_bytes(subject)
    assert sum(items.values()) == whole
    assert items["codes"] == pytest.approx(weights, abs=len(paths))
    if bits >= 4:
        assert weights < whole <= 1.05 * weights
    # What is not codes is the same at every width: names and recipe, biases, BatchNorm, one alpha and scale a layer.
    floats = sum(value.numel() for name, value in painter.module.state_dict().items()
                 if value.is_floating_point() and not any(name == f"{path}.weight" for path in paths))  # fmt: skip
    alphas = len(paths) - (method == "sat")  # which takes pictures in as they are
    assert items["floats"] == 4 * (floats + alphas)
    assert items["scales"] == 4 * len(paths)
    assert items["header"] < 6_000


def test_bytes_of_a_float_network_are_header_and_floats(painter):
    items = itemize_bytes(painter)
    floats = [value for value in painter.module.state_dict().values() if value.is_floating_point()]
    assert items["floats"] == 4 * sum(value.numel() for value in floats)
    assert items["whole numbers"] == 8 * sum(1 for value in painter.module.state_dict().values()
                                             if value.dtype == torch.int64)  # fmt: skip
    assert sum(items.values()) == count_bytes(painter)
    assert "codes" not in items
