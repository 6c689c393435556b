"""`python -m service.worker`: one API process. The parent starts it; people do not.

It takes connections from the socket it inherits, and its settings and models from the parent, and ends with it.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import logging
import signal
import socket
import sys
from types import FrameType

import uvicorn
from fastapi import FastAPI

from service.app import create_app
from service.connections import bounded
from service.control import Configure, ToWorker, WorkerControl
from service.engine.client import READ_BYTES
from service.engine.messages import FrameReader
from service.logs import configure_logging
from service.settings import Settings

log = logging.getLogger("service.worker")

# Objects made and not yet freed before cycles among them are looked for; a request in work holds about a hundred.
GARBAGE_THRESHOLD = 10_000


class Server(uvicorn.Server):
    """uvicorn with a drain: readiness fails first, then new connections are refused, then the process ends."""

    def __init__(self, config: uvicorn.Config, app: FastAPI) -> None:
        super().__init__(config)
        self._app = app

    async def follow(self, parent: WorkerControl) -> None:
        """Does what the parent says, and ends when it is gone or cannot be followed any more."""
        state = self._app.state
        state.control = parent
        state.models.on_in_use = parent.in_use
        try:
            await parent.listen(state.admit, state.models.apply, self.drain)
        except Exception:
            # Cut off, it would go on serving what was true once; the parent replaces a process that has ended.
            log.exception("what the parent process says could not be done; ending")
        else:
            log.error("the parent process is gone")
            self.force_exit = True
        self.should_exit = True

    def drain(self, delay_seconds: float) -> None:
        """Is not ready from now on, and ends `delay_seconds` later; asked again, ends at once."""
        if self._app.state.draining:
            self.should_exit = self.force_exit = True
            return
        self._app.state.draining = True
        log.info("shutting down: not ready from now on, serving for %.1f s more", delay_seconds)
        asyncio.get_running_loop().call_later(delay_seconds, lambda: setattr(self, "should_exit", True))

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Called by uvicorn on SIGTERM and SIGINT. They may reach every process; the parent decides what they mean."""


def main() -> int:
    """Serves until the parent says so, or is gone."""
    parser = argparse.ArgumentParser(prog="python -m service.worker", description=__doc__)
    parser.add_argument("--control", required=True, help="Unix socket of the parent")
    parser.add_argument("--listener", type=int, required=True, help="file descriptor of the listening socket")
    arguments = parser.parse_args()
    # It reaches every process when a terminal closes; to the parent it says: reload.
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.connect(arguments.control)
    frames = FrameReader(ToWorker)
    configuration = _configuration(connection, frames)
    settings = Settings(**configuration.settings)
    configure_logging(settings)

    async def follow_parent(app: FastAPI) -> None:
        reader, writer = await asyncio.open_unix_connection(sock=connection)
        await server.follow(WorkerControl(reader, writer, frames))

    app = create_app(settings, digests=configuration.digests, background=follow_parent)
    config = uvicorn.Config(
        app,
        http=bounded(  # type: ignore[arg-type]  # makes protocols
            settings.max_connections,
            settings.body_seconds,
            app.state.refusal,
            app.state.direct,
            lambda: app.state.draining,
        ),
        ws="none",
        log_config=None,
        access_log=False,
        timeout_keep_alive=settings.keep_alive_seconds,
        timeout_graceful_shutdown=int(settings.shutdown_seconds) or 1,
        server_header=False,
    )
    server = Server(config, app)
    # What is here now stays: looking through it again and again took a fifth of the time under load.
    gc.freeze()
    gc.set_threshold(GARBAGE_THRESHOLD)
    server.run(sockets=[socket.socket(fileno=arguments.listener)])
    gc.unfreeze()
    return 0


def _configuration(connection: socket.socket, frames: FrameReader) -> Configure:
    """What the parent says first; what it has said besides stays in `frames`."""
    while data := connection.recv(READ_BYTES):
        for message in frames.feed(data):
            if isinstance(message, Configure):
                return message
    sys.exit("the parent process is gone.")


if __name__ == "__main__":
    raise SystemExit(main())
