"""Checkpoints: exact round trips, every kind of damage, pruning, and how one is found."""

import json
import os
import re
import shutil

import hypothesis
import hypothesis.strategies as st
import pytest
import torch
from checkpoint_samples import assert_says, names, one_line, save

from rlsuite.errors import UserError
from rlsuite.records import checkpoint_format
from rlsuite.records.checkpoint import (
    latest_checkpoint,
    list_checkpoints,
    read_checkpoint,
    resolve_checkpoint,
    save_checkpoint,
)

DTYPES = sorted(checkpoint_format._DTYPES, key=str)


def test_every_dtype_and_layout_comes_back_exactly(tmp_path):
    grid = torch.arange(12.0).reshape(3, 4)
    agent = {f"dtype/{dtype}": torch.tensor([[0, 1, 2], [3, 4, 5]]).to(dtype) for dtype in DTYPES}
    odd = {
        "not finite": torch.tensor([float("nan"), float("inf"), -0.0]),
        "zero-dimensional": torch.tensor(2.5, dtype=torch.float64),
        "no elements": torch.empty(0, 3),
        "no elements either": torch.empty(0),
        "transposed": grid.T,
        "row of the same": grid[1],
        "the same": grid,
        "expanded": torch.ones(1).expand(5),
        "parameter": torch.nn.Parameter(torch.randn(3)),
        "random state": torch.get_rng_state(),
    }
    path = save_checkpoint(tmp_path, 7, {"agent": agent, "odd": odd, "nothing": {}}, {"seeds": (1, 2), "ü": None})
    read = read_checkpoint(path)
    assert (read.path, read.step, read.metadata) == (path, 7, {"seeds": [1, 2], "ü": None})
    assert set(read.parts) == {"agent", "odd", "nothing"}
    assert read.parts["nothing"] == {}
    for part, tensors in (("agent", agent), ("odd", odd)):
        assert set(read.parts[part]) == set(tensors)
        for name, tensor in tensors.items():
            back = read.parts[part][name]
            assert (back.dtype, back.shape) == (tensor.dtype, tensor.shape), name
            assert back.numpy(force=True).tobytes() == tensor.numpy(force=True).tobytes() \
                if tensor.dtype != torch.bfloat16 else torch.equal(back, tensor), name  # fmt: skip


@hypothesis.settings(max_examples=25, deadline=None)
@hypothesis.given(
    st.dictionaries(
        st.from_regex(r"[a-z][a-z0-9_.-]{0,8}", fullmatch=True),
        st.dictionaries(
            st.text(st.characters(exclude_categories=["Cs"]), max_size=12).filter(lambda s: s != "__metadata__"),
            st.tuples(st.sampled_from(DTYPES), st.lists(st.integers(0, 3), max_size=4)),
            max_size=4,
        ),
        max_size=3,
    ),
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
        max_leaves=6,
    ),
)
def test_any_content_comes_back(tmp_path_factory, layout, metadata):
    parts = {
        part: {name: torch.randint(0, 2, shape).to(dtype) for name, (dtype, shape) in tensors.items()}
        for part, tensors in layout.items()
    }
    run_dir = tmp_path_factory.mktemp("run")
    read = read_checkpoint(save_checkpoint(run_dir, 0, parts, {"any": metadata}))
    assert read.metadata == {"any": metadata}
    assert read.parts.keys() == parts.keys()
    for part, tensors in parts.items():
        assert read.parts[part].keys() == tensors.keys()
        assert all(torch.equal(read.parts[part][name], tensor) for name, tensor in tensors.items())
    shutil.rmtree(run_dir)


def test_equal_content_gives_equal_bytes(tmp_path):
    first, second = save(tmp_path / "a", 1), save(tmp_path / "b", 1)
    for name in ("agent.safetensors", "replay.safetensors", "manifest.json"):
        assert (first / name).read_bytes() == (second / name).read_bytes()


def test_manifest_and_layout(tmp_path):
    path = save(tmp_path, 30)
    assert path == tmp_path / "checkpoints" / "30"
    assert (tmp_path / "checkpoints" / "latest").read_text() == "30\n"
    manifest = json.loads((path / "manifest.json").read_text())
    assert manifest["format_version"] == 1
    assert (manifest["kind"], manifest["step"], manifest["metadata"]) == ("full", 30, {"value": 30})
    assert set(manifest["versions"]) == {"python", "rlsuite", "torch", "numpy", "mujoco", "gymnasium"}
    assert set(manifest["files"]) == {"agent.safetensors", "replay.safetensors", "empty.safetensors"}
    assert manifest["files"]["agent.safetensors"]["bytes"] == (path / "agent.safetensors").stat().st_size
    assert path.stat().st_mode & 0o666 == (path / "agent.safetensors").stat().st_mode & 0o666


def test_what_cannot_be_stored_is_named_before_anything_is_written(tmp_path):
    for parts, pattern in [
        ({"../agent": {}}, "'../agent' is no file name"),
        ({"agent": {"__metadata__": torch.ones(1)}}, "__metadata__"),
        ({"agent": {"w": 1.0}}, "float is no tensor"),
        ({"agent": {"w": torch.ones(1, dtype=torch.complex64)}}, "complex64"),
        ({"agent": {"w": torch.ones(2).to_sparse()}}, "sparse"),
    ]:
        with pytest.raises(ValueError, match=pattern):
            save_checkpoint(tmp_path, 1, parts, {})
    with pytest.raises(ValueError, match="must be JSON"):
        save_checkpoint(tmp_path, 1, {}, {"x": torch.ones(1)})
    with pytest.raises(ValueError, match="keep >= 1"):
        save_checkpoint(tmp_path, 1, {}, {}, keep=0)
    assert not (tmp_path / "checkpoints").exists()


def test_tensors_read_are_private(tmp_path):
    path = save(tmp_path, 1)
    read_checkpoint(path).parts["agent"]["weight"].fill_(9)
    assert_says(read_checkpoint(path), 1)


def test_chosen_parts_only(tmp_path):
    path = save(tmp_path, 1)
    (path / "replay.safetensors").unlink()  # not asked for: not looked at
    assert set(read_checkpoint(path, parts=["agent"]).parts) == {"agent"}


# Damage ------------------------------------------------------------------------------------------------


def flip_byte(path, at):
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)


def rewrite(path, **changes):
    manifest = json.loads((path / "manifest.json").read_text())
    (path / "manifest.json").write_text(json.dumps(manifest | changes))


def listing(folder):
    return {path: (path.stat().st_mtime_ns, path.stat().st_size) for path in folder.rglob("*")}


DAMAGES = {
    "manifest.json is missing": lambda p: (p / "manifest.json").unlink(),
    "manifest.json is not valid JSON": lambda p: (p / "manifest.json").write_text('{"format_version": 1, '),
    "manifest.json is not valid JSON ": lambda p: (p / "manifest.json").write_bytes(b"\xff\xfe\x00"),
    "manifest.json is not one of rlsuite's": lambda p: (p / "manifest.json").write_text("[1]"),
    "it has format 99 and this rlsuite reads format 1": lambda p: rewrite(p, format_version=99),
    "manifest.json was altered": lambda p: rewrite(p, step=31),
    "manifest.json cannot be read": lambda p: ((p / "manifest.json").unlink(), (p / "manifest.json").mkdir()),
    "agent.safetensors is missing": lambda p: (p / "agent.safetensors").unlink(),
    "agent.safetensors is damaged": lambda p: flip_byte(p / "agent.safetensors", -1),
    "agent.safetensors is damaged ": lambda p: flip_byte(p / "agent.safetensors", 0),
    "agent.safetensors has 50 bytes": lambda p: os.truncate(p / "agent.safetensors", 50),
    "replay.safetensors has 0 bytes": lambda p: os.truncate(p / "replay.safetensors", 0),
}


@pytest.mark.parametrize("reason", DAMAGES)
def test_damage_is_named_with_the_way_out(tmp_path, reason):
    older, path = save(tmp_path, 10, keep=2), save(tmp_path, 30, keep=2)
    DAMAGES[reason](path)
    before = listing(tmp_path)
    with pytest.raises(UserError, match=re.escape(reason.strip())) as error:
        read_checkpoint(path)
    text = one_line(error)
    assert str(path) in text
    assert ("use the rlsuite that wrote it (0." in text) if "format 99" in reason else (str(older) in text)
    assert listing(tmp_path) == before
    DAMAGES["agent.safetensors is missing"](older)
    with pytest.raises(UserError, match=r"no other intact checkpoint|use the rlsuite that wrote it"):
        read_checkpoint(path)
    assert_says(read_checkpoint(save(tmp_path, 30, keep=2)), 30)  # training reached the step again


def test_broken_header_without_verification(tmp_path):
    path = save(tmp_path, 1)
    flip_byte(path / "agent.safetensors", 8)
    with pytest.raises(UserError, match=r"agent\.safetensors cannot be read") as error:
        read_checkpoint(path, verify=False)
    one_line(error)


def test_missing_part_is_named_with_near_matches(tmp_path):
    path = save(tmp_path, 1)
    with pytest.raises(UserError, match="it has no part 'repaly'; did you mean 'replay'"):
        read_checkpoint(path, parts=["agent", "repaly"])


# Keeping and pruning -----------------------------------------------------------------------------------


def test_pruning_and_demotion(tmp_path):
    for value in range(1, 7):
        save(tmp_path, value * 100, keep=2, keep_agents=2)
    assert names(tmp_path) == ["300", "400", "500", "600", "latest"]
    for step in (300, 400):
        path = tmp_path / "checkpoints" / str(step)
        assert sorted(file.name for file in path.iterdir()) == ["agent.safetensors", "manifest.json"]
        assert_says(read_checkpoint(path, parts=["agent"]), step)
        for wanted in (None, ["agent", "replay"]):
            with pytest.raises(UserError, match=r"holds only the agent.*checkpoints/600"):
                read_checkpoint(path, parts=wanted)
    for step in (500, 600):
        assert_says(read_checkpoint(tmp_path / "checkpoints" / str(step)), step)
    save(tmp_path, 700)
    assert names(tmp_path) == ["700", "latest"]


def test_half_finished_demotion_is_finished_by_the_next_save(tmp_path):
    for step in (1, 2):
        save(tmp_path, step, keep=1, keep_agents=3)
    (tmp_path / "checkpoints/1/replay.safetensors").write_bytes(b"left behind")
    save(tmp_path, 3, keep=1, keep_agents=3)
    assert not (tmp_path / "checkpoints/1/replay.safetensors").exists()


def test_without_an_agent_there_is_nothing_to_demote(tmp_path):
    for step in (1, 2):
        save_checkpoint(tmp_path, step, {"other": {}}, {}, keep=1, keep_agents=1)
    assert names(tmp_path) == ["2", "latest"]


def test_same_step_again_replaces(tmp_path):
    save(tmp_path, 5)
    path = save_checkpoint(tmp_path, 5, {"agent": {"w": torch.ones(1)}}, {"second": True})
    assert read_checkpoint(path).metadata == {"second": True}
    assert names(tmp_path) == ["5", "latest"]


def test_going_on_from_an_earlier_step_sets_later_ones_aside(tmp_path):
    for value in (100, 200):
        save(tmp_path, value, keep=2)
    save(tmp_path, 150, keep=1)
    assert latest_checkpoint(tmp_path).name == "150"
    assert names(tmp_path) == ["150", "200.abandoned", "latest"]
    assert_says(read_checkpoint(tmp_path / "checkpoints/200.abandoned"), 200)
    assert [path.name for path in list_checkpoints(tmp_path)] == ["150"]


def test_going_on_from_an_earlier_step_sets_aside_what_is_later_than_that(tmp_path):
    for value in (100, 200, 300):
        save(tmp_path, value, keep=9)
    save(tmp_path, 250, keep=9, continued_from=100)
    assert names(tmp_path) == ["100", "200.abandoned", "250", "300.abandoned", "latest"]
    save(tmp_path, 270, keep=9)
    assert [path.name for path in list_checkpoints(tmp_path)] == ["100", "250", "270"]


def test_leftovers_of_killed_runs_are_removed(tmp_path):
    folder = tmp_path / "checkpoints"
    (folder / ".tmp-3").mkdir(parents=True)
    (folder / ".tmp-3" / "agent.safetensors").write_bytes(b"half")
    (folder / ".tmp-latest").write_text("3")
    assert list_checkpoints(tmp_path) == []
    save(tmp_path, 4)
    assert names(tmp_path) == ["4", "latest"]


# Finding -----------------------------------------------------------------------------------------------


def test_finding(tmp_path, monkeypatch):
    run_dir = tmp_path / "humanoid"
    for value in (1000, 200):
        save(tmp_path / "unused", value)
        save_checkpoint(run_dir, value, {}, {})
    for value in (300, 1000):
        save(run_dir, value, keep=9)
    assert [path.name for path in list_checkpoints(run_dir)] == ["200", "300", "1000"]
    folder = run_dir / "checkpoints"
    for given in (run_dir, folder, folder / "1000", str(run_dir)):
        assert resolve_checkpoint(given) == folder / "1000"
    assert resolve_checkpoint(folder / "200") == folder / "200"
    monkeypatch.chdir(folder)
    assert resolve_checkpoint(".").resolve() == folder / "1000"
    for content in ("300\n", "300"):
        (folder / "latest").write_text(content)
        assert latest_checkpoint(run_dir) == folder / "300"
    (folder / "latest").write_text("77")  # it was there once, and older weights are not taken without a word
    with pytest.raises(UserError, match=r"checkpoints/77 cannot be used: manifest\.json is missing.*checkpoints/1000"):
        read_checkpoint(resolve_checkpoint(run_dir))
    for content in ("", ".replaced-8", "\x00", "../300", "300 1000"):  # torn
        (folder / "latest").write_text(content)
        assert latest_checkpoint(run_dir) == folder / "1000"
    (folder / "latest").unlink()
    assert latest_checkpoint(run_dir) == folder / "1000"
    (folder / "1000" / "manifest.json").unlink()
    with pytest.raises(UserError, match=r"manifest\.json is missing.*an intact checkpoint is .*checkpoints/300"):
        read_checkpoint(latest_checkpoint(run_dir))
    with pytest.raises(UserError, match=r"manifest\.json is missing.*checkpoints/300"):
        read_checkpoint(resolve_checkpoint(folder / "1000"))


def test_nothing_to_find(tmp_path):
    save(tmp_path / "humanoid", 1)
    with pytest.raises(UserError, match=r"no run or checkpoint directory .*did you mean .*humanoid'"):
        resolve_checkpoint(tmp_path / "humanoit")
    (tmp_path / "empty").mkdir()
    for find in (resolve_checkpoint, latest_checkpoint):
        with pytest.raises(UserError, match=r"no checkpoint in .*empty: looked for .*latest") as error:
            find(tmp_path / "empty")
        one_line(error)
