"""The objects that all connections of an API process use."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from service.api.departures import Departures
from service.api.exchange import Exchange
from service.api.open_connections import OpenConnections
from service.api.unsent import Unsent
from service.settings import Settings


class Shared(NamedTuple):
    """The objects that all connections of a process use."""

    settings: Settings
    exchange: Exchange
    draining: Callable[[], bool]
    table: OpenConnections
    unsent: Unsent
    departures: Departures

    @classmethod
    def of(cls, settings: Settings, exchange: Exchange, draining: Callable[[], bool]) -> Shared:
        """The objects for one server. Its limits are those of `settings`."""
        table = OpenConnections(settings.max_connections)
        unsent = Unsent(settings.max_sending_bytes, settings.write_seconds)
        return cls(settings, exchange, draining, table, unsent, Departures())
