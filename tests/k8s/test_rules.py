"""Recorded ratios and alerts: checked by promtool, and against the metrics of the service."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from service.metrics import Metrics
from tests.k8s.rendered import K8S, read

RUNBOOK = K8S.parent / "docs" / "runbook.md"
needs_promtool = pytest.mark.skipif(
    shutil.which("promtool") is None,
    reason="needs promtool, which is not on PATH; install it to run this test (Debian: package prometheus)",
)


@pytest.fixture
def rules(tmp_path: Path) -> Path:
    """The rules as a file for Prometheus without the operator."""
    path = tmp_path / "rules.yaml"
    path.write_text(yaml.safe_dump(read("components/monitoring/prometheus-rule.yaml")["spec"]), encoding="utf-8")
    return path


def promtool(*arguments: str) -> None:
    done = subprocess.run(["promtool", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@needs_promtool
def test_alerts_fire_only_when_they_should(rules: Path) -> None:
    promtool("check", "rules", str(rules))
    shutil.copy(Path(__file__).with_name("alerts.yaml"), rules.parent)
    promtool("test", "rules", str(rules.with_name("alerts.yaml")))


def alerts() -> list[dict[str, object]]:
    groups = read("components/monitoring/prometheus-rule.yaml")["spec"]["groups"]
    return [rule for group in groups for rule in group["rules"] if "alert" in rule]


def test_the_runbook_has_a_section_for_every_alert() -> None:
    headings = re.findall(r"^## (.+)$", RUNBOOK.read_text(encoding="utf-8"), re.MULTILINE)
    assert [heading for heading in headings if heading.startswith("Ernie")] == list(
        dict.fromkeys(str(alert["alert"]) for alert in alerts())
    )
    for alert in alerts():
        assert alert["annotations"]["runbook_url"] == f"docs/runbook.md#{str(alert['alert']).lower()}"  # type: ignore[index]


def test_every_queried_metric_is_one_of_the_service() -> None:
    samples = {
        name
        for family in Metrics([]).registry.collect()
        for name in (family.name, *(f"{family.name}_{part}" for part in ("total", "bucket", "sum", "count")))
    }
    groups = read("components/monitoring/prometheus-rule.yaml")["spec"]["groups"]
    asked = [rule["expr"] for group in groups for rule in group["rules"]]
    asked += [
        trigger["metadata"]["query"] for trigger in read("components/keda/scaled-object.yaml")["spec"]["triggers"]
    ]
    asked += [
        m["pods"]["metric"]["name"] for m in read("components/hpa/horizontal-pod-autoscaler.yaml")["spec"]["metrics"]
    ]
    names = {name for each in asked for name in re.findall(r"(?<![\w:])ernie_\w+", each)}
    assert len(names) > 5
    assert names <= samples
    recorded = {rule["record"] for group in groups for rule in group["rules"] if "record" in rule}
    assert {name for each in asked for name in re.findall(r"job_model:ernie_\w+:\w+", each)} <= recorded
