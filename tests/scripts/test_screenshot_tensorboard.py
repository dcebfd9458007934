"""screenshot_tensorboard.py in a real browser, and what it and watch_runs.py say where something is missing."""

import shutil
import urllib.parse
import urllib.request

import numpy as np
import pytest
from PIL import Image

from rlsuite.cli import run_script
from rlsuite.records.monitor import Monitor
from scripts import screenshot_tensorboard, watch_runs


@pytest.mark.skipif(
    not any(map(shutil.which, screenshot_tensorboard.BROWSERS)), reason="no Chromium (Debian: apt-get install chromium)"
)
@pytest.mark.slow
def test_pictures_are_taken(tmp_path):
    with Monitor(tmp_path / "runs" / "Hopper-td3-s0", total_steps=20, console=False) as monitor:
        for step in (10, 20):
            monitor.record(step, "evaluate", {"mean": float(step), "low": 1.0, "high": 30.0})
    output = tmp_path / "pictures"
    assert run_script(screenshot_tensorboard.main, [f"runs={tmp_path / 'runs'}", f"output={output}"]) == 0
    for name in ("cards", "interval", "hparams"):
        picture = np.asarray(Image.open(output / f"{name}.png").convert("RGB"))
        assert picture.shape == (900, 1400, 3)
        assert len(np.unique(picture.reshape(-1, 3), axis=0)) > 50  # a page, and no white sheet


def test_the_board_is_served_on_this_machine_alone_with_the_return_pinned(tmp_path):
    address = watch_runs.launch(tmp_path, 0)
    assert address.startswith("http://127.0.0.1:")
    with urllib.request.urlopen(address, timeout=30) as page:
        assert page.status == 200
    pinned = urllib.parse.unquote(watch_runs.pinned(address))
    assert pinned == f'{address}?pinnedCards=[{{"plugin":"scalars","tag":"return/evaluation"}}]#timeseries'


def test_what_is_missing_is_said_in_one_line(tmp_path, capsys, monkeypatch):
    assert run_script(watch_runs.main, [f"runs={tmp_path / 'none'}"]) == 2
    assert "no such directory" in capsys.readouterr().err
    monkeypatch.setattr(screenshot_tensorboard, "BROWSERS", ("no-such-browser",))
    assert run_script(screenshot_tensorboard.main, [f"runs={tmp_path}"]) == 2
    assert "apt-get install chromium" in capsys.readouterr().err
