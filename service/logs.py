"""Log lines of every process of the service, on standard error."""

from __future__ import annotations

import logging
import sys

from service.settings import Settings


def configure_logging(settings: Settings) -> None:
    """Plain lines from `log_level` up."""
    logging.basicConfig(
        level=settings.log_level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s", stream=sys.stderr
    )
