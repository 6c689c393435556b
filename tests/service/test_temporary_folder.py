"""The temporary folder of a service: a long path, and a folder that somebody removes while the service runs."""

import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from service import cli
from service.messages import local_socket
from tests.service.conftest import ROOT, Service, serving

SECONDS = 60
BODY = {"inputs": "房间很干净。"}


def until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SECONDS
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def answered(service: Service) -> float:
    """The number of answers of status 200, by the metrics."""
    lines = httpx.get(f"{service.url}/metrics").text.splitlines()
    name = 'ernie_requests_total{code="200",endpoint="/classify",model="sentiment"} '
    return sum(float(line.removeprefix(name)) for line in lines if line.startswith(name))


def serves(service: Service) -> bool:
    try:
        return httpx.post(f"{service.url}/classify", json=BODY, timeout=SECONDS).status_code == 200
    except httpx.TransportError:
        return False


def test_a_service_in_a_deep_folder_survives_the_removal_of_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before, a path of more than 107 bytes was no address of a socket, and no new process found a removed socket."""
    temporary = tmp_path / ("a" * 100) / ("b" * 100)
    temporary.mkdir(parents=True)
    monkeypatch.setenv("TMPDIR", str(temporary))
    with serving(ROOT / "models" / "sentiment" / "3") as service:
        service.wait_ready()
        for _ in range(3):
            assert serves(service)
        shutil.rmtree(temporary)
        assert serves(service)
        assert answered(service) == 4.0
        # The processes create the folder again with their counts.
        until(lambda: len(list(temporary.glob("ernie-*/counter_*.db"))) == 2)
        (worker,) = service.workers()
        worker.kill()
        until(lambda: [each.pid for each in service.workers()] not in ([], [worker.pid]))
        until(lambda: serves(service))
        assert answered(service) >= 5.0
        assert len(list(temporary.glob("ernie-*/counter_*.db"))) == 3  # parent, API process, ended processes
    assert service.process.returncode == 0
    assert not list(temporary.glob("ernie-*"))


def test_without_any_temporary_folder_the_start_is_refused_in_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path / "absent"))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "absent"))
    assert cli.main(["--models", str(ROOT / "models"), "--port", "0"]) == 1
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert last == (
        f"ernie-serve: no temporary folder can be created in {tmp_path / 'absent'}: No such file or directory; "
        "set TMPDIR to a folder that can be written."
    )


def test_an_address_fits_into_a_command_line_and_is_never_used_twice() -> None:
    first, second = local_socket.new_address(), local_socket.new_address()
    assert first != second
    assert "\0" not in first
    assert local_socket.native_address(first) == f"\0{first[1:]}"
    assert local_socket.native_address(Path("/run/engine")) == "/run/engine"
