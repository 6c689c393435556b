"""The command that starts a child process. It uses the import path of this process, not the current folder."""

from __future__ import annotations

import sys


def child_command(module: str) -> list[str]:
    """The command that runs `main()` of `module` in a new interpreter; arguments can be added at its end.

    `python -m` would put the current folder first on the import path, so that a folder `service/` or a file
    `logging.py` in it would be executed instead of the installed module. The list of processes shows the name of the
    module.
    """
    start = f"import sys; sys.path[:] = {sys.path!r}; from {module} import main; sys.exit(main())"
    return [sys.executable, "-c", start]
