"""The odd environment is registered while these tests run."""

import gymnasium
import pytest
from odd_environments import ID, Odd


@pytest.fixture(scope="session", autouse=True)
def _registered():
    gymnasium.register(ID, entry_point=Odd)
    yield
    del gymnasium.registry[ID]
