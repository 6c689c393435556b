"""LitServe with its dynamic batching: a batch is the queued texts, padded to the longest.

Its documentation recommends one worker per core. Batches of 4, 8, 16 and 32 were tried, one worker and two, and its
queues with and without ZeroMQ (`fast_queue`): 8 and `fast_queue` were best, or as good as the best, on both texts.
Without a `batch_timeout` its workers poll their queue all the time, which takes both cores even without requests.
"""

from __future__ import annotations

import os
from typing import Any

import litserve  # type: ignore[import-not-found]

from benchmarks.serving.peers.servers.model import Model


class Api(litserve.LitAPI):
    """Answers requests of either task."""

    def setup(self, device: str) -> None:
        """Runs once in each worker."""
        self.model = Model(threads=1)

    # LitServe reads annotations: without one it passes the JSON of the body; any other type it requests from FastAPI.
    def decode_request(self, request):  # type: ignore[no-untyped-def]
        """The text of a request."""
        return request["inputs"]

    def predict(self, texts: list[str]) -> list[dict[str, Any]]:
        """A batch."""
        return self.model.answers(texts)


if __name__ == "__main__":
    api = Api(max_batch_size=8, batch_timeout=0.002, api_path=os.environ["ENDPOINT"])
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=2, fast_queue=True)
    server.run(
        host="127.0.0.1",
        port=int(os.environ["PORT"]),
        num_api_servers=1,  # two, one a worker as by default, took processor time and gave no more requests
        generate_client_file=False,
        log_level="warning",
        access_log=False,
    )
