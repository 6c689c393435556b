"""POST /admin/reload, which is there only where `--admin` is given."""

from __future__ import annotations

from fastapi import APIRouter, Request

from service.answers import Reload
from service.problems import RESPONSES

router = APIRouter(prefix="/admin", responses=RESPONSES)


@router.post("/reload")
async def reload(request: Request) -> Reload:
    """Looks at the model repository again: loads what is new or newer, unloads what is gone, keeps what it refuses.

    Answers when all that is done; no request is lost on the way.
    """
    done = await request.app.state.control.reload()
    return {"loaded": done.loaded, "unloaded": done.unloaded, "unchanged": done.unchanged, "refused": done.refused}
