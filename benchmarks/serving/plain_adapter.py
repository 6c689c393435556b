"""The ASGI application of the service in plain uvicorn, with the engines of a service that runs already.

`benchmarks.serving.fuzz_adapters` compares it with that service. `serving_plain` starts it as a separate process; the
settings come from the environment, as for `ernie-serve`.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from benchmarks.serving.service import WORKER, Service, free_port

START_SECONDS = 60.0


def serve(engines: Sequence[tuple[str, str]], port: int, http: str) -> None:
    """Runs uvicorn with its own protocol class `http`; `engines` are (bundle directory, socket)."""
    import uvicorn
    from fastapi import FastAPI

    from service.api.app import create_app
    from service.messages.control import ModelEntry, ModelTable
    from service.parent.key_file import read_keys
    from service.settings import read_settings

    settings = read_settings([])
    models = [
        ModelEntry(number, Path(directory).parent.name, directory, socket, responsive=True)
        for number, (directory, socket) in enumerate(engines)
    ]

    async def attach(app: FastAPI) -> None:
        await app.state.catalog.apply(ModelTable(1, models))
        await asyncio.Event().wait()

    app = create_app(settings, digests=read_keys(settings), background=attach)
    uvicorn.run(
        app, host="127.0.0.1", port=port, http=http, ws="none", log_level="critical", access_log=False,
        server_header=False, timeout_keep_alive=settings.keep_alive_seconds,
    )  # fmt: skip


def engines_of(service: Service) -> list[tuple[str, str]]:
    """Bundle directory and socket of each engine, from its command line."""
    lines = [engine.cmdline() for name, found in service.children().items() if name != WORKER for engine in found]
    return [(line[line.index("--bundle") + 1], line[line.index("--socket") + 1]) for line in lines]


@contextlib.contextmanager
def serving_plain(service: Service, settings: Mapping[str, str], http: str) -> Iterator[str]:
    """The URL of the ready application; its process ends after the block."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "benchmarks.serving.plain_adapter", "--port", str(port), "--http", http]
    for directory, socket in engines_of(service):
        command += ["--engine", directory, socket]
    with tempfile.TemporaryDirectory() as folder:
        # prometheus_client reads this when it is imported.
        variables = {**os.environ, **settings, "PROMETHEUS_MULTIPROC_DIR": folder}
        process = subprocess.Popen(command, env=variables)
        try:
            deadline = time.monotonic() + START_SECONDS
            while not _is_ready(url):
                if process.poll() is not None or time.monotonic() > deadline:
                    raise SystemExit("the application did not become ready in plain uvicorn.")
                time.sleep(0.1)
            yield url
        finally:
            process.terminate()
            process.wait()


def _is_ready(url: str) -> bool:
    with contextlib.suppress(OSError):
        return urllib.request.urlopen(f"{url}/health/ready", timeout=5).status == 200
    return False


def main() -> None:
    """The process that `serving_plain` starts."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--engine", nargs=2, action="append", default=[], metavar=("BUNDLE", "SOCKET"))
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--http", choices=("httptools", "h11"), default="httptools")
    arguments = parser.parse_args()
    serve([(directory, socket) for directory, socket in arguments.engine], arguments.port, arguments.http)


if __name__ == "__main__":
    main()
