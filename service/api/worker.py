"""An API process. The parent starts it with `main`; it ends with the parent.

It accepts connections on the socket that it inherits, and receives settings and models from the parent.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import logging
import socket
import sys
from types import FrameType

import uvicorn
from fastapi import FastAPI

from service.api.app import create_app
from service.api.connection import connections
from service.api.open_files import connections_within, raise_limit
from service.api.parent_link import ParentLink
from service.logs import configure_logging
from service.messages.control import Configure, Readiness, ToWorker
from service.messages.frames import READ_BYTES, FrameReader
from service.messages.launch import START_FAILED
from service.messages.local_socket import native_address
from service.settings import Settings

log = logging.getLogger(__name__)

# The garbage collector runs when this many new objects are alive. A running request holds about a hundred.
GARBAGE_THRESHOLD = 10_000


class Server(uvicorn.Server):
    """uvicorn's server without its signal handlers: only the parent process handles signals."""

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Called by uvicorn on SIGTERM and SIGINT."""

    def end(self, at_once: bool = False) -> None:
        """Stops accepting connections, and ends when all running requests are answered; `at_once`: without waiting."""
        self.should_exit = True
        self.force_exit = self.force_exit or at_once


class Worker:
    """The application and its server, controlled by the parent. To drain, it reports not ready, and stops later."""

    def __init__(self, app: FastAPI, server: Server, beat_seconds: float = 1.0) -> None:
        """`beat_seconds` is the time between two signs of life."""
        self._app = app
        self._server = server
        self._beat_seconds = beat_seconds

    async def follow(self, parent: ParentLink) -> None:
        """Handles the parent's messages. Stops the server when the parent is gone or a message cannot be handled."""
        state = self._app.state
        state.parent = parent
        state.catalog.on_change = parent.report_loads
        beating = asyncio.create_task(parent.beat(self._beat_seconds))
        try:
            await parent.listen(state.keys.replace, state.catalog.apply, self._readiness, self.drain)
        except Exception:
            # Without the parent it would keep serving an old state. The parent replaces a process that stops.
            log.exception("a message of the parent process could not be handled; stopping")
            self._server.end()
        else:
            log.error("the parent process is gone")
            self._server.end(at_once=True)
        finally:
            beating.cancel()

    def _readiness(self, readiness: Readiness) -> None:
        self._app.state.readiness = readiness

    def drain(self, delay_seconds: float) -> None:
        """Reports not ready from now on and stops after `delay_seconds`; a second call stops at once."""
        if self._app.state.draining:
            self._server.end(at_once=True)
            return
        self._app.state.draining = True
        log.info("shutting down: not ready from now on, serving for %.1f s more", delay_seconds)
        asyncio.get_running_loop().call_later(delay_seconds, self._server.end)


def main() -> int:
    """Serves until the parent requests the end, or is gone."""
    parser = argparse.ArgumentParser(prog="service.api.worker", description=__doc__)
    parser.add_argument("--control", required=True, help="Unix socket of the parent")
    parser.add_argument("--listener", type=int, required=True, help="file descriptor of the listening socket")
    arguments = parser.parse_args()
    link = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    frames = FrameReader(ToWorker)
    try:
        link.connect(native_address(arguments.control))
        configuration = _configuration(link, frames)
    except OSError:
        sys.exit("the parent process is gone.")
    settings = Settings(**configuration.settings)
    configure_logging(settings)

    async def follow_parent(app: FastAPI) -> None:
        reader, writer = await asyncio.open_unix_connection(sock=link)
        await Worker(app, server, settings.beat_seconds).follow(ParentLink(reader, writer, frames))

    settings.max_connections = connections_within(settings.max_connections, raise_limit())
    app = create_app(settings, digests=configuration.digests, background=follow_parent)
    try:
        http = connections(settings, app.state.exchange, lambda: app.state.draining)
    except RuntimeError as error:
        print(f"ernie-serve: {error}", file=sys.stderr)
        return START_FAILED
    config = uvicorn.Config(
        app,
        http=http,  # type: ignore[arg-type]  # makes protocols
        ws="none",
        log_config=None,
        access_log=False,
        timeout_keep_alive=settings.keep_alive_seconds,
        timeout_graceful_shutdown=int(settings.shutdown_seconds) or 1,
        server_header=False,
    )
    server = Server(config)
    # The objects made so far stay alive. Under load, the collector spent a fifth of the time on scanning them again.
    gc.freeze()
    gc.set_threshold(GARBAGE_THRESHOLD)
    server.run(sockets=[socket.socket(fileno=arguments.listener)])
    gc.unfreeze()
    return 0


def _configuration(link: socket.socket, frames: FrameReader) -> Configure:
    """The first message of the parent; later ones stay in `frames`."""
    while data := link.recv(READ_BYTES):
        for message in frames.feed(data):
            if isinstance(message, Configure):
                return message
    sys.exit("the parent process is gone.")


if __name__ == "__main__":
    raise SystemExit(main())
