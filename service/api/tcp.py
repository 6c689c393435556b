"""Operations on the socket of a transport that asyncio does not offer."""

from __future__ import annotations

import asyncio
import fcntl
import socket
import struct
import sys
import termios

# The value of SO_LINGER that makes the kernel drop unsent bytes when the socket is closed.
_DISCARD = struct.pack("ii", 1, 0)


def file_number(transport: asyncio.BaseTransport) -> int:
    """The file descriptor of the socket; -1 if it is closed."""
    return int(transport.get_extra_info("socket").fileno())


def unsent_bytes(transport: asyncio.WriteTransport, more: int = 0) -> int:
    """The number of bytes that wait until the client reads, with `more` bytes that are not written yet.

    The bytes in the kernel count only if its buffer is full.
    """
    size = transport.get_write_buffer_size() + more
    if not size:
        return 0
    queue = fcntl.ioctl(file_number(transport), termios.TIOCOUTQ, bytes(4))
    return size + int.from_bytes(queue, sys.byteorder)


def discard_unsent(transport: asyncio.BaseTransport) -> None:
    """Makes the kernel drop unsent bytes when the transport is closed; the client then gets a reset."""
    if sock := transport.get_extra_info("socket"):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _DISCARD)
