"""Hot loops in C++, with a typed Python face."""

from native._core import version

__all__ = ["version"]
