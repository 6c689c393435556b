"""The engine process: one queue, one batcher, one runtime; and what the API process uses to reach it."""
