"""ERNIE in Paddle, static-graph export, and the model-bundle contract."""

# Paddle 2.6 imported before zlib breaks zlib for the rest of the process (segfaults in zlib.decompress).
import zlib as _zlib  # noqa: F401
