#!/bin/sh
# uvloop's create_unix_connection raises EINVAL for an abstract Unix socket that listens; asyncio's own loop connects.
#
# The name of an abstract socket begins with a zero byte (man 7 unix), and it leaves no file behind. The same loop
# connects through sock_connect, so the socket and its name are right.
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

import asyncio
import errno
import socket
from collections.abc import Awaitable, Callable

import uvloop

CALLS = ("create_unix_connection", "sock_connect")
EXPECTED = {f"{loop}, {call}": "connected" for loop in ("asyncio", "uvloop") for call in CALLS}
RECORDED = {**EXPECTED, "uvloop, create_unix_connection": "EINVAL"}


async def connection(name: str) -> None:
    transport, _ = await asyncio.get_running_loop().create_unix_connection(asyncio.Protocol, name)
    transport.close()


async def sock_connect(name: str) -> None:
    with socket.socket(socket.AF_UNIX) as client:
        client.setblocking(False)
        await asyncio.get_running_loop().sock_connect(client, name)


async def outcome(connect: Callable[[str], Awaitable[None]], name: str) -> str:
    try:
        await asyncio.wait_for(connect(name), 10)
    except OSError as error:
        return errno.errorcode[error.errno]
    return "connected"


def main() -> dict[str, str]:
    print(f"uvloop {uvloop.__version__}, Python {sys.version.split()[0]}")
    found = {}
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("")  # Linux chooses a free abstract name
        listener.listen()
        name = listener.getsockname().decode()
        for loop, new in (("asyncio", asyncio.new_event_loop), ("uvloop", uvloop.new_event_loop)):
            for call, connect in zip(CALLS, (connection, sock_connect), strict=True):
                found[f"{loop}, {call}"] = new().run_until_complete(outcome(connect, name))
    return found


if __name__ == "__main__":
    found = main()
    print(f"expected: {EXPECTED}\nseen:     {found}")
    if found != RECORDED:
        sys.exit(f"changed:  {RECORDED} was recorded")
PYTHON
cd "$folder" && "$folder/bin/python" finding.py
