"""Connections of a process with few file descriptors."""

import contextlib
import logging
import resource
import socket
import subprocess
import sys

import pytest

from service.api.open_files import connections_within, raise_limit
from tests.service.api.connection.test_limits import REQUEST
from tests.service.conftest import ROOT

LIMIT = 150


def test_the_soft_limit_is_raised_to_the_hard_limit() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, 256), hard))
        assert raise_limit() == hard
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (hard, hard)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_connections_are_limited_by_open_files_and_one_sentence_says_so(caplog: pytest.LogCaptureFixture) -> None:
    assert connections_within(1000, 100_000) == 1000
    assert not caplog.records
    with caplog.at_level(logging.WARNING):
        assert 1 <= connections_within(1000, 300) < 120
        assert connections_within(1000, 10) == 1
    assert [record.levelname for record in caplog.records] == ["WARNING"] * 2
    assert "the limit of 300 open files allows" in caplog.messages[0]


SERVER = """
import asyncio, resource, sys, uvloop
from service.api.open_files import connections_within, raise_limit
from tests.service.api.connection.test_limits import Held, serving

async def serve():
    app = Held()
    app.go.set()
    resource.setrlimit(resource.RLIMIT_NOFILE, (100, int(sys.argv[1])))
    async with serving(app, max_connections=connections_within(1000, raise_limit())) as port:
        print(port, flush=True)
        await asyncio.to_thread(sys.stdin.read)

uvloop.new_event_loop().run_until_complete(serve())
"""


def test_with_few_file_descriptors_every_new_connection_is_answered() -> None:
    """Without the limit, uvloop closes connections without an answer when no file descriptor is free."""
    command = [sys.executable, "-c", SERVER, str(LIMIT)]
    with (
        contextlib.ExitStack() as stack,
        subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process,
    ):
        assert process.stdin
        assert process.stdout
        stack.callback(process.stdin.close)
        port = int(process.stdout.readline())
        clients = []
        for _ in range(2 * LIMIT):
            client = stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=20))
            client.sendall(REQUEST)
            assert client.recv(1 << 16).startswith(b"HTTP/1.1 200")
            clients.append(client)
        assert clients[0].recv(1 << 16) in (b"ok", b"")  # the connection that was idle longest is closed
        stack.close()
        assert process.wait(20) == 0
