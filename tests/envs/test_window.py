"""The window: its pace and its end by a GLFW that is none; its pixels on the screen of an Xvfb, where there is one."""

import os
import shutil
import subprocess
import sys
from types import SimpleNamespace

import mujoco
import numpy as np
import pytest
from paths import ROOT

from envs import window
from envs.window import Window
from rlsuite.errors import UserError

ON_A_SCREEN = """
import numpy as np
from PIL import ImageGrab
from envs.window import Window
picture = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
window = Window("title", 50.0)
for _ in range(3):
    window.show(picture)
left, top = window._glfw.get_window_pos(window._window)
screen = np.asarray(ImageGrab.grab(xdisplay=""))[top : top + 48, left : left + 64, :3]
assert np.array_equal(screen, picture)
window.close()
window.show(picture)
"""


class FakeGlfw(SimpleNamespace):
    """A display of 200 x 150 points on which nothing is seen."""

    VISIBLE, TRUE, KEY_ESCAPE, PRESS = 0, 1, 2, 3

    def __init__(self):
        super().__init__(opened=[], destroyed=0, polled=0, wants_to_close=False, escape=False)

    def window_hint(self, hint, value):
        assert (hint, value) == (self.VISIBLE, self.TRUE)

    def create_window(self, width, height, title, monitor, share):
        self.opened.append((width, height, title))
        return object()

    def make_context_current(self, made):
        pass

    def get_framebuffer_size(self, made):
        return 200, 150

    def swap_buffers(self, made):
        pass

    def poll_events(self):
        self.polled += 1

    def window_should_close(self, made):
        return self.wants_to_close

    def get_key(self, made, key):
        return self.PRESS if self.escape else 0

    def destroy_window(self, made):
        self.destroyed += 1


@pytest.fixture
def display(monkeypatch):
    """Pretend a display, and a clock that only sleeping moves; return (glfw, drawn, slept, clock)."""
    glfw, drawn, slept, clock = FakeGlfw(), [], [], SimpleNamespace(now=100.0)

    def sleep(seconds):
        slept.append(seconds)
        clock.now += seconds

    monkeypatch.setattr(window, "_glfw", lambda: glfw)
    monkeypatch.setattr(window.time, "monotonic", lambda: clock.now)
    monkeypatch.setattr(window.time, "sleep", sleep)
    monkeypatch.setattr(mujoco, "MjrContext", lambda *_: SimpleNamespace(free=lambda: None))
    monkeypatch.setattr(mujoco, "mjr_rectangle", lambda *_: None)
    monkeypatch.setattr(
        mujoco, "mjr_drawPixels", lambda pixels, _, rect, __: drawn.append(pixels.reshape(rect.height, rect.width, 3))
    )
    return glfw, drawn, slept, clock


def test_pictures_are_enlarged_by_whole_times_and_stand_upright(display):
    glfw, drawn, _, _ = display
    picture = np.arange(48 * 64 * 3, dtype=np.uint8).reshape(48, 64, 3)
    Window("Hopper", 20.0).show(picture)
    assert glfw.opened == [(64, 48, "Hopper")]
    (pixels,) = drawn
    assert pixels.shape == (144, 192, 3)  # three times is what 200 x 150 has room for
    assert np.array_equal(pixels[::-1][::3, ::3], picture)
    assert np.array_equal(pixels[2::3, 2::3], picture[::-1])


def test_the_pace_is_the_tasks_and_what_is_late_is_not_hurried_after(display):
    _, drawn, slept, clock = display
    shown = Window("Hopper", 10.0)
    picture = np.zeros((4, 4, 3), np.uint8)
    shown.show(picture)  # at 100.0; the next is due at 100.1
    clock.now += 0.03
    shown.show(picture)
    assert slept == [pytest.approx(0.07)]
    clock.now += 0.15  # due at 100.2, now 100.25: the one after is made up for
    shown.show(picture)
    shown.show(picture)
    assert slept[1:] == [pytest.approx(0.05)]
    clock.now += 5.0  # so late that the pace begins anew
    shown.show(picture)
    shown.show(picture)
    assert slept[2:] == [pytest.approx(0.1)]
    assert len(drawn) == 6


@pytest.mark.parametrize("how", ["wants_to_close", "escape"])
def test_a_closed_window_swallows_what_comes(display, how):
    glfw, drawn, _, _ = display
    shown = Window("Hopper", 10.0)
    picture = np.zeros((4, 4, 3), np.uint8)
    shown.show(picture)
    setattr(glfw, how, True)
    shown.show(picture)
    assert shown.closed
    shown.show(picture)
    shown.close()
    assert (len(drawn), glfw.destroyed) == (2, 1)


def test_without_a_display_one_line_says_what_else_there_is(monkeypatch):
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    with pytest.raises(UserError, match=r"neither DISPLAY nor WAYLAND_DISPLAY is set.*video=true") as error:
        Window("Hopper", 10.0)
    assert "\n" not in str(error.value)
    monkeypatch.setenv("DISPLAY", ":12345")
    with pytest.raises(UserError, match=r"the display does not answer"):
        Window("Hopper", 10.0)


@pytest.mark.skipif(shutil.which("Xvfb") is None, reason="Xvfb is not installed (apt-get install xvfb)")
def test_the_screen_shows_the_picture():
    server = subprocess.Popen(
        ["Xvfb", "-displayfd", "1", "-screen", "0", "800x600x24", "-nolisten", "tcp"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    try:
        number = server.stdout.readline().decode().strip()
        code = ON_A_SCREEN.replace('xdisplay=""', f'xdisplay=":{number}"')
        environment = {**os.environ, "DISPLAY": f":{number}", "PYTHONPATH": str(ROOT)}
        done = subprocess.run(
            [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 0, done.stderr
    finally:
        server.kill()
        server.wait()
