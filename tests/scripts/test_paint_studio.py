"""The painting studio: its answers, what it refuses, and its page in a browser."""

import io
import json
import shutil
import threading
import time
import urllib.error
import urllib.parse
import urllib.request

import numpy as np
import pytest
from PIL import Image

from renderers.stroke_files import load_strokes
from rlsuite.cli import run_script
from scripts.screenshot_tensorboard import BROWSERS
from scripts.studio.browser import Browser

pytest.importorskip("starlette")
uvicorn = pytest.importorskip("uvicorn")
QUICK = {"strokes": 30, "refine_steps": 45, "long_side": 64}


@pytest.fixture
def photo(tmp_path):
    rows, columns = np.meshgrid(np.linspace(0, 1, 48), np.linspace(0, 1, 64), indexing="ij")
    pixels = np.stack([rows, columns, 0.5 + 0.5 * np.sin(8 * (rows + columns))], axis=-1)
    path = tmp_path / "photo.png"
    Image.fromarray((255 * pixels).astype(np.uint8)).save(path)
    return path


@pytest.fixture
def studio(tmp_path):
    from scripts.studio.jobs import Studio
    from scripts.studio.server import make_app

    folder = tmp_path / "studio"
    folder.mkdir()
    made = Studio(folder, num_threads=1)
    server = uvicorn.Server(uvicorn.Config(make_app(made), host="127.0.0.1", port=0, log_level="error"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.02)
    made.address = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    yield made
    server.should_exit = True
    thread.join(timeout=20)
    made.close()


def ask(studio, path, data=None, headers=None, method=None):
    request = urllib.request.Request(studio.address + path, data, {"x-studio": "1", **(headers or {})}, method=method)
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


def begin(studio, photo, **options):
    query = urllib.parse.urlencode({"options": json.dumps({**QUICK, **options})})
    return ask(studio, f"/jobs?{query}", photo.read_bytes())


def ended(studio, job, seconds=120):
    end = time.monotonic() + seconds
    while True:
        found = json.loads(ask(studio, f"/jobs/{job['name']}")[1])
        if found["state"] in ("done", "stopped", "failed"):
            return found
        assert time.monotonic() < end, found
        time.sleep(0.05)


def test_a_picture_is_painted_and_equals_the_command_lines(studio, photo, tmp_path):
    status, body = begin(studio, photo)
    assert status == 201
    done = ended(studio, json.loads(body))
    assert done["state"] == "done", done
    assert done["strokes"] <= 30
    from scripts import paint_image

    keys = [f"{name}={value}" for name, value in QUICK.items()]
    assert run_script(paint_image.main, [str(photo), *keys, "num_threads=1", f"output={tmp_path / 'out'}"]) == 0
    for name in ("painting.png", "strokes.json", "strokes.svg"):
        status, found = ask(studio, f"/jobs/{done['name']}/files/{name}")
        assert status == 200
        assert found == (tmp_path / "out" / name).read_bytes(), name
    assert ask(studio, f"/jobs/{done['name']}/files/painting.mp4")[0] == 200
    # Back to any stroke, and that as files, too.
    whole, part = (
        np.asarray(Image.open(io.BytesIO(ask(studio, f"/jobs/{done['name']}/picture?side=64{more}")[1])))
        for more in ("", "&strokes=3")
    )
    assert whole.shape == part.shape == (48, 64, 3)
    assert np.abs(whole.astype(int) - part).mean() > 5
    (tmp_path / "part.json").write_bytes(ask(studio, f"/jobs/{done['name']}/files/strokes.json?strokes=3")[1])
    assert len(load_strokes(tmp_path / "part.json")) == 3


def test_pausing_going_on_stopping_and_queueing(studio, photo):
    first = json.loads(begin(studio, photo, refine_steps=100_000)[1])
    second = json.loads(begin(studio, photo)[1])
    while json.loads(ask(studio, f"/jobs/{first['name']}")[1])["version"] < 3:
        time.sleep(0.02)
    assert json.loads(ask(studio, f"/jobs/{second['name']}")[1])["state"] == "waiting"
    ask(studio, f"/jobs/{first['name']}/pause", b"", method="POST")
    time.sleep(0.5)
    paused = json.loads(ask(studio, f"/jobs/{first['name']}")[1])
    time.sleep(0.3)
    assert json.loads(ask(studio, f"/jobs/{first['name']}")[1])["version"] == paused["version"]
    assert paused["state"] == "paused"
    ask(studio, f"/jobs/{first['name']}/go", b"", method="POST")
    while json.loads(ask(studio, f"/jobs/{first['name']}")[1])["version"] == paused["version"]:
        time.sleep(0.02)
    ask(studio, f"/jobs/{first['name']}/stop", b"", method="POST")
    assert ended(studio, first)["state"] == "stopped"
    assert ask(studio, f"/jobs/{first['name']}/files/painting.png")[0] == 200
    assert ended(studio, second)["state"] == "done"


def test_a_mask_goes_with_the_picture(studio, photo):
    mask = np.zeros((48, 64), np.uint8)
    mask[:, :20] = 255
    made = io.BytesIO()
    Image.fromarray(mask).save(made, "PNG")
    name = json.loads(ask(studio, "/masks", made.getvalue())[1])["mask"]
    query = urllib.parse.urlencode({"options": json.dumps(QUICK), "mask": name})
    status, body = ask(studio, f"/jobs?{query}", photo.read_bytes())
    assert status == 201
    assert ended(studio, json.loads(body))["state"] == "done"


def test_what_is_refused(studio, photo, monkeypatch):
    from scripts.studio import server

    def refused(answer, said):
        status, body = answer
        assert status == 400, body
        assert said in json.loads(body)["error"]

    refused(ask(studio, "/jobs?options={}", b"no picture"), "picture")
    refused(ask(studio, "/jobs?options={}", b""), "no picture came")
    refused(ask(studio, "/jobs?options=[", photo.read_bytes()), "no JSON object")
    refused(begin(studio, photo, strokes=1), "strokes=1")
    refused(begin(studio, photo, output="/tmp/x"), "unknown option 'output'")
    refused(begin(studio, photo, palette="/etc/passwd"), "use a number of colours")
    refused(begin(studio, photo, long_side=10**6), "16 to 1024")
    query = urllib.parse.urlencode({"options": "{}", "mask": "../x"})
    refused(ask(studio, f"/jobs?{query}", photo.read_bytes()), "mask is not here")
    refused(ask(studio, "/jobs/nothing"), "not here any more")
    refused(ask(studio, "/jobs?options={}", photo.read_bytes(), {"x-studio": "0"}), "only the studio's own page")
    assert ask(studio, "/", headers={"host": "evil.example"})[0] == 400  # a name that was bound anew to this machine
    assert ask(studio, "/../server.py")[0] == 404
    monkeypatch.setattr(server, "LARGEST_UPLOAD", 100)
    refused(ask(studio, "/jobs?options={}", photo.read_bytes()), "larger than")


@pytest.mark.skipif(
    not any(map(shutil.which, BROWSERS)), reason="no Chromium is installed (Debian: apt-get install chromium)"
)
def test_the_page_in_a_browser(studio, photo):
    pytest.importorskip("websockets")
    page = Browser(f"{studio.address}/?steps=60", size=(390, 844))  # a phone's width
    try:
        page.wait_for("document.readyState === 'complete' && !!document.getElementById('file')")
        page.choose_file("#file", photo)
        page.wait_for("!document.getElementById('paint').disabled")
        assert page.run("document.documentElement.scrollWidth <= innerWidth")  # nothing to scroll sideways
        before = page.run("document.querySelector('#view canvas').toDataURL()")
        page.run("document.getElementById('strokes').value = 30; document.getElementById('long_side').value = 256")
        page.run("document.getElementById('paint').click()")
        page.wait_for("document.querySelectorAll('#files a').length === 4")
        assert page.run("document.getElementById('state').textContent").startswith("done")
        assert page.run("document.querySelector('#view canvas').toDataURL()") != before
        names = page.run("[...document.querySelectorAll('#files a')].map((link) => link.download).join()")
        assert names == "painting.png,strokes.svg,strokes.json,painting.mp4"
        page.run("document.body.focus(); document.dispatchEvent(new KeyboardEvent('keydown', {key: 'ArrowLeft'}))")
        page.wait_for("Number(document.getElementById('back').value) < Number(document.getElementById('back').max)")
        page.wait_for("document.querySelector('#files a').href.includes('strokes=')")
        assert len(page.picture()) > 5000
    finally:
        page.close()


def test_wrong_ports_are_refused(capsys):
    from scripts import paint_studio

    assert run_script(paint_studio.main, ["port=99999"]) == 2
    assert run_script(paint_studio.main, ["port=1", "num_threads=-1"]) == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 2
