"""What the parent passes to an engine process on its command line, and the exit status that a child may return."""

from __future__ import annotations

from dataclasses import dataclass

START_FAILED = 3
"""Exit status of a process that cannot start and must not be restarted; its standard error says why.

An engine cannot run its bundle, or an API process does not know the installed uvicorn.
"""


@dataclass(frozen=True)
class BatchingOptions:
    """Limits of a batch. Lengths and costs are in tokens, times in seconds."""

    max_batch_tokens: int = 8192
    max_batch_items: int = 64
    window: int = 512
    """A batch is chosen from this number of the oldest queued items."""
    overhead_tokens: int = 16
    """Fixed cost of a forward pass, as the number of padded tokens that take the same time."""
    max_wait: float = 0.0
    """Maximum time that an idle engine waits for a fuller batch."""
    ageing: float = 2.0
    """After this time in the queue an item of priority `batch` counts as interactive."""
    background_batch_tokens: int = 2048
    """Limit of a batch that holds only items of priority `batch`."""
