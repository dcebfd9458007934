"""Checkpoints: one directory a step, safetensors and a JSON manifest, whole or not there at all, no pickle.

```
run_dir/checkpoints/
  latest                 a text file with the step of the newest complete checkpoint
  20000/
    manifest.json        format version, kind, step, metadata, versions, size and sha256 of every file
    agent.safetensors    one file a part (agent, optimizers, replay, environment, ...)
  .tmp-*                 unfinished work; left behind only by a killed process, removed by the next save
  .replaced-20000        the earlier content of a step that is being saved again
  30000.abandoned        a later step, set aside when the run went on from an earlier checkpoint
```

Everything is written and fsynced under a temporary name and then renamed, so a kill at any moment leaves
the older checkpoint and `latest` as they were. One writer a run directory (see `rlsuite.records.run_lock`); any
number of readers.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from torch import Tensor

from rlsuite.errors import UserError, near_matches
from rlsuite.records.checkpoint_format import (
    FORMAT_VERSION,
    MANIFEST,
    SUFFIX,
    Parts,
    UnusableError,
    check_file,
    check_parts,
    load_part,
    read_manifest,
    versions,
    write_manifest,
    write_part,
)
from rlsuite.records.files import TEMPORARY, is_inside, read_text, require_inside, sync_directory, write_atomically

AGENT = "agent"
_REPLACED, _ABANDONED = ".replaced-", ".abandoned"
_STEP = re.compile(r"(\.replaced-)?(0|[1-9][0-9]{0,18})")


class CheckpointWriteError(UserError):
    """A checkpoint could not be written (disk full, quota, read-only). The older ones are untouched."""


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint in memory.

    Attributes:
        path: the directory it was read from.
        step: environment steps at which it was saved.
        metadata: what the saver passed, after a round trip through JSON (tuples are lists).
        parts: part name -> tensor name -> CPU tensor.
    """

    path: Path
    step: int
    metadata: dict[str, Any]
    parts: dict[str, dict[str, Tensor]]


def save_checkpoint(
    run_dir: str | Path,
    step: int,
    parts: Parts,
    metadata: Mapping[str, Any],
    *,
    keep: int = 1,
    keep_agents: int = 0,
    continued_from: int | None = None,
    others: Callable[[Path], Mapping[str, Any]] | None = None,
) -> Path:
    """Write ``run_dir/checkpoints/<step>/`` so that it is there whole or not at all, then prune older ones.

    A step that is already there is replaced; its earlier content survives until the new one is complete.
    Later steps, and those later than `continued_from` (the run was continued from an earlier checkpoint), are
    renamed to ``<step>.abandoned``: out of the way of `latest` and of ensembles, but not deleted.

    Args:
        run_dir: the run's directory; made if missing.
        step: environment steps so far, >= 0.
        parts: part name -> flat dict of strided tensors of any real dtype and device; a part may be empty.
        metadata: JSON-able: configuration, seed, counters.
        keep: how many of the newest checkpoints stay whole, >= 1.
        keep_agents: how many of the next older ones are cut down to ``agent.safetensors``, >= 0.
        continued_from: step of the checkpoint that a run began with, if this is the first one since.
        others: called with the unfinished directory, once it is there: lets other processes write their parts into it
            (`rlsuite.records.checkpoint_format.write_part`) and returns those files' entries of the manifest.

    Returns:
        The directory written.

    Raises:
        UserError: ``checkpoints`` is a link out of the run directory.
        CheckpointWriteError: it could not be written; older checkpoints and `latest` are as they were.
        ValueError: a part, tensor or metadata that cannot be stored, or a `keep` out of range.
    """
    if step < 0 or keep < 1 or keep_agents < 0:
        raise ValueError(f"need step >= 0, keep >= 1, keep_agents >= 0; got {step}, {keep}, {keep_agents}")
    needed = check_parts(parts)
    try:
        metadata = json.loads(json.dumps(metadata))
    except (TypeError, ValueError) as error:
        raise ValueError(f"checkpoint metadata must be JSON: {error}; convert it before saving") from error
    folder = Path(run_dir) / "checkpoints"
    temporary, final = folder / f"{TEMPORARY}{step}", folder / str(step)
    require_inside(folder, Path(run_dir))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _clear_leftovers(folder)
        if needed > (free := shutil.disk_usage(folder).free):
            raise CheckpointWriteError(_write_failure(final, "the disk is too full", needed, free))
        temporary.mkdir()
        files = {name + SUFFIX: write_part(temporary / (name + SUFFIX), parts[name]) for name in parts}
        files |= others(temporary) if others is not None else {}
        manifest = {"format_version": FORMAT_VERSION, "kind": "full", "step": int(step), "files": files}
        manifest |= {"metadata": metadata, "versions": versions()}
        write_manifest(temporary, manifest)
        _publish(temporary, final)
        write_atomically(folder / "latest", f"{step}\n")
    except (OSError, SafetensorError) as error:
        free = shutil.disk_usage(folder).free if folder.is_dir() else 0
        reason = error.strerror or str(error) if isinstance(error, OSError) else str(error)
        raise CheckpointWriteError(_write_failure(final, reason, needed, free)) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    with contextlib.suppress(OSError):  # the checkpoint is safe; what could not be pruned is at the next save
        _prune(folder, step, keep, keep_agents, step if continued_from is None else continued_from)
    return final


def _write_failure(path: Path, reason: str, needed: int, free: int) -> str:
    reason = " ".join(reason.split())
    return (
        f"could not save checkpoint {path}: {reason} ({needed} bytes needed, {free} bytes free there); older"
        " checkpoints are untouched; free some space, or choose another run_dir=, and continue with resume="
    )


def _publish(temporary: Path, final: Path) -> None:
    """Give the finished directory its name. Readers fall back to ``.replaced-<step>`` between two renames."""
    replaced = final.with_name(_REPLACED + final.name)
    replaces = os.path.lexists(final)
    if replaces:
        os.rename(final, replaced)
    try:
        os.rename(temporary, final)
    except BaseException:
        if replaces:
            os.rename(replaced, final)
        raise
    sync_directory(final.parent)
    if replaces:
        _discard(replaced)


def _discard(path: Path) -> None:
    """Delete a directory under a temporary name, so that a kill half-way leaves no half checkpoint."""
    if path.is_dir() and not path.is_symlink():
        doomed = path.with_name(f"{TEMPORARY}deleted-{path.name}")
        os.rename(path, doomed)
        shutil.rmtree(doomed)
    else:
        path.unlink()


def _clear_leftovers(folder: Path) -> None:
    """Undo what a killed process left half done."""
    for path in folder.glob(f"{_REPLACED}*"):
        final = folder / path.name.removeprefix(_REPLACED)
        if os.path.lexists(final):
            _discard(path)
        else:
            os.rename(path, final)
    for path in folder.glob(f"{TEMPORARY}*"):
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()


def _prune(folder: Path, step: int, keep: int, keep_agents: int, after: int) -> None:
    found = _step_directories(folder)
    for later in [other for other in found if other > after and other != step]:
        path = found.pop(later)
        aside = path.with_name(f"{later}{_ABANDONED}")
        if os.path.lexists(aside):
            _discard(aside)
        os.rename(path, aside)
    for rank, path in enumerate(found[other] for other in sorted(found, reverse=True)):
        if rank >= keep and not (rank < keep + keep_agents and _demote(path)):
            _discard(path)


def _demote(path: Path) -> bool:
    """Cut a checkpoint down to its agent; False where it has none. Manifest first, then the files."""
    try:
        if path.is_symlink():
            return True  # whatever it points to is not ours to cut down
        manifest = read_manifest(path)
    except UnusableError:
        return True  # damaged: left for its owner to look at until its turn to be deleted comes
    if AGENT + SUFFIX not in manifest["files"]:
        return False
    if manifest["kind"] != AGENT:
        manifest |= {"kind": AGENT, "files": {AGENT + SUFFIX: manifest["files"][AGENT + SUFFIX]}}
        write_manifest(path, manifest)
    for file in path.iterdir():
        if file.name not in (MANIFEST, AGENT + SUFFIX):
            file.unlink()
    return True


def read_checkpoint(path: str | Path, *, parts: Iterable[str] | None = None, verify: bool = True) -> Checkpoint:
    """Read a checkpoint directory (see `resolve_checkpoint` for run directories).

    Args:
        path: a checkpoint directory.
        parts: which parts; None means all of a full checkpoint, so an agent-only one is refused.
        verify: compare the sha256 of the files read; without it only their sizes and headers are checked.

    Returns:
        The checkpoint. Its tensors may be private views of the files: copy them into place.

    Raises:
        UserError: one line with what is damaged, foreign or missing, and which intact checkpoint to take
            instead. Nothing on disk is changed.
    """
    path = Path(path)
    wanted = None if parts is None else list(parts)
    try:
        manifest, names = _vouched(path, wanted, verify)
        loaded = {name: load_part(path, name) for name in names}
    except UnusableError as problem:
        raise unusable(path, str(problem), fix=problem.fix, parts=wanted) from None
    return Checkpoint(path, manifest["step"], manifest["metadata"], loaded)


def unusable(path: Path, reason: str, *, fix: str = "", parts: Iterable[str] | None = None) -> UserError:
    """Return the error that says why a checkpoint cannot be used, and which intact one can.

    Args:
        path: its directory.
        reason: what is wrong with it.
        fix: what to do, where that is not "take another checkpoint".
        parts: what the other one must hold; None means all parts.
    """
    fix = fix or _alternative(path, None if parts is None else list(parts))
    return UserError(f"checkpoint {path} cannot be used: {reason}; nothing was changed; {fix}")


def _vouched(path: Path, wanted: list[str] | None, verify: bool) -> tuple[dict[str, Any], list[str]]:
    """Return the manifest and the parts to read, all of them checked."""
    place = path.parent / path.name if path.name else path.resolve()
    if place.parent.name == "checkpoints" and not is_inside(place, place.parent):
        raise UnusableError("it is a link out of the run directory")
    manifest = read_manifest(path)
    match = _STEP.fullmatch(path.resolve().name.removesuffix(_ABANDONED))
    if match and int(match[2]) != manifest["step"]:
        raise UnusableError(f"its {MANIFEST} is of step {manifest['step']}")
    names = _select(manifest, wanted)
    for name in names:
        check_file(path, manifest, name, verify)
    return manifest, names


def _select(manifest: Mapping[str, Any], wanted: list[str] | None) -> list[str]:
    """The parts to read, after checking that they are listed."""
    held = [name.removesuffix(SUFFIX) for name in manifest["files"]]
    missing = [] if wanted is None else [name for name in wanted if name not in held]
    if manifest["kind"] != "full" and (wanted is None or missing):
        raise UnusableError("it holds only the agent, enough to evaluate but not to continue training")
    if missing:
        raise UnusableError(f"it has no part '{missing[0]}'{near_matches(missing[0], held)}")
    return held if wanted is None else wanted


def _alternative(path: Path, wanted: list[str] | None) -> str:
    """Name the intact checkpoint to take instead: the newest older one, else the newest."""
    found = _step_directories(path.parent)
    match = _STEP.fullmatch(path.name)
    step = int(match[2]) if match else max(found, default=0) + 1
    for other in sorted(found, key=lambda candidate: (candidate > step, -candidate)):
        if other == step:
            continue
        with contextlib.suppress(UnusableError):
            _vouched(found[other], wanted, verify=True)
            return f"an intact checkpoint is {found[other]}"
    return f"there is no other intact checkpoint in {path.parent}: start afresh with another run_dir="


def _step_directories(folder: Path) -> dict[int, Path]:
    """Return the directories named by a step, those too whose manifest is lost: no kill loses one, so it is damage."""
    found: dict[int, Path] = {}
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        for path in folder.iterdir():
            if (match := _STEP.fullmatch(path.name)) and path.is_dir():
                if match[1] is None:
                    found[int(match[2])] = path
                else:  # a kill between the two renames of `_publish`
                    found.setdefault(int(match[2]), path)
    return found


def list_checkpoints(run_dir: str | Path) -> list[Path]:
    """Return the checkpoint directories of a run, sorted by step, oldest first; a damaged one is refused when read."""
    return [path for _, path in sorted(_step_directories(Path(run_dir) / "checkpoints").items())]


def latest_checkpoint(run_dir: str | Path) -> Path:
    """Return the checkpoint that ``checkpoints/latest`` names, else the newest one.

    What `latest` names is returned even if it is damaged or gone: reading it says so, and names an intact one. Older
    weights are never taken without a word.

    Raises:
        UserError: the run has no checkpoint.
    """
    folder = Path(run_dir) / "checkpoints"
    found = _step_directories(folder)
    named = ""
    with contextlib.suppress(OSError):
        named = read_text(folder / "latest", 64).strip()
    match = _STEP.fullmatch(named)
    if match and match[1] is None and found:
        return found.get(int(match[2]), folder / named)
    if found:
        return found[max(found)]
    raise UserError(
        f"no checkpoint in {run_dir}: looked for {folder}/latest and {folder}/<step>/{MANIFEST};"
        " give the directory of a run that saved one"
    )


def resolve_checkpoint(path: str | Path) -> Path:
    """Return the checkpoint directory meant by `path`: a run, its ``checkpoints`` folder, or one checkpoint.

    Raises:
        UserError: there is no such directory, or no checkpoint in it.
    """
    path = Path(path)
    if not path.is_dir():
        if path.parent.name == "checkpoints" and _STEP.fullmatch(path.name) and _step_directories(path.parent):
            return path  # it is gone: reading it says so, and names an intact one
        siblings = [str(entry.parent) for entry in path.parent.glob("*/checkpoints")]
        raise UserError(f"no run or checkpoint directory '{path}'{near_matches(str(path), siblings)}")
    if (path / MANIFEST).is_file():
        return path
    name, parent = path.resolve().name, path.resolve().parent
    if (path / "config.yaml").is_file() and (path / "checkpoints").is_dir():  # a run, even one named checkpoints
        return latest_checkpoint(path)
    if name == "checkpoints":
        return latest_checkpoint(path.parent if path.name == name else parent)
    if parent.name == "checkpoints" and _STEP.fullmatch(name):
        return path  # a checkpoint without a manifest: reading it names the damage and the way out
    return latest_checkpoint(path)
