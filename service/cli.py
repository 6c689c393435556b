"""`ernie-serve`: signals are handled before the service is imported, which takes most of a second."""

from __future__ import annotations

import signal
import sys
from types import FrameType


class Ended(BaseException):
    """A signal ended the service before it served."""


def main(argv: list[str] | None = None) -> int:
    """Entry point. Exit status 0 after a clean shutdown, 2 for invalid settings, 1 if the service cannot start."""
    arguments = sys.argv[1:] if argv is None else argv
    if arguments[:1] == ["bench-runtimes"]:
        from service.engine import bench_runtimes

        return bench_runtimes.main(arguments[1:])
    # There is nothing to reload yet.
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _end)
    try:
        from service.start import serve

        status = serve(arguments)
    except Ended:
        status = 0
    # The event loop has removed its handlers. A second signal must not change the exit status.
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    return status


def _end(number: int, frame: FrameType | None) -> None:
    raise Ended


if __name__ == "__main__":
    raise SystemExit(main())
