"""An engine process: it owns the queue, the batcher and one runtime of one model."""
