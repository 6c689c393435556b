"""The command that starts a child process. It uses the import path of this process, not the current folder."""

from __future__ import annotations

import sys


def child_command(module: str) -> list[str]:
    """The command that runs `main()` of `module` in a new interpreter; arguments can be added at its end.

    `python -m` would put the current folder first on the import path, so that a folder `service/` or a file
    `logging.py` in it would be executed instead of the installed module. The list of processes shows the name of the
    module.

    The child ignores SIGINT, SIGTERM and SIGHUP before it imports anything: Ctrl-C, a service manager and a closing
    terminal signal every process, and only the parent handles these signals.
    """
    ignore = "import signal, sys; [signal.signal(number, signal.SIG_IGN) for number in (1, 2, 15)]"
    start = f"{ignore}; sys.path[:] = {sys.path!r}; from {module} import main; sys.exit(main())"
    return [sys.executable, "-c", start]
