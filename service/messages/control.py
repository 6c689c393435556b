"""Messages between the parent process and its API processes.

The parent sends Configure first, then a ModelTable after every change of the models.
"""

from __future__ import annotations

from typing import Any

import msgspec


class Configure(msgspec.Struct, tag=True):
    """Parent to worker, first message: the settings, and SHA-256 of each API key."""

    settings: dict[str, Any]
    digests: list[str]


class Keys(msgspec.Struct, tag=True):
    """Parent to worker: SHA-256 of the API keys that are valid from now on."""

    digests: list[str]


class ModelEntry(msgspec.Struct, frozen=True):
    """A bundle and its engine. Every load has a unique `number`, even if the same bundle is loaded again."""

    number: int
    name: str
    directory: str
    socket: str | None = None
    responsive: bool = False


class ModelTable(msgspec.Struct, tag=True):
    """Parent to worker: the models to serve from now on."""

    serial: int
    models: list[ModelEntry]


class Drain(msgspec.Struct, tag=True):
    """Parent to worker: report not ready, serve for `delay_seconds` more, then stop."""

    delay_seconds: float


class Reload(msgspec.Struct, tag=True):
    """Worker to parent: read the model repository again."""

    id: int


class Reloaded(msgspec.Struct, tag=True):
    """Parent to worker, the answer to the Reload with this id: names of models; for rejected models the reason."""

    id: int = 0
    loaded: list[str] = []
    unloaded: list[str] = []
    unchanged: list[str] = []
    refused: dict[str, str] = {}


class Loads(msgspec.Struct, tag=True):
    """Worker to parent: the loads of the table `serial` that it still needs, and the load that serves each name."""

    serial: int
    in_use: list[int]
    ready: dict[str, int]


class Alive(msgspec.Struct, tag=True):
    """Worker to parent, at regular intervals: the event loop of this process runs."""

    pid: int


class Readiness(msgspec.Struct, tag=True):
    """Parent to worker: what is missing in any API process. The service is ready if nothing is."""

    starting: int = 0
    """Number of API processes that have not served for the first time."""
    models: list[str] = []
    """Names of models that not every API process serves."""


ToWorker = Configure | Keys | ModelTable | Readiness | Drain | Reloaded
ToParent = Reload | Loads | Alive
