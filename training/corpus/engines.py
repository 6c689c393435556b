"""Builds shards in this process, in worker processes, or as tasks on a Ray cluster (`--engine`)."""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from typing import Any, TypeVar

from training.corpus.indexed import CorpusError

Job = TypeVar("Job")


def run(
    task: Callable[[Job], object], jobs: Sequence[Job], engine: str, workers: int, ray_address: str
) -> Iterator[Job]:
    """Calls `task` with every job, in any order, and yields each job when it is done.

    Raises what `task` raises, and CorpusError if a worker process or Ray fails.
    """
    if engine == "ray":
        yield from _on_ray(task, jobs, ray_address)
    elif min(workers, len(jobs)) <= 1:
        for job in jobs:
            task(job)
            yield job
    else:
        yield from _in_processes(task, jobs, min(workers, len(jobs)))


def _in_processes(task: Callable[[Job], object], jobs: Sequence[Job], workers: int) -> Iterator[Job]:
    # Spawned, not forked: a fork of a process with threads (Paddle, Ray) may hang.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, context, initializer=_die_with_parent) as pool:
        futures: dict[Future[object], Job] = {pool.submit(task, job): job for job in jobs}
        try:
            for future in as_completed(futures):
                future.result()
                yield futures.pop(future)
        except BrokenProcessPool as error:
            raise CorpusError(
                "a worker process died, perhaps because memory ran out; run the same command again with fewer "
                "--workers: it resumes from the finished shards."
            ) from error
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _die_with_parent() -> None:
    """Ends this worker when its parent is killed, so that it stops writing; the parent handles Ctrl-C."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _on_ray(task: Callable[[Job], object], jobs: Sequence[Job], address: str) -> Iterator[Job]:
    """Runs the jobs as Ray tasks. The machines must see the same files under the same paths and have this package."""
    try:
        import ray
    except ImportError as error:
        raise CorpusError("--engine ray needs the package ray; install it with `pip install ray`.") from error
    ours = not ray.is_initialized()
    if ours:
        try:
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
        except (ConnectionError, ValueError, RuntimeError) as error:
            raise CorpusError(
                f"no Ray cluster answers at --ray-address {address}; start one with `ray start --head` and give its "
                "address."
            ) from error
    try:
        yield from _ray_tasks(ray, task, jobs)
    finally:
        if ours:
            ray.shutdown()


def _ray_tasks(ray: Any, task: Callable[[Job], object], jobs: Sequence[Job]) -> Iterator[Job]:
    remote = ray.remote(task)
    todo, running = iter(jobs), dict[Any, Job]()
    limit = 2 * max(1, int(ray.cluster_resources().get("CPU", 1)))
    while True:
        for job in todo:
            running[remote.remote(job)] = job
            if len(running) >= limit:
                break
        if not running:
            return
        finished, _ = ray.wait(list(running))
        for reference in finished:
            try:
                ray.get(reference)
            except ray.exceptions.RayTaskError as error:
                # The task's own error, without Ray's report about the worker.
                raise error.cause from error
            except ray.exceptions.RayError as error:
                raise CorpusError(
                    f"a Ray task failed: {str(error).splitlines()[0]} Run the same command again to resume."
                ) from error
            yield running.pop(reference)
