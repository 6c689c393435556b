"""Unix sockets between the processes of a service, under abstract addresses: names without a file (unix(7), Linux).

A path would be too long in a deep temporary folder, and it would be lost if somebody cleans that folder. Abstract
addresses have no file permissions. Therefore they are random, and a server checks each process that connects: it must
run as the same user, in the same process namespace.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import socket
import struct
from pathlib import Path

_CREDENTIALS = struct.Struct("3i")  # struct ucred: pid, uid, gid


def new_address() -> str:
    """A new address. Its form, with @ for the first byte, which is 0, fits into a command line."""
    return f"@ernie-{secrets.token_hex(16)}"


def native_address(address: str | Path) -> str:
    """The address as `bind` and `connect` take it. A path remains a path."""
    name = str(address)
    return f"\0{name[1:]}" if name.startswith("@") else name


async def connect(address: str | Path) -> socket.socket:
    """A connected socket; raises OSError. uvloop's own functions take no abstract address."""
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    made.setblocking(False)
    try:
        await asyncio.get_running_loop().sock_connect(made, native_address(address))
    except BaseException:
        made.close()
        raise
    return made


def is_own_user(connection: socket.socket) -> bool:
    """Whether the other end of an accepted connection is a process of this user in this process namespace."""
    sent = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    pid, user, _ = _CREDENTIALS.unpack(sent)
    return pid != 0 and user == os.geteuid()
