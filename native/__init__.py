"""Hot loops in C++, with a typed Python face."""

from native._core import Encoding, ErnieTokenizer, PaddedBatch, unicode_version, version

__all__ = ["Encoding", "ErnieTokenizer", "PaddedBatch", "unicode_version", "version"]
