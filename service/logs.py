"""Log lines of every process of the service, on standard error. No line contains a client's text or a key.

Therefore an exception is logged without its message, which may repeat a text, unless `log_level` is debug.
"""

from __future__ import annotations

import asyncio
import json
import logging
import sys
import time
import traceback
from types import TracebackType
from typing import Any

from service.settings import Settings

log = logging.getLogger(__name__)

# The attributes that every record has; all others come from `extra`.
_USUAL = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName", "color_message"}


ExcInfo = tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]


class TextFormatter(logging.Formatter):
    """Time, level, logger, message; then the stack and the type of an exception, without its message."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s")

    def formatException(self, ei: ExcInfo) -> str:
        """The stacks of the exception and of its causes, the first cause first."""
        if logging.getLogger().isEnabledFor(logging.DEBUG):
            return super().formatException(ei)
        parts: list[str] = []
        seen: set[int] = set()
        error = ei[1]
        while error is not None and id(error) not in seen:
            seen.add(id(error))
            kind = type(error)
            stack = "".join(traceback.format_tb(error.__traceback__))
            parts.append(f"{stack}{kind.__module__}.{kind.__qualname__} (its message is shown at log level debug)")
            error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
        return "\nwhich led to\n".join(reversed(parts))


class JsonFormatter(TextFormatter):
    """One JSON object per line: time (UTC), level, logger, message, and the fields from `extra`."""

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        line = {
            "time": f"{moment}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **{name: value for name, value in vars(record).items() if name not in _USUAL},
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False, default=str)


def log_unhandled(_: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """For `set_exception_handler`: asyncio's own handler shows futures, which contain the messages of exceptions."""
    log.error("%s", context["message"], exc_info=context.get("exception"))


def configure_logging(settings: Settings) -> None:
    """Logs lines of `log_level` and above, in `log_format`."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if settings.log_format == "json" else TextFormatter())
    logging.basicConfig(level=settings.log_level.upper(), handlers=[handler], force=True)
    # It logs its start and end, which the parent already logs, and every client that sends invalid HTTP.
    logging.getLogger("uvicorn.error").setLevel(logging.ERROR)
