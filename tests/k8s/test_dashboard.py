"""The dashboard and the rules in a real Prometheus that scrapes the real service under load."""

import contextlib
import json
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from tests.k8s.rendered import K8S, read
from tests.service.conftest import serving

needs_prometheus = pytest.mark.skipif(
    shutil.which("prometheus") is None,
    reason="needs Prometheus, which is not on PATH; install it to run this test (Debian: package prometheus)",
)
MODELS = K8S.parent / "models"
FOLDER = K8S / "components" / "monitoring"
SECONDS = 60


class Prometheus:
    """A client of the HTTP API of Prometheus."""

    def __init__(self, url: str) -> None:
        self._client = httpx.Client(base_url=url, timeout=30)

    def query(self, expression: str) -> list[dict[str, Any]]:
        response = self._client.get("/api/v1/query", params={"query": expression})
        if response.status_code == 503:  # it is still starting
            return []
        answer = response.json()
        assert answer["status"] == "success", f"{expression}: {answer.get('error')}"
        result: list[dict[str, Any]] = answer["data"]["result"]
        return result

    def wait_for(self, expression: str) -> list[dict[str, Any]]:
        """Repeats the query until it has a result."""
        deadline = time.monotonic() + SECONDS
        while time.monotonic() < deadline:
            with contextlib.suppress(httpx.TransportError):
                if result := self.query(expression):
                    return result
            time.sleep(0.1)
        raise AssertionError(f"{expression} has had no result for {SECONDS} s")


@contextlib.contextmanager
def scraping(directory: Path, target: str) -> Iterator[Prometheus]:
    """A Prometheus that scrapes `target` every half second and evaluates the rules every second."""
    rules = read("components/monitoring/prometheus-rule.yaml")["spec"]
    for group in rules["groups"]:
        group["interval"] = "1s"
    (directory / "rules.yaml").write_text(yaml.safe_dump(rules), encoding="utf-8")
    config = {
        "global": {"scrape_interval": "500ms", "scrape_timeout": "400ms"},
        "rule_files": ["rules.yaml"],
        "scrape_configs": [{"job_name": "ernie", "static_configs": [{"targets": [target]}]}],
    }
    (directory / "prometheus.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    command = ["prometheus", f"--config.file={directory / 'prometheus.yaml'}", f"--web.listen-address={address}"]
    with (directory / "log").open("w") as log:
        process = subprocess.Popen([*command, f"--storage.tsdb.path={directory / 'data'}"], stderr=log, stdout=log)
    try:
        yield Prometheus(f"http://{address}")
    finally:
        process.terminate()
        process.wait()


def dashboard() -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((FOLDER / "dashboard.json").read_text(encoding="utf-8"))
    return loaded


def expressions() -> list[str]:
    """Every query of the dashboard, with `All` for every variable and a short interval."""
    found = [target["expr"] for panel in dashboard()["panels"] for target in panel["targets"]]
    for name, value in {"$__rate_interval": "5s", "$namespace": ".*", "$job": ".*", "$model": ".*"}.items():
        found = [expression.replace(name, value) for expression in found]
    return found


@contextlib.contextmanager
def load(url: str) -> Iterator[list[int]]:
    """Sends requests to both endpoints, one after the other, until the context ends; collects the statuses."""
    statuses: list[int] = []
    finished = threading.Event()

    def send() -> None:
        with httpx.Client(base_url=url, timeout=60) as client:
            while not finished.is_set():
                statuses.append(client.post("/classify", json={"inputs": "房间很干净。"}).status_code)
                statuses.append(client.post("/fill-mask", json={"inputs": "他把钱存进了[MASK]行。"}).status_code)
                statuses.append(client.post("/classify", json={"inputs": ""}).status_code)

    sender = threading.Thread(target=send)
    sender.start()
    try:
        yield statuses
    finally:
        finished.set()
        sender.join()


@needs_prometheus
def test_every_query_of_the_dashboard_and_every_rule_has_a_result_under_load(tmp_path: Path) -> None:
    with serving(MODELS) as service:
        service.wait_ready()
        with scraping(tmp_path, service.url.removeprefix("http://")) as prometheus:
            with load(service.url) as statuses:
                prometheus.wait_for('rate(ernie_requests_total{code="200"}[5s]) > 0')
                for expression in expressions():
                    assert "$" not in expression
                    prometheus.wait_for(f"({expression}) >= 0")  # false for NaN
                for group in read("components/monitoring/prometheus-rule.yaml")["spec"]["groups"]:
                    for rule in group["rules"]:
                        if "record" in rule:
                            models = {each["metric"].get("model") for each in prometheus.wait_for(rule["record"])}
                            assert {"sentiment", "masked-lm"} <= models
                assert prometheus.query("ALERTS") == []
            assert set(statuses) == {200, 422}
            for status in (200, 422):
                prometheus.wait_for(f'sum(ernie_requests_total{{code="{status}"}}) == {statuses.count(status)}')


def test_panels_have_unique_titles_and_do_not_overlap() -> None:
    panels = dashboard()["panels"]
    assert len({panel["title"] for panel in panels}) == len(panels)
    assert len({panel["id"] for panel in panels}) == len(panels)
    squares = [
        (panel["gridPos"]["x"] + x, panel["gridPos"]["y"] + y)
        for panel in panels
        for x in range(panel["gridPos"]["w"])
        for y in range(panel["gridPos"]["h"])
    ]
    assert len(set(squares)) == len(squares)
    assert max(x for x, _ in squares) < 24
    variables = {variable["name"] for variable in dashboard()["templating"]["list"]}
    assert {"datasource", "namespace", "job", "model"} == variables
