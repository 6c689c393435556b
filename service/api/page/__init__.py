"""GET /: a web page to try both endpoints. Its files are in this folder; they load nothing from other hosts."""

from __future__ import annotations

from pathlib import Path

from fastapi import APIRouter
from fastapi.responses import FileResponse

from service.problem import Problem

FOLDER = Path(__file__).parent
MEDIA_TYPES = {
    "index.html": "text/html",
    "page.css": "text/css",
    "page.js": "text/javascript",
    "icon.svg": "image/svg+xml",
}
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}

router = APIRouter(include_in_schema=False)


@router.get("/")
async def page() -> FileResponse:
    """The page."""
    return await file("index.html")


@router.get("/page/{name}")
async def file(name: str) -> FileResponse:
    """One of the page's files; raises Problem."""
    if name not in MEDIA_TYPES:
        raise Problem("not_found", f"the page has no file {name!r}.")
    return FileResponse(FOLDER / name, media_type=MEDIA_TYPES[name], headers=HEADERS)
