"""What a person sees in a terminal: driven through a pseudo-terminal, its lines counted as the terminal would."""

import fcntl
import json
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
import time

import pytest
from paths import ROOT

from rlsuite.title import fitted, title, title_of_sweep

TINY = ["agent=ddpg", "env=InvertedPendulum", "preset=debug", "num_threads=1", "steps=160", "learning_starts=48"]
TINY += ["checkpoint.every=80", "evaluate.every=40", "evaluate.episodes=2", "log.every=8"]
ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def in_terminal(arguments, folder, columns, lines, until=None):
    """Run train_agent.py in a terminal; return (seconds, text so far) at every piece of output.

    Ended early, once `until` is in what was written.
    """
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
    environment = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES", "NO_COLOR")}
    environment |= {"TERM": "xterm-256color", "PYTHONIOENCODING": "utf-8"}
    began = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "scripts" / "train_agent.py"), *arguments],
        stdin=slave, stdout=slave, stderr=slave, cwd=folder, env=environment, start_new_session=True,
    )  # fmt: skip
    os.close(slave)
    text, moments = b"", []
    try:
        while time.monotonic() - began < 120:
            if select.select([master], [], [], 0.5)[0]:
                try:
                    piece = os.read(master, 65536)
                except OSError:  # Linux says so where the other end is closed
                    break
                if not piece:
                    break
                text += piece
                moments.append((time.monotonic() - began, text.decode(errors="replace")))
                if until is not None and until in moments[-1][1]:
                    break
    finally:
        os.close(master)
        if until is not None:
            process.kill()
        process.wait(60)
    return moments


@pytest.mark.parametrize(("columns", "lines"), [(80, 24), (120, 40)])
def test_nothing_wraps(tmp_path, columns, lines):
    moments = in_terminal([*TINY, "run_dir=runs/tiny"], tmp_path, columns, lines)
    text = moments[-1][1]
    shown = [ESCAPE.sub("", line) for piece in text.split("\n") for line in piece.split("\r")]
    assert max(map(len, shown)) <= columns, max(shown, key=len)
    first = next(line for line in shown if line.strip())
    assert first == "ddpg on InvertedPendulum, seed 0, device " + first.rpartition("device ")[2]
    assert first.endswith(", runs/tiny")
    # A drawing goes up by as many lines as it has, and those of the terminal are enough for it.
    ups = [len(found.group().split("\x1b[1A")) - 1 for found in re.finditer(r"(\x1b\[1A(\x1b\[2K)?)+", text)]
    assert max(ups) < lines
    last = "\n".join(shown[-60:])
    assert re.search(r"evaluation return +[▁▂▃▄▅▆▇█]{2,}", last)
    assert re.search(r"time left +0m00s", last)
    assert "finished at step 160; next:" in last
    kinds = [json.loads(line)["kind"] for line in (tmp_path / "runs/tiny/metrics.jsonl").read_text().splitlines()]
    assert kinds.count("evaluate") == 4


def test_the_title_comes_before_torch_is_imported(tmp_path):
    """At most half the time of `import torch`; the best of three, since other processes hold either up."""
    title_s, torch_s = [], []
    for _ in range(3):
        moments = in_terminal([*TINY, "run_dir=runs/tiny"], tmp_path, 80, 24, until="runs/tiny")
        title_s.append(moments[-1][0])
        began = time.monotonic()
        subprocess.run([sys.executable, "-c", "import torch"], check=True)
        torch_s.append(time.monotonic() - began)
    assert min(title_s) <= 0.5 * min(torch_s)


def test_the_title_needs_neither_torch_nor_hydra():
    code = "import sys, scripts.train_agent; print(sorted({'torch', 'hydra', 'numpy', 'omegaconf'} & set(sys.modules)))"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert ended.stdout == "[]\n"


def test_titles(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    assert title(["preset=l2r_lance", "device=cpu"], "r") == "ddpg on LearningToRun, seed 0, device cpu, r"
    assert title(["preset=../x", "env=Ant", "device=cpu"], "r") == "ace on Ant, seed 0, device cpu, r"
    assert title(["agent=td3", "env=Hopper-v5", "seed=3", "device=cuda"], "runs/x") == (
        "td3 on Hopper, seed 3, device cuda, runs/x"
    )
    assert (
        title(["env=gymnasium", "env.id=Pendulum-v1", "device=cpu"], "r") == "ace on Pendulum-v1, seed 0, device cpu, r"
    )
    assert title_of_sweep(["agent=a,b", "seed=range(3)", "steps=8"], "s") == "a sweep over agent=a,b seed=range(3), s"
    assert fitted("w" * 70, "runs/long-name") == "w" * 70 + "\nruns/long-name"
    assert fitted("w" * 90, "runs") == "w" * 79 + "\nruns"
