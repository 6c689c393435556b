"""How child processes are started: with the import path of this process, never with the current folder's modules."""

from __future__ import annotations

import sys


def child_command(module: str) -> list[str]:
    """The command that runs `main()` of `module` in a new interpreter; arguments may be added behind it.

    `python -m` would put the current folder first on the import path, so that a folder `service/` or a file
    `logging.py` in it would be executed instead of the installed module. The module's name stays visible in the list of
    processes.
    """
    start = f"import sys; sys.path[:] = {sys.path!r}; from {module} import main; sys.exit(main())"
    return [sys.executable, "-c", start]
