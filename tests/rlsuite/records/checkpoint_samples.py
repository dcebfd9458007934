"""Small checkpoints that say one number everywhere, for the checkpoint tests."""

from pathlib import Path

import torch

from rlsuite.records.checkpoint import save_checkpoint


def parts_of(value, size=8):
    """Three parts that all say `value`: a mixture of two checkpoints cannot go unseen."""
    return {
        "agent": {"weight": torch.full((size,), float(value))},
        "replay": {"reward": torch.full((2 * size,), float(value)), "position": torch.tensor(value)},
        "empty": {},
    }


def save(run_dir, value, **options):
    return save_checkpoint(run_dir, value, parts_of(value), {"value": value}, **options)


def assert_says(checkpoint, value):
    assert checkpoint.step == value
    assert checkpoint.metadata == {"value": value}
    for part in checkpoint.parts.values():
        for tensor in part.values():
            assert (tensor == value).all()


def names(run_dir):
    return sorted(path.name for path in (Path(run_dir) / "checkpoints").iterdir())


def one_line(error):
    text = str(error.value)
    assert "\n" not in text
    return text
