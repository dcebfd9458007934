"""A window that shows pictures as they come, at the clock's pace: GLFW, which comes with MuJoCo, whatever drew them."""

# MuJoCo's compiled modules and GLFW have no type stubs.
# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

import os
import sys
import time
import warnings
from typing import Any

import mujoco
import numpy as np

from rlsuite.errors import UserError

_LATE_S = 0.25  # a picture later than this is not made up for: those after it keep their distance


class Window:
    """Shows pictures; opened with the first, closed by its button, Esc or `close`.

    Args:
        title: of the window.
        frames_per_second: at most so many are shown, above 0.

    Raises:
        UserError: if there is no display.
    """

    def __init__(self, title: str, frames_per_second: float) -> None:
        self._glfw, self._title, self._between = _glfw(), title, 1.0 / frames_per_second
        self._window: Any = None
        self._context: Any = None
        self._due = 0.0
        self.closed = False

    def show(self, picture: np.ndarray) -> None:
        """Show a picture (H, W, 3) uint8 when its time has come; nothing once the window is closed."""
        if self.closed:
            return
        if self._window is None:
            self._open(picture)
        self._wait()
        glfw = self._glfw
        glfw.make_context_current(self._window)  # what draws pictures by OpenGL has made its own the current one
        width, height = glfw.get_framebuffer_size(self._window)
        times = max(1, min(height // picture.shape[0], width // picture.shape[1]))
        pixels = np.ascontiguousarray(picture[::-1].repeat(times, axis=0).repeat(times, axis=1))  # OpenGL counts upward
        shown, whole = mujoco.MjrRect(0, 0, pixels.shape[1], pixels.shape[0]), mujoco.MjrRect(0, 0, width, height)
        mujoco.mjr_rectangle(whole, 0.0, 0.0, 0.0, 1.0)
        mujoco.mjr_drawPixels(pixels.ravel(), None, shown, self._context)
        glfw.swap_buffers(self._window)
        glfw.poll_events()
        if glfw.window_should_close(self._window) or glfw.get_key(self._window, glfw.KEY_ESCAPE) == glfw.PRESS:
            self.close()

    def close(self) -> None:
        """Close the window; pictures shown from now on go nowhere."""
        self.closed = True
        if self._window is not None:
            self._glfw.make_context_current(self._window)
            self._context.free()
            self._glfw.destroy_window(self._window)
            self._window = self._context = None

    def _open(self, picture: np.ndarray) -> None:
        glfw = self._glfw
        glfw.window_hint(glfw.VISIBLE, glfw.TRUE)  # MuJoCo's renderers hide theirs
        self._window = glfw.create_window(picture.shape[1], picture.shape[0], self._title, None, None)
        if not self._window:
            raise _no_display("no window can be opened")
        glfw.make_context_current(self._window)
        empty = mujoco.MjModel.from_xml_string("<mujoco/>")
        self._context = mujoco.MjrContext(empty, mujoco.mjtFontScale.mjFONTSCALE_100)

    def _wait(self) -> None:
        """Sleep until the next picture is due."""
        now = time.monotonic()
        if now < self._due:
            time.sleep(self._due - now)
            self._due += self._between
        else:
            self._due = (self._due if now - self._due < _LATE_S else now) + self._between


def _glfw() -> Any:
    """Return GLFW, initialized; terminating it is its own business, at the process's end.

    Raises:
        UserError: if there is no display.
    """
    if sys.platform.startswith("linux") and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        raise _no_display("neither DISPLAY nor WAYLAND_DISPLAY is set")
    try:
        import glfw  # here, for it looks for its library when imported
    except ImportError as error:
        raise _no_display(str(error)) from None
    with warnings.catch_warnings():  # what is wrong it warns of, beside returning False
        warnings.simplefilter("ignore")
        if not glfw.init():
            raise _no_display("the display does not answer")
    return glfw


def _no_display(why: str) -> UserError:
    return UserError(f"render=human: there is no display to open a window on ({why}); use video=true, which films it")
