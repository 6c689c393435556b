"""Starts the service: from the settings to the exit status."""

from __future__ import annotations

import asyncio
import importlib.util
import logging
import os
import socket
import sys
import tempfile

from pydantic import ValidationError

from model_build.bundle import BundleError, find_bundles
from service.endpoints import SERVED_TASKS
from service.logs import configure_logging
from service.parent.key_file import KeysError
from service.settings import Settings, read_settings

log = logging.getLogger(__name__)


def serve(arguments: list[str]) -> int:
    """Serves until a signal ends the service. Exit status 0 after a clean shutdown, 2 for invalid settings, 1 if the
    service cannot start."""
    try:
        settings = read_settings(arguments)
    except ValidationError as error:
        first = error.errors()[0]
        name = str(first["loc"][0])
        print(
            f"ernie-serve: --{name.replace('_', '-')} (ERNIE_{name.upper()}): {first['msg']}, not {first['input']!r}.",
            file=sys.stderr,
        )
        return 2
    if settings.otel and not _can_export_spans():
        print(
            "ernie-serve: --otel (ERNIE_OTEL) needs packages that are missing; install ernie-zh[otel].",
            file=sys.stderr,
        )
        return 2
    if settings.tokenizer == "fast_tokenizer" and importlib.util.find_spec("fast_tokenizer") is None:
        print(
            "ernie-serve: --tokenizer fast_tokenizer (ERNIE_TOKENIZER) needs fast-tokenizer-python, which is not "
            "installed and has no wheels for Python 3.11 and later; use native.",
            file=sys.stderr,
        )
        return 2
    configure_logging(settings)
    try:
        return _run(settings)
    except (BundleError, KeysError, OSError) as error:
        print(f"ernie-serve: {error}", file=sys.stderr)
        return 1


def _can_export_spans() -> bool:
    try:
        return importlib.util.find_spec("opentelemetry.exporter.otlp.proto.http") is not None
    except ModuleNotFoundError:  # a parent package is missing
        return False


def _run(settings: Settings) -> int:
    bundles = find_bundles(settings.models, SERVED_TASKS)
    for bundle in bundles:
        log.info("%s version %s: %s", bundle.manifest.name, bundle.manifest.version, bundle.manifest.task)
    with listen(settings) as listener, _temporary_folder() as directory:
        host, port = listener.getsockname()[:2]
        shown = f"[{host}]" if ":" in host else host
        log.info("listening on http://%s:%d, documentation at /docs", shown, port)
        # prometheus_client reads this variable when it is imported.
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = directory
        from service.parent.fleet import Fleet
        from service.parent.supervisor import EngineStartFailed

        async def run() -> None:
            await Fleet(settings, bundles, listener).run()

        try:
            asyncio.run(run())
        except EngineStartFailed as error:
            print(f"ernie-serve: {error}", file=sys.stderr)
            return 1
    return 0


def _temporary_folder() -> tempfile.TemporaryDirectory[str]:
    """A private folder for the files of the metrics; raises OSError with one sentence if it cannot be created."""
    try:
        return tempfile.TemporaryDirectory(prefix="ernie-", ignore_cleanup_errors=True)
    except OSError as error:
        folder = os.environ.get("TMPDIR", "/tmp")
        raise OSError(
            f"no temporary folder can be created in {folder}: {error.strerror or error}; set TMPDIR to a folder that "
            "can be written."
        ) from error


def listen(settings: Settings) -> socket.socket:
    """A listening socket; raises OSError with one sentence if the address cannot be used."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    try:
        listener = socket.create_server((settings.host, settings.port), family=family, backlog=2048)
    except OSError as error:
        raise OSError(f"cannot listen on {settings.host}:{settings.port}: {error.strerror or error}.") from error
    # Accepted sockets inherit this option; asyncio sets it only on sockets with an explicit protocol number. Without it
    # the body of an answer waits up to 40 ms until the client acknowledges its headers.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener
