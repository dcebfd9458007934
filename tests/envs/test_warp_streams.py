"""Which of a GPU's streams Warp works in, captures and waits for, with a stand-in for Warp and no GPU."""

import contextlib
import types

import pytest
import torch

pytest.importorskip("mujoco_warp", reason="mujoco-warp is not installed (extra: gpu)")
from envs.simulation.gpu import WarpSimulation
from envs.simulation.mjwarp import on_device


class Streams:
    """Stands in for Warp on a GPU: which stream is current, which is captured, and who waits for whom."""

    def __init__(self):
        self.current, self.captured, self.waited = "warp's own", None, []

    def Stream(self):  # noqa: N802
        return "fresh"

    @contextlib.contextmanager
    def ScopedStream(self, stream, sync_enter=True):  # noqa: N802
        before, self.current = self.current, stream
        self.waited.append(sync_enter)
        yield
        self.current = before

    @contextlib.contextmanager
    def ScopedCapture(self, stream):  # noqa: N802
        self.captured = stream
        yield types.SimpleNamespace(graph=f"of {stream}")
        self.captured = None

    ScopedDevice = staticmethod(contextlib.nullcontext)
    device_from_torch = staticmethod(str)
    stream_from_torch = staticmethod(str)


def test_a_recording_captures_the_stream_that_the_work_is_done_in(monkeypatch):
    monkeypatch.setattr(torch.cuda, "synchronize", lambda device: None)
    simulation, warp, seen = object.__new__(WarpSimulation), Streams(), []
    vars(simulation).update(_warp=warp, device=torch.device("cuda"), state=dict, load_state=lambda state: None)
    graph = simulation._record(lambda: seen.append((warp.current, warp.captured)), cuda=True)
    assert graph == "of fresh"
    assert seen == [("warp's own", None), ("fresh", "fresh")]


@pytest.mark.parametrize("capturing", [False, True])
def test_a_stream_that_is_captured_waits_for_no_other(capturing, monkeypatch):
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: "torch's")
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: capturing)
    warp = Streams()
    with on_device(warp, torch.device("cuda")):
        assert warp.current == "torch's"
    assert warp.waited == [not capturing]
