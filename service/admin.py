"""POST /admin/reload, which is there only where `--admin` is given."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
from fastapi import APIRouter, Request

router = APIRouter(prefix="/admin")


@router.post("/reload")
async def reload(request: Request) -> dict[str, Any]:
    """Looks at the model repository again: loads what is new or newer, unloads what is gone, keeps what it refuses.

    Answers when all that is done; no request is lost on the way.
    """
    # It waits for the requests that may hold on to a model which is leaving, and is none of them.
    request.app.state.models.in_progress.discard(asyncio.current_task())
    reloaded: dict[str, Any] = msgspec.to_builtins(await request.app.state.control.reload())
    del reloaded["type"], reloaded["id"]
    return reloaded
