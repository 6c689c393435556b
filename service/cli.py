"""`ernie-serve`: the service from its settings to its exit status."""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
import sys
from types import FrameType

import uvicorn
from fastapi import FastAPI
from pydantic import ValidationError

from model_build.bundle import BundleError, find_bundles
from service.app import create_app
from service.engine.supervisor import EngineStartFailed
from service.settings import Settings, read_settings

log = logging.getLogger(__name__)


class Server(uvicorn.Server):
    """uvicorn with a drain: after SIGTERM readiness fails first, then new connections, then the process ends."""

    def __init__(self, config: uvicorn.Config, app: FastAPI, settings: Settings) -> None:
        super().__init__(config)
        self._app = app
        self._settings = settings
        self.start_failure: EngineStartFailed | None = None

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Called by uvicorn on SIGTERM and SIGINT. Ctrl-C does not wait to drain; a second signal waits for nothing."""
        if self._app.state.draining:
            self.should_exit = self.force_exit = True
            return
        self._app.state.draining = True
        delay = 0.0 if sig == signal.SIGINT else self._settings.drain_delay_seconds
        log.info("shutting down: not ready from now on, serving for %.1f s more", delay)
        loop = asyncio.get_running_loop()
        loop.call_soon_threadsafe(loop.call_later, delay, lambda: setattr(self, "should_exit", True))

    def fail(self, error: EngineStartFailed) -> None:
        """Ends the service because an engine cannot start."""
        self.start_failure = error
        self.should_exit = True


def main(argv: list[str] | None = None) -> int:
    """Entry point. Exit status 0 after a clean shutdown, 2 for bad settings, 1 where the service cannot start."""
    try:
        settings = read_settings(argv)
    except ValidationError as error:
        first = error.errors()[0]
        name = str(first["loc"][0])
        print(
            f"ernie-serve: --{name.replace('_', '-')} (ERNIE_{name.upper()}): {first['msg']}, not {first['input']!r}.",
            file=sys.stderr,
        )
        return 2
    logging.basicConfig(
        level=settings.log_level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s", stream=sys.stderr
    )
    try:
        return _serve(settings)
    except (BundleError, EngineStartFailed, OSError) as error:
        print(f"ernie-serve: {error}", file=sys.stderr)
        return 1


def _serve(settings: Settings) -> int:
    bundles = find_bundles(settings.models)
    for bundle in bundles:
        log.info("%s version %s: %s", bundle.manifest.name, bundle.manifest.version, bundle.manifest.task)
    servers: list[Server] = []
    app = create_app(bundles, settings, lambda error: servers[0].fail(error))
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=settings.log_level == "debug",
        timeout_graceful_shutdown=int(settings.shutdown_seconds) or 1,
        server_header=False,
    )
    servers.append(Server(config, app, settings))
    with listen(settings) as listener:
        host, port = listener.getsockname()[:2]
        shown = f"[{host}]" if ":" in host else host
        log.info("listening on http://%s:%d, documentation at /docs", shown, port)
        servers[0].run(sockets=[listener])
    if servers[0].start_failure:
        raise servers[0].start_failure
    return 0


def listen(settings: Settings) -> socket.socket:
    """A listening socket; raises OSError with one sentence where the address cannot be had."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    try:
        listener = socket.create_server((settings.host, settings.port), family=family, backlog=2048)
    except OSError as error:
        raise OSError(f"cannot listen on {settings.host}:{settings.port}: {error.strerror or error}.") from error
    # Accepted sockets inherit this; asyncio sets it only on sockets whose protocol number is spelled out. Without it
    # the body of an answer waits 40 ms for the client to acknowledge its headers.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


if __name__ == "__main__":
    raise SystemExit(main())
