"""The studio's answers: the page, uploads, what a painting is doing, its pictures and files.

It answers this machine alone: other names than localhost are refused, and so is what another site's page sends, which
cannot add the header that ours does.
"""

from __future__ import annotations

import io
import json
import secrets
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from PIL import Image
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from renderers.stroke_files import save_strokes
from renderers.svg import save_svg
from rlsuite.config.build import build
from rlsuite.errors import UserError
from scripts.paint_image import PaintConfig
from scripts.painter.writing import as_bytes
from scripts.studio.jobs import ENDED, Job, Studio, first_strokes, options_from

PAGE = Path(__file__).parent / "page"
LARGEST_UPLOAD = 20 << 20  # bytes
HEADER = "x-studio"
FILES = {
    "painting.png": "image/png",
    "strokes.json": "application/json",
    "strokes.svg": "image/svg+xml",
    "painting.mp4": "video/mp4",
}
POLICY = "default-src 'self'; img-src 'self' blob: data:; style-src 'self'; frame-ancestors 'none'"


def make_app(studio: Studio) -> Starlette:
    """Return the application."""

    def job_of(request: Request) -> Job:
        job = studio.jobs.get(request.path_params["name"])
        if job is None:
            raise UserError("this painting is not here any more; paint it again")
        return job

    async def begin(request: Request) -> Response:
        _require_ours(request)
        try:
            options = options_from(json.loads(request.query_params.get("options", "{}")))
        except (ValueError, TypeError, AttributeError):
            raise UserError("options= is no JSON object") from None
        image = await _upload(request, studio.folder)
        options["image"] = str(image)
        if name := request.query_params.get("mask"):
            mask = studio.folder / f"mask-{name}"
            if not name.isalnum() or not mask.is_file():
                raise UserError("this mask is not here any more; draw it again")
            options["mask"] = str(mask)
        config: PaintConfig = build(PaintConfig, options)
        if config.tiled:
            raise UserError("tiles are painted by paint_image.py alone")
        job = await run_in_threadpool(studio.begin, image, config)
        return JSONResponse(job.plain(), status_code=201)

    async def mask(request: Request) -> Response:
        _require_ours(request)
        path = await _upload(request, studio.folder)
        path.rename(studio.folder / f"mask-{path.name}")
        return JSONResponse({"mask": path.name}, status_code=201)

    async def look(request: Request) -> Response:
        return JSONResponse(job_of(request).plain())

    async def change(request: Request) -> Response:
        _require_ours(request)
        job, what = job_of(request), request.path_params["what"]
        actions: dict[str, Callable[[Job], None]] = {"pause": studio.pause, "go": studio.go_on, "stop": studio.stop}
        actions[what](job)
        return JSONResponse(job.plain())

    async def picture(request: Request) -> Response:
        job = job_of(request)
        painting = job.painting
        if painting is None:
            return Response(status_code=204)
        shown = first_strokes(painting, _number(request, "strokes"))
        side = min(max(_number(request, "side") or 512, 16), 2048)
        data = await run_in_threadpool(lambda: _png(as_bytes(shown.draw(side / max(shown.height, shown.width)))))
        return Response(data, media_type="image/png", headers={"cache-control": "no-store"})

    async def file(request: Request) -> Response:
        job, name = job_of(request), request.path_params["file"]
        number = _number(request, "strokes")
        if name not in FILES or job.painting is None:
            raise UserError("there is no such file yet")
        if number is None or name == "painting.mp4":
            if job.state not in ENDED or not (job.folder / name).is_file():
                raise UserError("the painting is not done; stop it, or wait")
            return FileResponse(job.folder / name, media_type=FILES[name], filename=name)
        data = await run_in_threadpool(_written, first_strokes(job.painting, number), name)
        return Response(data, media_type=FILES[name], headers={"content-disposition": f'attachment; filename="{name}"'})

    routes = [
        Route("/jobs", begin, methods=["POST"]),
        Route("/masks", mask, methods=["POST"]),
        Route("/jobs/{name}", look),
        Route("/jobs/{name}/picture", picture),
        Route("/jobs/{name}/files/{file}", file),
        Route("/jobs/{name}/{what:str}", _only(("pause", "go", "stop"), change), methods=["POST"]),
        Mount("/", StaticFiles(directory=PAGE, html=True)),
    ]
    return Starlette(
        routes=routes,
        exception_handlers={UserError: _refuse},
        middleware=[
            Middleware(TrustedHostMiddleware, allowed_hosts=["localhost", "127.0.0.1"]),
            Middleware(BaseHTTPMiddleware, dispatch=_add_headers),
        ],
    )


async def _add_headers(request: Request, following: Callable[[Request], Awaitable[Response]]) -> Response:
    response = await following(request)
    response.headers["content-security-policy"] = POLICY
    response.headers["x-content-type-options"] = "nosniff"
    return response


async def _refuse(request: Request, error: Exception) -> Response:
    return JSONResponse({"error": str(error)}, status_code=400)


def _only(names: tuple[str, ...], endpoint: Callable[[Request], Awaitable[Response]]) -> Any:
    async def answer(request: Request) -> Response:
        if request.path_params["what"] not in names:
            return JSONResponse({"error": "there is no such page"}, status_code=404)
        return await endpoint(request)

    return answer


def _require_ours(request: Request) -> None:
    if request.headers.get(HEADER) != "1":
        raise UserError("only the studio's own page may ask for this")


async def _upload(request: Request, folder: Path) -> Path:
    """Keep what a request sends as a file of a name of its own.

    Raises:
        UserError: if it is empty or larger than LARGEST_UPLOAD.
    """
    data = bytearray()
    async for part in request.stream():
        data += part
        if len(data) > LARGEST_UPLOAD:
            raise UserError(f"the picture is larger than {LARGEST_UPLOAD >> 20} MB; reduce it first")
    if not data:
        raise UserError("no picture came; choose one")
    path = folder / secrets.token_hex(12)
    path.write_bytes(data)
    return path


def _number(request: Request, name: str) -> int | None:
    text = request.query_params.get(name, "")
    return int(text) if text.isdecimal() and len(text) < 9 else None


def _png(pixels: Any) -> bytes:
    made = io.BytesIO()
    Image.fromarray(pixels).save(made, "PNG")
    return made.getvalue()


def _written(painting: Any, name: str) -> bytes:
    if name == "painting.png":
        return _png(as_bytes(painting.draw()))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        (save_svg if name == "strokes.svg" else save_strokes)(painting, path)
        return path.read_bytes()
