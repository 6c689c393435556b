"""Whether another library still has the private names that a module uses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def missing_name(attributes: Mapping[type, str], calls: Mapping[Any, str]) -> str | None:
    """Which of the names is missing, in a sentence; None if there is none.

    `attributes` has the names that each class, or its `__init__`, must have. `calls` has the names that each method
    must use. Names are separated by spaces.
    """
    for kind, names in attributes.items():
        there = {*dir(kind), *kind.__init__.__code__.co_names}  # type: ignore[misc]
        if missing := [name for name in names.split() if name not in there]:
            return f"{kind.__name__} has no {missing[0]}"
    for method, names in calls.items():
        if missing := [name for name in names.split() if name not in method.__code__.co_names]:
            return f"{method.__qualname__} does not use {missing[0]}"
    return None
