"""Several API processes, and models that change while the service runs: real processes, real sockets."""

import asyncio
import json
import shutil
import signal
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
        assert len(running.workers()) == 3
        seen = set()
        for _ in range(30):
            # Each request on a connection of its own, so that the kernel spreads them over the processes.
            async with httpx.AsyncClient(base_url=running.url, timeout=60) as client:
                assert (await client.post("/classify", json={"inputs": ["好", "不好"]})).status_code == 200
                text = (await client.get("/metrics")).text
                seen.add(text)
        assert 'ernie_requests_total{code="200",endpoint="/classify",model="reviews"} 30.0' in text
        assert 'ernie_batch_requests_sum{model="reviews"} 60.0' in text
        assert 'ernie_ready{model="reviews"} 1.0' in text
        assert 'ernie_model_info{model="reviews",task="classify",version="1"} 1.0' in text


async def test_an_api_process_that_dies_is_replaced_and_what_it_counted_stays(tiny_models: Path) -> None:
    with serving(tiny_models) as running:
        running.wait_ready()
        async with httpx.AsyncClient(base_url=running.url, timeout=60) as client:
            assert (await client.post("/classify", json={"inputs": "好"})).status_code == 200
        (worker,) = running.workers()
        engines = {name: engine.pid for name, engine in running.engines().items()}
        worker.kill()
        await until(lambda: [each.pid for each in running.workers()] not in ([], [worker.pid]))
        await asyncio.to_thread(running.wait_ready)
        async with httpx.AsyncClient(base_url=running.url, timeout=60) as client:
            assert (await client.post("/classify", json={"inputs": "好"})).status_code == 200
            text = (await client.get("/metrics")).text
        assert 'ernie_requests_total{code="200",endpoint="/classify",model="reviews"} 2.0' in text
        assert 'ernie_ready{model="reviews"} 1.0' in text
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
    with serving(models, "--admin", "true") as running:
        running.wait_ready()
        async with httpx.AsyncClient(base_url=running.url, timeout=60) as client:
            assert (await client.post("/fill-mask", json={"inputs": "[MASK]"})).json()["code"] == "model_not_found"

            aside.rename(models / "characters")
            (version(models, "reviews", "2") / "bundle.json").write_text("{", encoding="utf-8")
            (version(models, "reviews", "3") / "graph" / "model.onnx").write_bytes(b"no graph")
            done = (await client.post("/admin/reload")).json()
            assert (done["loaded"], done["unloaded"], done["unchanged"]) == (["characters"], [], [])
            assert set(done["refused"]) == {"reviews/2", "reviews"}
            assert "bundle.json" in done["refused"]["reviews/2"]
            assert "died with status" in done["refused"]["reviews"]
            assert (await client.post("/fill-mask", json={"inputs": "[MASK]"})).status_code == 200
            answer = (await client.post("/classify", json={"inputs": "好"})).json()
            assert answer["version"] == "1", "the old one keeps serving"

            shutil.rmtree(models / "reviews")
            done = (await client.post("/admin/reload")).json()
            assert (done["unloaded"], done["unchanged"], done["refused"]) == (["reviews"], ["characters"], {})
            assert (await client.post("/classify", json={"inputs": "好"})).json()["code"] == "model_not_found"
            assert set(running.engines()) == {"characters"}
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
