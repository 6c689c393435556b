"""The files that compose.yaml mounts exist, and Prometheus accepts its configuration."""

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.docker.dockerfiles import DOCKER, ROOT

needs_promtool = pytest.mark.skipif(
    shutil.which("promtool") is None,
    reason="needs promtool, which is not on PATH; install it to run this test (Debian: package prometheus)",
)


def services() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((DOCKER / "compose.yaml").read_text(encoding="utf-8"))["services"]
    return loaded


def mounts(service: str) -> dict[str, Path]:
    """Files and folders of this repository by their path in the container, with the defaults of the variables."""
    given = [re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", volume).split(":") for volume in services()[service]["volumes"]]
    return {target: (DOCKER / source).resolve() for source, target, *_ in given if source.startswith(".")}


@pytest.fixture
def prometheus(tmp_path: Path) -> Path:
    """A folder with the configuration and the rules that the command of the container writes."""
    places = {**{target: str(source) for target, source in mounts("prometheus").items()}, "/prometheus": str(tmp_path)}

    def here(text: str) -> str:
        return re.sub("|".join(sorted(places, key=len, reverse=True)), lambda found: places[found[0]], text)

    service = services()["prometheus"]
    command = service["command"][0].replace("exec prometheus", "exec echo prometheus")
    done = subprocess.run([*service["entrypoint"], here(command)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("prometheus --config.file=")
    config = mounts("prometheus")["/etc/ernie/prometheus.yaml"].read_text(encoding="utf-8")
    (tmp_path / "prometheus.yaml").write_text(here(config), encoding="utf-8")
    return tmp_path


def test_only_this_machine_can_reach_the_ports_and_there_is_no_default_login() -> None:
    ports = [port for service in services().values() for port in service.get("ports", [])]
    assert len(ports) == 3
    assert all(port.startswith("127.0.0.1:") for port in ports)
    assert services()["grafana"]["environment"]["GF_SECURITY_DISABLE_INITIAL_ADMIN_CREATION"] == "true"


def test_every_mounted_file_exists() -> None:
    for service in services():
        for source in mounts(service).values():
            assert source.exists(), source


def test_the_rules_equal_those_for_the_operator(prometheus: Path) -> None:
    resource = yaml.safe_load((ROOT / "k8s/components/monitoring/prometheus-rule.yaml").read_text(encoding="utf-8"))
    assert yaml.safe_load((prometheus / "rules.yaml").read_text(encoding="utf-8")) == resource["spec"]


@needs_promtool
def test_prometheus_accepts_the_configuration(prometheus: Path) -> None:
    done = subprocess.run(["promtool", "check", "config", str(prometheus / "prometheus.yaml")], capture_output=True)
    assert done.returncode == 0, done.stderr


def test_prometheus_scrapes_the_service_and_grafana_queries_prometheus() -> None:
    config = yaml.safe_load(mounts("prometheus")["/etc/ernie/prometheus.yaml"].read_text(encoding="utf-8"))
    (target,) = config["scrape_configs"][0]["static_configs"][0]["targets"]
    assert target.split(":")[0] in services()
    sources = mounts("grafana")["/etc/grafana/provisioning/datasources/prometheus.yaml"].read_text(encoding="utf-8")
    (source,) = yaml.safe_load(sources)["datasources"]
    assert re.findall(r"//(\w+):", source["url"]) == ["prometheus"]
    # Grafana computes the interval of rates on the dashboard from it.
    assert source["jsonData"]["timeInterval"] == config["global"]["scrape_interval"]


def test_the_dashboard_is_in_the_folder_of_grafanas_provider() -> None:
    mounted = mounts("grafana")
    given = yaml.safe_load(mounted["/etc/grafana/provisioning/dashboards/ernie.yaml"].read_text(encoding="utf-8"))
    (provider,) = given["providers"]
    found = [
        source.name for target, source in mounted.items() if Path(target).parent == Path(provider["options"]["path"])
    ]
    assert found == ["dashboard.json"]


def test_the_service_has_time_for_a_graceful_shutdown() -> None:
    assert services()["ernie"]["stop_grace_period"] == "60s"
    pod = yaml.safe_load((ROOT / "k8s/base/deployment.yaml").read_text(encoding="utf-8"))["spec"]["template"]["spec"]
    assert pod["terminationGracePeriodSeconds"] == 60
