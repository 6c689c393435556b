"""Exit statuses of the engine process that mean something to its supervisor."""

START_FAILED = 3
"""The bundle cannot be run as asked; the last line on standard error is the sentence to show."""
