"""Shared by all tests: the suite's own packages first on the path, torch on one thread, steady hypothesis."""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
# tests/ has folders called envs, agents and rlsuite: without this they would shadow the packages of those names.
sys.path.insert(0, str(ROOT))

import envs  # noqa: E402, F401, I001  (before mujoco and torch: it chooses what they are loaded with)
import agents  # noqa: E402, F401  (it registers the agents' names)
import hypothesis  # noqa: E402
import pytest  # noqa: E402
import torch  # noqa: E402

hypothesis.settings.register_profile("suite", deadline=None, derandomize=True, database=None)
hypothesis.settings.load_profile("suite")


@pytest.fixture(autouse=True)
def _torch_settings():
    """One thread and full float arithmetic in every test, whatever an earlier one has set."""
    torch.set_num_threads(1)
    torch.set_flush_denormal(False)  # hypothesis refuses to draw floats otherwise
    torch.manual_seed(0)


@pytest.fixture
def generator():
    return torch.Generator().manual_seed(0)
