"""Several API processes, and models that change while the service runs: real processes, real sockets."""

import asyncio
import contextlib
import json
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import psutil
import pytest

from tests.service.conftest import Service, serving


async def until(true: Callable[[], bool]) -> None:
    async def wait() -> None:
        while not true():
            await asyncio.sleep(0.02)

    await asyncio.wait_for(wait(), 60)


def version(models: Path, name: str, number: str, change: Callable[[dict], None] = lambda manifest: None) -> Path:
    """Another version of a model: the files of version 1, and a manifest that may be changed."""
    made = models / name / number
    part = models / f".{name}-{number}"
    shutil.copytree(models / name / "1", part)
    manifest = json.loads((part / "bundle.json").read_text(encoding="utf-8"))
    manifest["version"] = number
    change(manifest)
    (part / "bundle.json").write_text(json.dumps(manifest), encoding="utf-8")
    part.rename(made)
    return made


@pytest.fixture
def models(tiny_models: Path, tmp_path: Path) -> Path:
    """A repository of its own for a test that changes it."""
    return Path(shutil.copytree(tiny_models, tmp_path / "models"))


async def test_metrics_of_several_api_processes_are_right_in_sum(tiny_models: Path) -> None:
    with serving(tiny_models, "--api-workers", "3") as running:
        running.wait_ready()
        workers = running.workers()
        assert len(workers) == 3
        for worker in workers:
            # While the others are suspended, this one answers.
            others = [other for other in workers if other != worker]
            for other in others:
                other.suspend()
            async with httpx.AsyncClient(base_url=running.url, timeout=60) as client:
                for _ in range(10):
                    assert (await client.post("/classify", json={"inputs": ["好", "不好"]})).status_code == 200
            for other in others:
                other.resume()
        async with httpx.AsyncClient(base_url=running.url, timeout=60) as client:
            text, late = "", time.monotonic() + 30
            while 'ernie_batch_requests_sum{model="reviews"} 60.0' not in text:  # engines tell a little later
                assert time.monotonic() < late, text
                text = (await client.get("/metrics")).text
        assert 'ernie_requests_total{code="200",endpoint="/classify",model="reviews"} 30.0' in text
        assert 'ernie_ready{model="reviews"} 1.0' in text
        assert 'ernie_model_info{model="reviews",task="classify",version="1"} 1.0' in text


async def test_an_api_process_that_dies_is_replaced_and_what_it_counted_stays(tiny_models: Path) -> None:
    with serving(tiny_models) as running:
        running.wait_ready()
        async with httpx.AsyncClient(base_url=running.url, timeout=60) as client:
            assert (await client.post("/classify", json={"inputs": "好"})).status_code == 200
            (worker,) = running.workers()
            engine = running.engines()["reviews"]
            engine.suspend()
            lost = asyncio.create_task(client.post("/classify", json={"inputs": "好"}))
            while 'ernie_inflight_requests{model="reviews"} 1.0' not in (await client.get("/metrics")).text:
                await asyncio.sleep(0.01)
            worker.kill()
            with pytest.raises(httpx.TransportError):
                await lost
        engines = {name: engine.pid for name, engine in running.engines().items()}
        await until(lambda: [each.pid for each in running.workers()] not in ([], [worker.pid]))
        engine.resume()
        await asyncio.to_thread(running.wait_ready)
        async with httpx.AsyncClient(base_url=running.url, timeout=60) as client:
            assert (await client.post("/classify", json={"inputs": "好"})).status_code == 200
            text = (await client.get("/metrics")).text
        assert 'ernie_requests_total{code="200",endpoint="/classify",model="reviews"} 2.0' in text
        assert 'ernie_ready{model="reviews"} 1.0' in text
        assert 'ernie_inflight_requests{model="reviews"} 0.0' in text, "what it had in work is in work no more"
        assert {name: engine.pid for name, engine in running.engines().items()} == engines


async def test_no_process_outlives_a_killed_parent(tiny_models: Path) -> None:
    with serving(tiny_models) as running:
        running.wait_ready()
        children = psutil.Process(running.process.pid).children(recursive=True)
        assert len(children) == 3
        running.process.kill()
        _, alive = await asyncio.to_thread(psutil.wait_procs, children, 20)
        assert alive == []


async def test_a_new_version_takes_over_without_losing_a_request(models: Path) -> None:
    with serving(models, "--api-workers", "2") as running:
        running.wait_ready()
        before = running.engines()["reviews"].pid
        answers: list[httpx.Response] = []
        over = asyncio.Event()

        async def load() -> None:
            async with httpx.AsyncClient(base_url=running.url, timeout=60) as client:
                while not over.is_set():
                    answers.append(await client.post("/classify", json={"inputs": ["好" * 30, "不好"]}))

        clients = [asyncio.create_task(load()) for _ in range(8)]
        version(models, "reviews", "2")
        running.process.send_signal(signal.SIGHUP)
        await until(lambda: [a.json()["version"] for a in answers[-8:]] == ["2"] * 8)
        await until(lambda: not psutil.pid_exists(before))
        over.set()
        await asyncio.gather(*clients)
        assert {answer.status_code for answer in answers} == {200}
        assert {answer.json()["version"] for answer in answers} == {"1", "2"}
        text = httpx.get(f"{running.url}/metrics").text
        assert 'ernie_model_info{model="reviews",task="classify",version="1"} 0.0' in text
        assert 'ernie_model_info{model="reviews",task="classify",version="2"} 1.0' in text


async def test_reload_loads_unloads_and_refuses_by_name(models: Path) -> None:
    aside = models.parent / "aside"
    (models / "characters").rename(aside)
    with serving(models, "--admin") as running:
        running.wait_ready()
        async with httpx.AsyncClient(base_url=running.url, timeout=60) as client:
            assert (await client.post("/fill-mask", json={"inputs": "[MASK]"})).json()["code"] == "model_not_found"

            aside.rename(models / "characters")
            (version(models, "reviews", "2") / "bundle.json").write_text("{", encoding="utf-8")
            (version(models, "reviews", "3") / "graph" / "model.onnx").write_bytes(b"\x08\x01")  # ONNX without a graph
            done = (await client.post("/admin/reload")).json()
            assert (done["loaded"], done["unloaded"], done["unchanged"]) == (["characters"], [], [])
            assert set(done["refused"]) == {"reviews/2", "reviews"}
            assert "bundle.json" in done["refused"]["reviews/2"]
            assert "model.onnx differs from its hash" in done["refused"]["reviews"]
            assert (await client.post("/fill-mask", json={"inputs": "[MASK]"})).status_code == 200
            answer = (await client.post("/classify", json={"inputs": "好"})).json()
            assert answer["version"] == "1", "the old one keeps serving"

            shutil.rmtree(models / "reviews")
            done = (await client.post("/admin/reload")).json()
            assert (done["unloaded"], done["unchanged"], done["refused"]) == (["reviews"], ["characters"], {})
            assert (await client.post("/classify", json={"inputs": "好"})).json()["code"] == "model_not_found"
            assert set(running.engines()) == {"characters"}
            assert 'ernie_ready{model="reviews"} 0.0' in (await client.get("/metrics")).text
            assert (await client.get("/health/ready")).status_code == 200


async def test_reload_is_not_there_unless_asked_for(service: Service) -> None:
    answer = httpx.post(f"{service.url}/admin/reload")
    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")


async def test_the_service_ends_when_an_engine_cannot_be_kept_running(tiny_models: Path) -> None:
    with serving(tiny_models, "--max-restarts", "1") as running:
        running.wait_ready()
        first = running.engines()["reviews"]
        first.kill()
        await until(lambda: running.engines().get("reviews", first).pid != first.pid)
        await asyncio.to_thread(running.wait_ready)
        running.engines()["reviews"].kill()
        assert await asyncio.to_thread(running.process.wait, 30) == 1
    assert running.log[-1] == "ernie-serve: the engine of reviews has failed 2 times in a row.\n"


async def test_the_service_ends_when_an_api_process_cannot_be_kept_running(tiny_models: Path) -> None:
    with serving(tiny_models, "--max-restarts", "1") as running:
        running.wait_ready()
        (first,) = running.workers()
        first.kill()
        await until(lambda: [each.pid for each in running.workers()] not in ([], [first.pid]))
        running.workers()[0].kill()
        assert await asyncio.to_thread(running.process.wait, 30) == 1
    assert running.log[-1] == "ernie-serve: an API process has failed 2 times in a row.\n"


async def test_an_engine_that_hangs_while_an_api_process_starts_holds_up_nothing_else(tiny_models: Path) -> None:
    with serving(tiny_models, "--hang-seconds", "600", "--drain-delay-seconds", "1") as running:
        running.wait_ready()
        hung = running.engines()["characters"]
        hung.suspend()
        (worker,) = running.workers()
        worker.kill()
        codes: list[str] = []
        while codes[-1:] != ["ok"]:
            with contextlib.suppress(httpx.TransportError):
                async with httpx.AsyncClient(base_url=running.url, timeout=60) as client:
                    codes.append((await client.post("/classify", json={"inputs": "好"})).json().get("code", "ok"))
        assert set(codes) <= {"ok", "not_ready"}, "it is late, and not unknown"
        async with httpx.AsyncClient(base_url=running.url, timeout=60) as client:
            late = await client.post("/fill-mask", json={"inputs": "[MASK]"})
            assert (late.status_code, late.json()["code"]) == (503, "not_ready")
            running.process.send_signal(signal.SIGTERM)
            while (await client.get("/health/ready")).json()["code"] != "draining":
                pass
        hung.resume()
        assert await asyncio.to_thread(running.process.wait, 30) == 0


async def test_sighup_to_every_process_ends_none(service: Service) -> None:
    processes = [*service.workers(), *service.engines().values()]
    for process in processes:
        process.send_signal(signal.SIGHUP)
    async with httpx.AsyncClient(base_url=service.url, timeout=60) as client:
        assert (await client.post("/classify", json={"inputs": "好"})).status_code == 200
        assert (await client.post("/fill-mask", json={"inputs": "[MASK]"})).status_code == 200
    assert [*service.workers(), *service.engines().values()] == processes


async def test_a_broken_export_is_refused_and_the_rest_is_reloaded(models: Path) -> None:
    export = models / "export"
    with serving(models, "--admin") as running:
        running.wait_ready()
        export.mkdir()
        for name in ("model.pdmodel", "model.pdiparams", "vocab.txt"):
            (export / name).write_bytes(b"x")
        (export / "config.json").write_text("{", encoding="utf-8")
        version(models, "reviews", "2")
        done = httpx.post(f"{running.url}/admin/reload", timeout=60).json()
        assert done["loaded"] == ["reviews"]
        assert "config.json" in done["refused"]["export"]


async def test_nothing_waits_in_an_engine_that_has_ended(slow_models: Path) -> None:
    with serving(slow_models, "--max-batch-items", "1") as running:
        running.wait_ready()
        async with httpx.AsyncClient(base_url=running.url, timeout=60) as client:
            sent = asyncio.create_task(client.post("/classify", json={"inputs": ["好" * 500] * 40}))

            async def waiting() -> dict[str, float]:
                lines = (await client.get("/metrics")).text.splitlines()
                return {line.split("{")[0]: float(line.split()[1]) for line in lines if line.startswith("ernie_queue_")}

            while not (found := await waiting()).get("ernie_queue_requests"):
                await asyncio.sleep(0.01)
            assert found["ernie_queue_tokens"] == 502 * found["ernie_queue_requests"]
            running.engines()["slow"].kill()
            assert (await sent).json()["code"] == "engine_failed"
            await asyncio.to_thread(running.wait_ready)
            found = await waiting()
            assert (found["ernie_queue_requests"], found["ernie_queue_tokens"]) == (0, 0)
