"""The OpenAPI document is true: schemathesis makes requests from it, right and wrong ones, and looks at the answers."""

import os
import subprocess
import sys
from pathlib import Path

import httpx

from tests.service.conftest import Service, serving

HERE = Path(__file__).parent
# What the document cannot say (a text too long, a model that is not there) is refused too.
NOT_CHECKED = "positive_data_acceptance"


def test_no_answer_is_a_server_error_or_other_than_the_document_says(tiny_models: Path) -> None:
    with serving(tiny_models, "--admin") as running:
        running.wait_ready()
        document = httpx.get(f"{running.url}/openapi.json").json()
        operations = sum(len(methods) for methods in document["paths"].values())
        command = [
            *(Path(sys.executable).parent / "st", "--config-file", HERE / "schemathesis.toml", "--no-color"),
            *("run", f"{running.url}/openapi.json", "--phases", "examples,coverage,fuzzing", "--mode", "all"),
            *("--max-examples", "30", "--seed", "1", "--continue-on-failure", "--exclude-checks", NOT_CHECKED),
        ]
        hooks = {**os.environ, "SCHEMATHESIS_HOOKS": "tests.service.api.openapi.hooks"}
        ended = subprocess.run([str(word) for word in command], env=hooks, capture_output=True, text=True)
    shown = "\n".join(line[:300] for line in ended.stdout.splitlines()[-200:])
    assert ended.returncode == 0, shown + ended.stderr[-2000:]
    assert f"Tested: {operations}" in ended.stdout, shown


def test_every_answer_of_success_is_described(service: Service) -> None:
    for path, methods in httpx.get(f"{service.url}/openapi.json").json()["paths"].items():
        for method, operation in methods.items():
            for content in operation["responses"]["200"]["content"].values():
                assert content.get("schema"), f"{method} {path}"
