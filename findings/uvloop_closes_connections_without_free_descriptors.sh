#!/bin/sh
# uvloop accepts and closes new connections while the process has no free file descriptor, and logs nothing.
#
# asyncio's own loop logs "socket.accept() out of system resource" and leaves the clients in the backlog until a
# descriptor is free. With uvloop each of these clients loses its connection, and the server's log does not say why.
#
# PYTHON names the interpreter (default: python3). Exit status: 0 as recorded, 1 changed, 2 could not run.
folder=$(mktemp -d) || exit 2
trap 'rm -rf "$folder"' EXIT
{ "${PYTHON:-python3}" -m venv "$folder" && "$folder/bin/pip" install --quiet --disable-pip-version-check \
    'uvloop==0.23.0'; } || { echo 'could not run: the packages cannot be installed'; exit 2; }
cat >"$folder/finding.py" <<'PYTHON'
import os
import sys

sys.excepthook = lambda kind, error, trace: (print(f"could not run: {error!r}", flush=True), os._exit(2))

import resource
import select
import socket
import subprocess

import uvloop

CLIENTS = 20
EXPECTED = {"asyncio": "wait, with a log line", "uvloop": "wait, with a log line"}
RECORDED = {"asyncio": "wait, with a log line", "uvloop": "are closed, without a log line"}
SERVER = f"""
import asyncio, resource, socket, sys, uvloop

async def serve():
    await asyncio.get_running_loop().create_server(asyncio.Protocol, sock=socket.socket(fileno=int(sys.argv[2])))
    lowest_free = socket.socket().fileno()
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest_free, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    print("ready", flush=True)
    await asyncio.sleep(60)

(uvloop if sys.argv[1] == "uvloop" else asyncio).new_event_loop().run_until_complete(serve())
"""


def outcome(loop: str) -> str:
    with socket.create_server(("127.0.0.1", 0), backlog=CLIENTS) as listener:
        server = subprocess.Popen(
            [sys.executable, "-c", SERVER, loop, str(listener.fileno())],
            pass_fds=[listener.fileno()], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        assert server.stdout and server.stdout.readline() == "ready\n"
        clients = [socket.create_connection(listener.getsockname(), timeout=10) for _ in range(CLIENTS)]
        # A closed connection becomes readable: its end of file.
        closed = [client for client in clients if select.select([client], [], [], 0.1)[0] and client.recv(1) == b""]
        server.terminate()
        log = server.communicate(timeout=10)[1]
    logged = "with a log line" if "out of system resource" in log else f"without a log line{log and ': ' + log}"
    return f"{'are closed' if len(closed) == CLIENTS else 'wait' if not closed else len(closed)}, {logged}"


def main() -> dict[str, str]:
    print(f"uvloop {uvloop.__version__}, Python {sys.version.split()[0]}")
    return {loop: outcome(loop) for loop in RECORDED}


if __name__ == "__main__":
    found = main()
    print(f"expected: {EXPECTED}\nseen:     {found}")
    if found != RECORDED:
        sys.exit(f"changed:  {RECORDED} was recorded")
PYTHON
cd "$folder" && "$folder/bin/python" finding.py
