import errno
import fcntl
import json
import os
import signal
import socket
import subprocess
import sys

import pytest

from rlsuite.errors import UserError
from rlsuite.records.run_lock import RunLock

HOLD = """
import os, sys, time
from rlsuite.records.run_lock import RunLock
with RunLock(sys.argv[1]):
    if sys.argv[2] == "fork" and (child := os.fork()) == 0:
        os.close(1)
        time.sleep(60)
        os._exit(0)
    print(child if sys.argv[2] == "fork" else 0, flush=True)
    time.sleep(60)
"""


def holder(run_dir, how):
    process = subprocess.Popen([sys.executable, "-c", HOLD, run_dir, how], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    return process, int(process.stdout.readline())


@pytest.mark.parametrize("how", ["alone", "fork"])
def test_second_process_is_refused_until_the_first_dies(tmp_path, how):
    run_dir = tmp_path / "run"
    process, child = holder(run_dir, how)
    try:
        with pytest.raises(UserError) as error, RunLock(run_dir):
            pass
        text = str(error.value)
        assert "\n" not in text
        assert f"in use by process {process.pid} on {socket.gethostname()}" in text
        assert "run_dir=" in text
    finally:
        process.send_signal(signal.SIGKILL)
        process.communicate()
    with RunLock(run_dir):  # kill -9 freed it, even where a forked child lives on
        assert json.loads((run_dir / ".lock").read_text())["pid"] == os.getpid()
    if child:
        os.kill(child, signal.SIGKILL)


def test_refused_in_the_same_process_and_free_again_afterwards(tmp_path):
    with RunLock(tmp_path) as lock:
        with pytest.raises(UserError, match=f"process {os.getpid()} on"), RunLock(tmp_path):
            pass
        with pytest.raises(ValueError, match="already holds"), lock:
            pass
    with pytest.raises(KeyError), RunLock(tmp_path):
        raise KeyError
    with lock:
        pass


def test_unsigned_lock_file(tmp_path):
    with RunLock(tmp_path):
        (tmp_path / ".lock").write_text("{")
        with pytest.raises(UserError, match="in use by another process"), RunLock(tmp_path):
            pass


@pytest.mark.parametrize("where", ["file/run", "file"])
def test_unwritable(tmp_path, where):
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(UserError, match=r"cannot write to run_dir .*choose another run_dir="),
        RunLock(tmp_path / where),
    ):
        pass


def test_no_permission(tmp_path, monkeypatch):
    def refuse(*arguments):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(UserError, match="Permission denied"), RunLock(tmp_path):
        pass


def test_file_system_without_locks(tmp_path, monkeypatch):
    def refuse(*arguments):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(UserError, match=r"No locks available.*file system with locks"), RunLock(tmp_path):
        pass
