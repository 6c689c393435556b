"""The catalog: finds the model for a name, a task or a path, and replaces models."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import gc
import logging
from collections.abc import Callable, Sequence
from pathlib import Path

from model_build.bundle import Bundle, BundleError, Task, open_bundle
from service.api.models.served import ServedModel
from service.endpoints import ENDPOINTS
from service.messages.control import ModelEntry, ModelTable
from service.metrics import Metrics
from service.problem import Problem
from service.settings import Settings

log = logging.getLogger(__name__)


class Catalog:
    """The models of an API process."""

    def __init__(self, bundles: Sequence[Bundle], settings: Settings, metrics: Metrics) -> None:
        self._settings = settings
        self._metrics = metrics
        self._serial = 0
        self._loads: dict[int, ServedModel] = {}
        self._wanted: set[int] = set()
        self._running: set[int] = set()
        self._missing: list[str] = []
        self._leaving: dict[int, asyncio.Task[None]] = {}
        self.on_change: Callable[[int, list[int], dict[str, int]], None] = lambda serial, in_use, ready: None
        """Called with the serial of the current table, the numbers of the loads that have, or may get, requests, and
        for each name the number of the load that serves it."""
        self._has_table = bool(bundles)
        self._joined = asyncio.Event()
        self.served = {bundle.manifest.name: ServedModel(bundle, settings, metrics) for bundle in bundles}

    async def apply(self, table: ModelTable) -> None:
        """Serves the models of the table. Running requests finish on the engine where they started."""
        loaded = [(entry, self._loads.get(entry.number) or await self._load(entry)) for entry in table.models]
        self._serial, self._has_table = table.serial, True
        self._missing = [entry.name for entry, model in loaded if model is None]
        self._wanted = {entry.number for entry in table.models}
        self._running = {entry.number for entry in table.models if entry.socket}
        for entry, model in loaded:
            if model:
                self._loads[entry.number] = model
                model.follow(entry, attached=self._serve)
        self._serve()

    def _serve(self) -> None:
        """Serves the loads of the table. An earlier load of a name serves until the engine of the new load is ready."""
        served = {}
        for number in sorted(self._wanted & self._loads.keys()):
            model = self._loads[number]
            before = self.served.get(model.name)
            served[model.name] = before if before and before.ready and not model.engine.ready else model
        self.served = served
        for number in [number for number in self._loads if number not in self._wanted]:
            if self._loads[number] not in served.values():
                self._leaving[number] = asyncio.create_task(self._leave(number, self._loads.pop(number)))
        self._report()

    async def _load(self, entry: ModelEntry) -> ServedModel | None:
        try:
            bundle = await asyncio.to_thread(open_bundle, Path(entry.directory))
            self._metrics.add(bundle)
            return await asyncio.to_thread(ServedModel, bundle, self._settings, self._metrics)
        except (BundleError, OSError) as error:
            log.error("%s cannot be loaded: %s", entry.name, error)
            return None

    async def _leave(self, number: int, model: ServedModel) -> None:
        await model.unused()
        await model.leave()
        del self._leaving[number]
        del model
        release_memory()
        self._report()

    async def joined(self) -> None:
        """Returns when this process has been connected to every engine that runs."""
        await self._joined.wait()

    def _report(self) -> None:
        if self._has_table and all(self._loads[n].engine.ready for n in self._running & self._loads.keys()):
            self._joined.set()
        served = self.served.values()
        ready = {model.name: number for number, model in self._loads.items() if model in served and model.engine.ready}
        self.on_change(self._serial, sorted({*self._loads, *self._leaving}), ready)

    def named(self, name: str) -> ServedModel:
        """The model with this name; raises Problem `model_not_found`, or `not_ready` if it may still be loaded."""
        model = self.served.get(name)
        if model is None:
            if not self._has_table or name in self._missing:
                raise Problem("not_ready", f"the model {name!r} is not loaded; try again soon.")
            raise Problem("model_not_found", f"there is no model {name!r}; there is {', '.join(self.served)}.")
        return model

    def for_task(self, name: str | None, task: Task) -> ServedModel:
        """The model with this name, or without a name the only model of the task; raises Problem."""
        if name is not None:
            model = self.named(name)
            if model.manifest.task != task:
                raise Problem("wrong_task", f"the model {name!r} is for {model.manifest.task}, not for {task}.")
            return model
        able = [model for model in self.served.values() if model.manifest.task == task]
        if not able:
            if not self._has_table or self._missing:
                raise Problem("not_ready", f"no model for {task} is loaded; try again soon.")
            raise Problem("model_not_found", f"no model of this service is for {task}.")
        if len(able) > 1:
            names = ", ".join(model.name for model in able)
            raise Problem("invalid_input", f"model is missing, and several are for {task}: {names}.")
        return able[0]

    def any_task(self, name: str | None) -> ServedModel:
        """The model with this name, or without a name the only model; raises Problem."""
        if name is not None:
            return self.named(name)
        if len(self.served) > 1:
            raise Problem("invalid_input", f"model is missing, and there are several: {', '.join(self.served)}.")
        if not self.served:
            raise Problem("not_ready", "no model is loaded yet; try again soon.")
        return next(iter(self.served.values()))

    def full(self, path: str) -> list[ServedModel]:
        """The models that a request to `path` may be for, if all their queues are full; otherwise none."""
        if not any(model.admission.full for model in self.served.values()):
            return []
        able = [
            model
            for model in self.served.values()
            if path == ENDPOINTS[model.manifest.task] or path.startswith(f"/v2/models/{model.name}/")
        ]
        return able if all(model.admission.full for model in able) else []

    @property
    def unready(self) -> str | None:
        """One sentence that says why not every model is ready; None if all are ready."""
        if self._missing:
            return f"{', '.join(self._missing)} cannot be loaded; the log says why."
        if waiting := [model.name for model in self.served.values() if not model.ready]:
            return f"the engine of {', '.join(waiting)} is starting, or has not answered recently."
        return None if self.served else "no model is loaded yet."

    async def stop(self) -> None:
        """Closes the connections to all engines."""
        await asyncio.gather(*(model.leave() for model in {*self._loads.values(), *self.served.values()}))
        for task in self._leaving.values():
            task.cancel()


def release_memory() -> None:
    """Returns the memory of an unloaded model to the operating system, so that reloads do not increase it."""
    gc.collect()
    with contextlib.suppress(AttributeError, OSError):  # only glibc has malloc_trim
        ctypes.CDLL(None).malloc_trim(0)
