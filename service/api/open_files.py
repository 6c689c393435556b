"""The limit of the operating system on open files, which also limits the connections of a process.

Without a free file descriptor, a new connection cannot be handled in an orderly way: uvloop accepts and closes it, and
asyncio accepts no connection for a second.
"""

from __future__ import annotations

import logging
import os
import resource

log = logging.getLogger(__name__)

# File descriptors for everything that opens later: connections to engines, files of models and metrics, and new
# connections that exist until an idle one is closed for them.
RESERVED = 64


def raise_limit() -> int:
    """Raises the soft limit on open files of this process to the hard limit, and returns it."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def connections_within(maximum: int, limit: int) -> int:
    """`maximum`, or the number of connections that a process can have if its `limit` on open files is too small.

    A process has up to twice that number of sockets: open connections, and closed ones whose clients have not read the
    last answer.
    """
    free = limit - len(os.listdir("/proc/self/fd")) - RESERVED
    possible = max(1, free // 2)
    if possible >= maximum:
        return maximum
    log.warning(
        "the limit of %d open files allows %d connections, not the %d of --max-connections; raise the limit "
        "(ulimit -n, LimitNOFILE or --ulimit nofile).",
        limit,
        possible,
        maximum,
    )
    return possible
