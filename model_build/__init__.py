"""ERNIE in Paddle, static-graph export, and the model-bundle contract."""

# zlib must be imported before Paddle 2.6. In the other order, zlib.decompress crashes (segmentation fault).
import zlib as _zlib  # noqa: F401
