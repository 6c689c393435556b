"""FastAPI and ONNX Runtime, one text a forward pass, without batching.

Run by uvicorn with a process for each of two cores and one thread a pass. At 64 connections one process whose passes
run concurrently on the threads of FastAPI came to the same within the noise, of one thread or of two that do not
spin. ONNX Runtime's default, threads that spin, was the slowest, most of all with one connection. An `async def` that
blocks its event loop was slower.
"""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel

from benchmarks.serving.peers.servers.model import Model


class Request(BaseModel):
    """The body of a request."""

    inputs: str


app = FastAPI()
model = Model(threads=1)


@app.post(f"/{model.task}")
def answer(request: Request) -> dict[str, Any]:
    """One text."""
    return model.answers([request.inputs])[0]
