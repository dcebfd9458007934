"""Cases as data for the hostile tests: what can be done to a checkpoint, a picture, a weights file, a run directory."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import struct
import zlib
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file


def sign(manifest: dict[str, Any]) -> dict[str, Any]:
    """Return a manifest signed anew, as whoever edits one can do."""
    content = {key: value for key, value in manifest.items() if key != "sha256"}
    return content | {"sha256": hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()}


def edit(path: Path, change: Any) -> None:
    """Let `change` work on a checkpoint's manifest, and sign it."""
    manifest = json.loads((path / "manifest.json").read_text())
    change(manifest)
    (path / "manifest.json").write_text(json.dumps(sign(manifest)))


def edit_part(path: Path, part: str, change: Any) -> None:
    """Let `change` work on a part's tensors; size and digest in the manifest are made to match."""
    file = path / f"{part}.safetensors"
    tensors = {name: tensor.clone() for name, tensor in load_file(file).items()}
    change(tensors)
    save_file(tensors, file)
    vouch(path, part)


def vouch(path: Path, part: str) -> None:
    """Put a part's size and digest into the manifest."""
    content = (path / f"{part}.safetensors").read_bytes()
    entry = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    edit(path, lambda manifest: manifest["files"].update({f"{part}.safetensors": entry}))


def set_to(part: str, name: str, make: Any) -> Any:
    """Return a damage that replaces one tensor of a part by what `make` makes of it."""

    def damage(path: Path) -> None:
        edit_part(path, part, lambda tensors: tensors.update({name: make(tensors[name])}))

    return damage


def largest(part: str, make: Any) -> Any:
    """Return a damage that replaces a part's largest tensor of two axes or more."""

    def change(tensors: dict[str, torch.Tensor]) -> None:
        sizes = {name: t.numel() for name, t in tensors.items() if t.dim() >= 2 and t.is_floating_point()}
        name = max(sizes, key=lambda name: (sizes[name], name))
        tensors[name] = make(tensors[name])

    return lambda path: edit_part(path, part, change)


def replace_by(make: Any, name: str) -> Any:
    """Return a damage that puts something else in a file's place."""

    def damage(path: Path) -> None:
        (path / name).unlink()
        make(path / name)

    return damage


def flip(name: str, at: int) -> Any:
    """Return a damage that flips a bit of a file."""

    def damage(path: Path) -> None:
        content = bytearray((path / name).read_bytes())
        content[at] ^= 1
        (path / name).write_bytes(content)

    return damage


def write(name: str, content: bytes) -> Any:
    """Return a damage that gives a file other content."""
    return lambda path: (path / name).write_bytes(content)


def manifest_entry(name: str, value: Any) -> Any:
    """Return a damage that sets an entry of the manifest."""
    return lambda path: edit(path, lambda manifest: manifest.update({name: value}))


def metadata(name: str, value: Any) -> Any:
    """Return a damage that sets an entry of the metadata."""
    return lambda path: edit(path, lambda manifest: manifest["metadata"].update({name: value}))


def without(*place: str) -> Any:
    """Return a damage that takes an entry out of the manifest."""

    def change(manifest: dict[str, Any]) -> None:
        for name in place[:-1]:
            manifest = manifest[name]
        del manifest[place[-1]]

    return lambda path: edit(path, change)


def rename_part(path: Path) -> None:
    """Let the manifest name a file outside of the checkpoint."""

    def change(manifest: dict[str, Any]) -> None:
        manifest["files"]["../../stolen.safetensors"] = manifest["files"].pop("agent.safetensors")

    shutil.copy(path / "agent.safetensors", path.parents[1] / "stolen.safetensors")
    edit(path, change)


def outside(name: str) -> Any:
    """Return a damage that moves a file out of the run directory and puts a link to it in its place."""

    def damage(path: Path) -> None:
        target = path.parents[2] / f"outside-{name}"
        shutil.move(path / name, target)
        (path / name).symlink_to(target)

    return damage


def folder_outside(path: Path) -> None:
    """Move a checkpoint out of the run directory and put a link to it in its place."""
    target = path.parents[2] / "outside"
    shutil.move(path, target)
    path.symlink_to(target)


def claim_sizes(path: Path) -> None:
    """Write a header that claims a tensor of 2**40 bytes, and vouch for it."""
    header = json.dumps({"w": {"dtype": "F32", "shape": [2**38], "data_offsets": [0, 2**40]}}).encode()
    (path / "agent.safetensors").write_bytes(struct.pack("<Q", len(header)) + header)
    vouch(path, "agent")


PARTS = ("agent", "optimizers", "replay", "environment", "worker")
NAN, INF = float("nan"), float("inf")

# What is done to checkpoints/2 of a run whose checkpoints/1 is intact.
DAMAGES: dict[str, Any] = {
    # lost, cut off, flipped
    "manifest lost": lambda p: (p / "manifest.json").unlink(),
    "folder lost": shutil.rmtree,
    "folder empty": lambda p: [file.unlink() for file in p.iterdir()],
    "manifest empty": write("manifest.json", b""),
    "manifest cut off": lambda p: os.truncate(p / "manifest.json", 700),
    "manifest binary": write("manifest.json", b"\xff\x00" * 99),
    "manifest a list": write("manifest.json", b"[1]"),
    "manifest deep": write("manifest.json", b"[" * 100_000),
    "manifest flipped": flip("manifest.json", 300),
    "manifest unsigned": lambda p: (p / "manifest.json").write_text(
        (p / "manifest.json").read_text().replace('"step": ', '"step": 1')
    ),
    **{f"{part} lost": (lambda p, part=part: (p / f"{part}.safetensors").unlink()) for part in PARTS},
    **{f"{part} flipped": flip(f"{part}.safetensors", -1) for part in PARTS},
    "agent cut off": lambda p: os.truncate(p / "agent.safetensors", 100),
    "agent empty": write("agent.safetensors", b""),
    "replay of another run": lambda p: shutil.copy(p / "worker.safetensors", p / "replay.safetensors"),
    # other things in a file's place
    "manifest a pipe": replace_by(os.mkfifo, "manifest.json"),
    "manifest a folder": replace_by(os.mkdir, "manifest.json"),
    "manifest a device": replace_by(lambda path: path.symlink_to("/dev/zero"), "manifest.json"),
    "manifest a link out": outside("manifest.json"),
    "agent a pipe": replace_by(os.mkfifo, "agent.safetensors"),
    "agent a folder": replace_by(os.mkdir, "agent.safetensors"),
    "agent a device": replace_by(lambda path: path.symlink_to("/dev/zero"), "agent.safetensors"),
    "agent a link out": outside("agent.safetensors"),
    "agent a link in a circle": replace_by(lambda path: path.symlink_to(path), "agent.safetensors"),
    "folder a link out": folder_outside,
    # edited, and signed anew: the manifest
    "another step": manifest_entry("step", 1),
    "step below 0": manifest_entry("step", -2),
    "step a word": manifest_entry("step", "2"),
    "step true": manifest_entry("step", True),
    "another kind": manifest_entry("kind", "half"),
    "only the agent": manifest_entry("kind", "agent"),
    "another format": manifest_entry("format_version", "1"),
    "files a list": manifest_entry("files", ["agent.safetensors"]),
    "no files": manifest_entry("files", {}),
    "entry a word": manifest_entry("files", {"agent.safetensors": "x"}),
    "no size": manifest_entry("files", {"agent.safetensors": {"sha256": "0" * 64}}),
    "path out of it": rename_part,
    "absolute path": manifest_entry("files", {"/etc/passwd.safetensors": {"bytes": 1, "sha256": "0" * 64}}),
    "no metadata": without("metadata"),
    "metadata a list": manifest_entry("metadata", [1]),
    "part not listed": without("files", "worker.safetensors"),
    # the metadata
    "no config": without("metadata", "config"),
    "config a word": metadata("config", "ddpg"),
    "config empty": metadata("config", {}),
    "no updates": without("metadata", "updates"),
    "updates a word": metadata("updates", "many"),
    "updates below 0": metadata("updates", -1),
    "updates huge": metadata("updates", 10**400),
    "elapsed_s NaN": metadata("elapsed_s", NAN),
    "elapsed_s a list": metadata("elapsed_s", [1.0]),
    "steps_at_start a word": metadata("steps_at_start", "never"),
    "busy a word": metadata("busy", "no"),
    "commits empty": metadata("commits", []),
    "commits numbers": metadata("commits", [1]),
    # the tensors
    "sizes claimed": claim_sizes,
    "agent no safetensors": lambda p: ((p / "agent.safetensors").write_bytes(b"PK\x03\x04" * 50), vouch(p, "agent")),
    "agent a pickle": lambda p: (torch.save({"w": 1}, p / "agent.safetensors"), vouch(p, "agent")),
    "agent without tensors": lambda p: edit_part(p, "agent", lambda tensors: tensors.clear()),
    "agent renamed": lambda p: edit_part(p, "agent", lambda t: t.update({"x": t.pop(next(iter(t)))})),
    **{f"{part} NaN": largest(part, lambda t: t.fill_(NAN)) for part in PARTS},
    "agent infinite": largest("agent", lambda t: t.fill_(INF)),
    **{f"{part} halved": largest(part, lambda t: t.half()) for part in ("agent", "replay", "environment", "worker")},
    **{f"{part} turned": largest(part, lambda t: t.flatten()) for part in PARTS},
    **{f"{part} broadcast": largest(part, lambda t: t[:1, :1].clone()) for part in PARTS},
    "worker at another step": set_to("worker", "counts", lambda t: t + 1),
    "worker generator": set_to("worker", "generator", lambda t: t[:100].clone()),
    "worker generator zero": set_to("worker", "generator", torch.zeros_like),
    "replay numbers": set_to("replay", "numbers", lambda t: t + 10**9),
    "replay numbers below 0": set_to("replay", "numbers", lambda t: -t),
    "replay numbers short": set_to("replay", "numbers", lambda t: t[:2].clone()),
    "replay finals": set_to("replay", "final_place", lambda t: t.fill_(10**6)),
    "environment episode": set_to("environment", "episode", lambda t: t[:1].clone()),
}


# -- pictures -----------------------------------------------------------------------------------------------


def png(
    width: int, height: int, bits: int, color: int, row: bytes, extra: bytes = b"", rows: int | None = None
) -> bytes:
    """Return a PNG whose rows (all of them, or `rows`) are alike, made without ever holding its pixels."""
    packer = zlib.compressobj(1)
    line = b"\0" + row
    data = b"".join(packer.compress(line) for _ in range(height if rows is None else rows)) + packer.flush()
    head = struct.pack(">IIBBBBB", width, height, bits, color, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + extra + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def chunk(kind: bytes, content: bytes) -> bytes:
    """Return a PNG chunk."""
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


POSTSCRIPT = (
    b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 64 64\n%%EndComments\n(marker) (w) file closefile\nshowpage\n%%EOF\n"
)
# Content -> the name it gives itself: of formats that Pillow opens and that are not among those meant, and of none.
NO_PICTURES: dict[str, bytes] = {
    "postscript.png": POSTSCRIPT,
    "postscript.jpg": POSTSCRIPT,
    "dos-postscript.png": b"\xc5\xd0\xd3\xc6" + struct.pack("<II", 30, len(POSTSCRIPT)) + bytes(18) + POSTSCRIPT,
    "pdf.png": b"%PDF-1.4\n1 0 obj<<>>endobj\ntrailer<<>>\n%%EOF\n",
    "svg.png": b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>',
    "wmf.bmp": b"\xd7\xcd\xc6\x9a\0\0" + bytes(16) + b"\x01\x00\x09\x00" + bytes(60),
    "icon.png": b"\0\0\1\0\1\0\x10\x10\0\0\1\0\x20\0\x68\4\0\0\x16\0\0\0" + bytes(1200),
    "fits.tif": b"SIMPLE  =                    T" + b" " * 2850,
    "xbm.png": b"#define w_width 16\n#define w_height 16\nstatic char w_bits[] = {0x00};\n",
    "xpm.png": b'/* XPM */\nstatic char *x[] = {"16 16 1 1", "a c #000000"};\n',
    "shell.png": b"#!/bin/sh\ntouch marker\n",
    "pickle.png": b"\x80\x04cos\nsystem\n(S'touch marker'\ntR.",
    "zip.png": b"PK\x03\x04" + bytes(100),
    "empty.png": b"",
    "short.png": b"\x89PNG\r\n\x1a\n",
    "no-size.png": b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", bytes(13)) + chunk(b"IEND", b""),
    "nothing-in-it.png": png(64, 64, 8, 2, b"", rows=0),
    "half.png": png(64, 64, 8, 2, bytes(192), rows=20)[:-60],
    "gif.gif": b"GIF89a" + struct.pack("<HH", 65535, 65535) + b"\x80\0\0" + bytes(6),
    "pixels.ppm": b"P6 99999999999999999999 9 255\n",
    "negative.bmp": b"BM" + bytes(8) + struct.pack("<IIiiHHIIiiII", 54, 40, -5, 0, 1, 24, 0, 0, 0, 0, 0, 0),
    "tiff.tif": b"II*\0\x08\0\0\0\xff\xff" + bytes(100),
    "webp.webp": b"RIFF\xff\xff\xff\xffWEBPVP8X" + bytes(30),
}
# Few bytes that become many.
BOMBS: dict[str, Any] = {
    "rgba.png": lambda: png(17000, 17000, 8, 6, bytes(4 * 17000), rows=50),
    "rgba16.png": lambda: png(17000, 17000, 16, 6, bytes(8 * 17000), rows=50),
    "sides.png": lambda: png(2**31 - 1, 2**31 - 1, 8, 2, b"", rows=0),
    "grey.png": lambda: png(60000, 60000, 1, 0, bytes(7500), rows=100),
    "text.png": lambda: png(
        64, 64, 8, 2, bytes(192), chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(70_000_000), 1))
    ),
    "more-text.png": lambda: png(
        64, 64, 8, 2, bytes(192), chunk(b"iTXt", b"a\0\1\0\0\0" + zlib.compress(bytes(70_000_000), 1))
    ),
    "profile.png": lambda: png(
        64, 64, 8, 2, bytes(192), chunk(b"iCCP", b"p\0\0" + zlib.compress(bytes(70_000_000), 1))
    ),
}
