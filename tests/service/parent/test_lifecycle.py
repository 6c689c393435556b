"""How a service starts and ends, and what it says of itself meanwhile: real processes and signals."""

import asyncio
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import psutil
import pytest

from service.messages.control import Loads, ModelEntry, ModelTable, Readiness, Reload, Reloaded, ToWorker
from service.messages.frames import READ_BYTES, FrameReader, frame
from service.parent.child import child_command
from service.parent.control import Control
from service.parent.silence import Silence
from tests.service.conftest import ROOT, Service, serving
from tests.service.parent.test_fleet import until, version


def spawned(models: Path, *flags: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "service.cli", "--models", str(models), "--port", "0", *flags]
    return subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)


def handles(pid: int, number: int) -> bool:
    """Whether a process has a handler for a signal, or ignores it, by the kernel's account."""
    masks = 0
    for line in Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines():
        if line.startswith(("SigCgt:", "SigIgn:")):
            masks |= int(line.split()[1], 16)
    return bool(masks >> (number - 1) & 1)


@pytest.mark.skipif(
    not Path("/proc/self/status").exists(), reason="/proc shows when a signal is handled; run the test on Linux"
)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_before_anything_is_imported_ends_with_status_0(tiny_models: Path, number: signal.Signals) -> None:
    process = spawned(tiny_models)
    try:
        while not handles(process.pid, signal.SIGTERM):
            assert process.poll() is None
        process.send_signal(signal.SIGHUP)  # there is nothing to reload yet
        process.send_signal(number)
        assert (process.wait(30), process.stderr.read() if process.stderr else "") == (0, "")
    finally:
        process.kill()


def test_sigterm_while_the_engines_start_ends_with_status_0_and_leaves_no_process(tiny_models: Path) -> None:
    process = spawned(tiny_models)
    try:
        children: list[psutil.Process] = []
        while len(children) < 3:  # one API process and two engines
            assert process.poll() is None
            children = psutil.Process(process.pid).children()
        process.terminate()
        _, errors = process.communicate(timeout=60)
        assert process.returncode == 0
        assert "Traceback" not in errors
        assert psutil.wait_procs(children, 20)[1] == []
    finally:
        process.kill()


def test_a_stopped_api_process_is_killed_and_replaced(tiny_models: Path) -> None:
    with serving(tiny_models, "--hang-seconds", "2") as running:
        running.wait_ready()
        (stopped,) = running.workers()
        stopped.suspend()
        assert psutil.wait_procs([stopped], 60)[1] == []
        running.wait_ready()
        assert httpx.post(f"{running.url}/classify", json={"inputs": "好"}).status_code == 200
        assert any("an API process has been silent for" in line for line in running.log)


def test_a_silence_does_not_contain_the_time_in_which_the_listener_itself_was_stopped() -> None:
    silence = Silence(every=1.0, now=0.0)
    assert silence.seconds(1.0) == 1.0
    assert silence.seconds(500.0) == 3.0
    silence.heard()
    assert silence.seconds(501.0) == 1.0


async def test_no_api_process_says_ready_before_every_one_serves_every_model(tmp_path: Path) -> None:
    async def nothing() -> None:
        raise AssertionError("nobody reloads")

    control = Control({}, [], nothing, processes=2)  # type: ignore[arg-type]
    path = tmp_path / "control"

    class Worker:
        def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            self.reader, self.writer, self.frames = reader, writer, FrameReader(ToWorker)
            self.heard: Readiness | None = None
            self.all: list[Readiness] = []

        async def hears(self, wanted: Readiness) -> None:
            while self.heard != wanted:
                data = await asyncio.wait_for(self.reader.read(READ_BYTES), 10)
                assert data
                for message in self.frames.feed(data):
                    if isinstance(message, Readiness):
                        self.heard = message
                        self.all.append(message)

        def serves(self, serial: int, ready: dict[str, int], *loaded: int) -> None:
            """Reports loads; `loaded` are loads that are not connected to their engine yet."""
            self.writer.write(frame(Loads(serial, [*ready.values(), *loaded], ready)))

    async with control.listening(path):
        control.publish([ModelEntry(1, "reviews", "models/reviews/1", "engine", True)])
        first = Worker(*await asyncio.open_unix_connection(str(path)))
        first.serves(1, {"reviews": 1})
        await first.hears(Readiness(1, []))
        second = Worker(*await asyncio.open_unix_connection(str(path)))
        await second.hears(Readiness(1, []))
        second.serves(1, {}, 1)
        served = asyncio.create_task(control.served())
        second.serves(1, {"reviews": 1})
        await first.hears(Readiness())
        await second.hears(Readiness())
        await asyncio.wait_for(served, 10)
        assert [told.starting for told in first.all] == [2, 1, 0]
        # While a new version replaces the old one, the old one still serves the name.
        control.publish([ModelEntry(2, "reviews", "models/reviews/2", "engine", True)])
        served = asyncio.create_task(control.served())
        first.serves(2, {"reviews": 2})
        second.serves(2, {"reviews": 1}, 2)
        second.serves(2, {}, 1, 2)
        await first.hears(Readiness(0, ["reviews"]))
        assert not served.done()
        second.serves(2, {"reviews": 2})
        await asyncio.wait_for(served, 10)
        await first.hears(Readiness())
        # An API process that dies later, and the one that replaces it, are not missed: the others serve.
        told = len(first.all)
        second.writer.close()
        third = Worker(*await asyncio.open_unix_connection(str(path)))
        await third.hears(Readiness())
        third.serves(2, {}, 2)
        third.serves(2, {"reviews": 2})
        await asyncio.wait_for(control.served(), 10)
        control.publish([ModelEntry(2, "reviews", "models/reviews/2", None, False)])
        third.serves(3, {}, 2)
        await first.hears(Readiness(0, ["reviews"]))
        assert len(first.all) == told + 1
        third.writer.close()
        first.writer.close()


async def test_a_reload_does_not_wait_for_a_model_that_an_api_process_cannot_load(tmp_path: Path) -> None:
    async def reload() -> Reloaded:
        control.publish([ModelEntry(1, "reviews", "models/reviews/1", "engine", True)])
        return Reloaded(loaded=["reviews"])

    control = Control({}, [], reload)
    async with control.listening(tmp_path / "control"):
        reader, writer = await asyncio.open_unix_connection(str(tmp_path / "control"))
        writer.write(frame(Reload(7)))
        frames = FrameReader(ToWorker)
        done: Reloaded | None = None
        while not done:
            for message in frames.feed(await asyncio.wait_for(reader.read(READ_BYTES), 10)):
                if isinstance(message, ModelTable) and message.models:
                    writer.write(frame(Loads(message.serial, [], {})))
                elif isinstance(message, Reloaded):
                    done = message
        assert (done.id, done.loaded) == (7, [])
        assert done.refused == {"reviews": "an API process cannot load it; the log names the reason."}
        writer.close()


def test_an_api_process_whose_parent_is_gone_ends_in_one_sentence(tmp_path: Path) -> None:
    command = [*child_command("service.api.worker"), "--control", str(tmp_path / "absent"), "--listener", "0"]
    ended = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60)
    assert (ended.returncode, ended.stderr) == (1, "the parent process is gone.\n")


def answers_of_each(running: Service, path: str) -> list[httpx.Response]:
    """The answer of every API process: while the others are suspended, it is the only one that accepts connections."""
    answers = []
    workers = running.workers()
    for worker in workers:
        others = [other for other in workers if other != worker]
        for other in others:
            other.suspend()
        try:
            answers.append(httpx.get(f"{running.url}{path}", timeout=60))
        finally:
            for other in others:
                other.resume()
    return answers


async def test_after_a_reload_every_api_process_serves_what_the_answer_says(tiny_models: Path, tmp_path: Path) -> None:
    models = Path(shutil.copytree(tiny_models, tmp_path / "models"))
    with serving(models, "--api-workers", "2", "--admin") as running:
        running.wait_ready()
        for number in ("2",):
            version(models, "reviews", number)
            done = httpx.post(f"{running.url}/admin/reload", timeout=60).json()
            assert done["loaded"] == ["reviews"]
            answers = answers_of_each(running, "/models/reviews")
            assert [(answer.json()["version"], answer.json()["ready"]) for answer in answers] == [(number, True)] * 2


async def test_while_it_drains_every_readiness_path_says_so(tiny_models: Path) -> None:
    paths = ["/health/ready", "/v2/health/ready", "/v2/models/reviews/ready", "/v2/models/reviews/versions/1/ready"]
    with serving(tiny_models, "--drain-delay-seconds", "5") as running:
        running.wait_ready()
        with httpx.Client(base_url=running.url, timeout=60) as client:
            assert [client.get(path).status_code for path in paths] == [200] * 4
            running.process.terminate()
            await until(lambda: client.get(paths[0]).status_code != 200)
            assert [client.get(path).status_code for path in paths] == [503] * 4
            assert client.get("/health/live").status_code == 200
            running.process.terminate()  # at once


def test_a_folder_whose_name_is_not_utf_8_is_named_and_the_others_are_served(tiny_models: Path, tmp_path: Path) -> None:
    models = Path(shutil.copytree(tiny_models, tmp_path / "models"))
    try:
        shutil.copytree(models / "reviews", os.fsdecode(os.fsencode(models) + b"/\xb2\xee"))
    except OSError:
        pytest.skip("this file system takes only names in UTF-8; set TMPDIR to one that takes all, such as ext4")
    with serving(models, "--admin", "--log-format", "json") as running:
        running.wait_ready()
        answer = httpx.post(f"{running.url}/admin/reload", timeout=60)
        assert answer.status_code == 200
        (name,) = answer.json()["refused"]
        assert name == r"\xb2\xee/1"
        assert httpx.post(f"{running.url}/classify", json={"inputs": "好"}).status_code == 200
    for line in running.log:
        with contextlib.suppress(json.JSONDecodeError):
            json.loads(line)
    assert any("this name is not UTF-8; rename the folder" in line for line in running.log)
