"""Every example in the pages about the service runs against a real service and prints what the page shows."""

from __future__ import annotations

import http.server
import json
import os
import re
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import httpx
import pytest

from service.problem import STATUS
from tests.docs.page import DOCS, EXECUTED, Block, Reader, blocks, differences
from tests.service.conftest import ROOT, serving

PAGES = ("index.md", "api.md", "operations.md", "own-model.md")
# Blocks that are not run: installation, benchmarks, queries, and the configuration of nginx, which has a test below.
SHOWN = {"index.md": ["console"], "operations.md": ["console", "promql", "nginx"]}
EXAMPLES = [block for page in PAGES for block in blocks(DOCS / page) if block.language in EXECUTED]
node = pytest.mark.skipif(shutil.which("node") is None, reason="needs Node.js 18 or later as `node`")


def examples() -> list[object]:
    """A reader's page and a block of it."""
    marks = {"javascript": [node]}
    return [pytest.param(each.page, each, id=str(each), marks=marks.get(each.language, [])) for each in EXAMPLES]


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with serving(ROOT / "models") as service:
        service.wait_ready()
        yield service.url


@pytest.fixture(scope="module")
def reader(request: pytest.FixtureRequest, url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reader]:
    """One per page: the files that a block writes stay for the next block."""
    made = Reader(tmp_path_factory.mktemp(request.param), url)
    yield made
    made.close()


@pytest.mark.parametrize(("reader", "block"), examples(), indirect=["reader"], scope="module")
def test_an_example_runs_and_prints_what_the_page_shows(block: Block, reader: Reader) -> None:
    printed = reader.run(block)
    assert differences(block, printed) == ""


@pytest.mark.parametrize("page", PAGES)
def test_nothing_else_in_a_page_looks_like_an_example(page: str) -> None:
    parsed = blocks(DOCS / page)
    assert [block.language for block in parsed if block.language not in EXECUTED] == SHOWN.get(page, [])
    fences = re.findall(r"^\s*(?:```|~~~)", (DOCS / page).read_text(encoding="utf-8"), re.MULTILINE)
    assert len(fences) == 2 * (len(parsed) + sum(block.printed is not None for block in parsed))


def test_the_table_of_errors_names_every_code_with_its_status() -> None:
    section = (DOCS / "api.md").read_text(encoding="utf-8").partition("\n## Errors\n")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| (\d{3}) \| ([^|]+) \|", section, re.MULTILINE)
    assert {code: int(status) for status, codes in rows for code in re.findall(r"`(\w+)`", codes)} == STATUS


ANSWERS = (
    (429, {"code": "overloaded"}),
    (503, {"code": "draining"}),
    (200, {"results": [{"labels": [{"label": "ok"}]}]}),
)


class Refusing(http.server.BaseHTTPRequestHandler):
    """A fake service that refuses twice and then answers, which a real service does not do on demand."""

    protocol_version = "HTTP/1.1"
    asked: ClassVar[list[float]] = []

    def do_POST(self) -> None:
        status, document = ANSWERS[len(self.asked)]
        self.asked.append(time.monotonic())
        self.rfile.read(int(self.headers["Content-Length"]))
        body = json.dumps(document).encode()
        self.send_response(status)
        if status != 200:
            self.send_header("Retry-After", "1")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.mark.parametrize("language", ["python", pytest.param("javascript", marks=node)])
@pytest.mark.parametrize("reader", ["api.md"], indirect=True, scope="module")
def test_a_client_that_is_refused_waits_and_asks_again(language: str, reader: Reader) -> None:
    (block,) = (each for each in EXAMPLES if each.language == language and re.search(r"\bask\(.*tries", each.text))
    Refusing.asked.clear()
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Refusing) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        printed = reader.run(block, f"http://127.0.0.1:{server.server_port}")
        server.shutdown()
    assert printed == "ok\n"
    first, second, third = Refusing.asked
    assert second - first >= 1
    assert third - second >= 1


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port: int = taken.getsockname()[1]
        return port


@pytest.mark.skipif(shutil.which("nginx") is None, reason="needs nginx (Debian package nginx-light)")
@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl for a certificate")
def test_the_configuration_of_nginx_hides_what_is_not_for_all_and_limits_rates(url: str, tmp_path: Path) -> None:
    (block,) = (each for each in blocks(DOCS / "operations.md") if each.language == "nginx")
    request = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj /CN=localhost -days 1"
    files = ["-keyout", str(tmp_path / "ernie.key"), "-out", str(tmp_path / "ernie.crt")]
    subprocess.run(["openssl", *request.split(), *files], check=True, capture_output=True)
    port = free_port()
    server = (
        block.text.replace("/etc/ssl/ernie.", f"{tmp_path}/ernie.")
        .replace("listen 443", f"listen 127.0.0.1:{port}")
        .replace("127.0.0.1:8000", url.removeprefix("http://"))
        .replace("rate=100r/s", "rate=1r/s")  # so that it does not matter how fast the requests below are
    )
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    folders = "".join(f"{kind}_temp_path {tmp_path}/{kind};\n" for kind in kinds)
    user = "user root;\n" if os.geteuid() == 0 else ""
    configuration = tmp_path / "nginx.conf"
    configuration.write_text(
        f"{user}daemon off; worker_processes 1; pid {tmp_path}/pid; error_log {tmp_path}/error.log;\n"
        f"events {{}}\nhttp {{ access_log off;\n{folders}{server} }}\n"
    )
    process = subprocess.Popen(["nginx", "-e", str(tmp_path / "error.log"), "-c", str(configuration)])
    try:
        with httpx.Client(base_url=f"https://127.0.0.1:{port}", verify=False, timeout=60) as client:
            await_answer(client, process)
            asked = client.post("/classify", json={"inputs": "很好"}, headers={"X-Request-ID": "order-4711"})
            assert (asked.status_code, asked.headers["X-Request-ID"]) == (200, "order-4711")
            assert client.get("/metrics").status_code == client.post("/admin/reload").status_code == 404
            large = client.post("/classify", json={"inputs": "好" * 700_000})
            assert large.status_code == 413
            statuses = {client.get("/health/live").status_code for _ in range(300)}
            assert statuses == {200, 429}
    finally:
        process.terminate()
        process.wait(30)


def await_answer(client: httpx.Client, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and process.poll() is None:
        try:
            client.get("/health/live")
        except httpx.TransportError:
            time.sleep(0.05)
        else:
            return
    raise AssertionError("nginx does not answer")
