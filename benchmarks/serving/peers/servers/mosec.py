"""mosec with its dynamic batching: a batch is the queued texts, padded to the longest.

Batches of 4, 8, 16 and 32 were tried, one worker of two threads and two of one, and waits of 1 and 5 ms: two workers
with batches of 8 were best on reviews, and within 4 % of the best on titles. Address and port come from the
environment, as mosec reads them.
"""

from __future__ import annotations

import os
from typing import Any

import mosec  # type: ignore[import-not-found]

from benchmarks.serving.peers.servers.model import Model


class Inference(mosec.Worker):
    """Answers requests of either task."""

    def __init__(self) -> None:
        super().__init__()
        self.model = Model(threads=1)

    def forward(self, data: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """A batch."""
        return self.model.answers([each["inputs"] for each in data])


if __name__ == "__main__":
    server = mosec.Server()
    server.append_worker(Inference, num=2, max_batch_size=8, max_wait_time=1, timeout=60, route=os.environ["ENDPOINT"])
    server.run()
