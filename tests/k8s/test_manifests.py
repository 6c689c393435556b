"""The manifests against the schemas of Kubernetes, and against the settings and paths of the service."""

import re
from pathlib import Path
from typing import Any

import httpx
import kubernetes_validate
import pytest

from service.api.app import create_app
from service.settings import Settings
from tests.k8s.rendered import COMPONENTS, K8S, OVERLAYS, Object, needs_kubectl, of_kind, read, rendered

CUSTOM = ("monitoring.coreos.com/", "keda.sh/", "serving.kserve.io/")
VERSIONS = ("1.27", kubernetes_validate.latest_version())
ENGINE_STOP_SECONDS = 15
# keda and hpa both set the number of replicas, so only one of them can be used.
TOGETHER = [name for name in COMPONENTS if name != "hpa"]


def settings_of(objects: list[Object]) -> dict[str, str]:
    (config,) = [
        each for each in of_kind(objects, "ConfigMap") if each["metadata"]["name"].startswith("ernie-settings")
    ]
    return dict(config["data"])


def pod_of(objects: list[Object]) -> dict[str, Any]:
    (deployment,) = of_kind(objects, "Deployment")
    return dict(deployment["spec"]["template"]["spec"])


def kserve_pod() -> dict[str, Any]:
    return dict(read("kserve/inference-service.yaml")["spec"]["predictor"])


def read_as_environment(monkeypatch: pytest.MonkeyPatch, variables: dict[str, str]) -> Settings:
    for name, value in variables.items():
        assert name.removeprefix("ERNIE_").lower() in Settings.model_fields, f"{name} is not a setting of the service"
        monkeypatch.setenv(name, value)
    return Settings()


@needs_kubectl
@pytest.mark.parametrize("components", [[], TOGETHER, ["hpa"]], ids=["alone", "with components", "with hpa"])
@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_overlay_is_valid_for_kubernetes(tmp_path: Path, overlay: str, components: list[str]) -> None:
    objects = rendered(tmp_path, overlay, *components)
    kinds = {each["kind"] for each in objects}
    assert {"Deployment", "Service", "ServiceAccount", "NetworkPolicy", "ConfigMap"} <= kinds
    for each in objects:
        if not each["apiVersion"].startswith(CUSTOM):
            for version in VERSIONS:
                kubernetes_validate.validate(each, version, strict=True)


@needs_kubectl
@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_settings_of_every_overlay_are_settings_of_the_service(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, overlay: str
) -> None:
    objects = rendered(tmp_path, overlay, *TOGETHER)
    settings = read_as_environment(monkeypatch, settings_of(objects))
    (container,) = pod_of(objects)["containers"]
    assert settings.host == "0.0.0.0"
    assert settings.port == container["ports"][0]["containerPort"]
    mounted = [each["mountPath"] for each in container["volumeMounts"]]
    for path in (settings.models, settings.tensorrt_cache, settings.api_keys_file):
        if path is not None and not path.is_relative_to("/app"):  # a folder of the image
            assert any(path.is_relative_to(mount) for mount in mounted), f"nothing is mounted at {path}"
    assert not any(str(settings.models).startswith("/app") and mount == "/models" for mount in mounted)


def test_the_settings_for_kserve_are_settings_of_the_service(monkeypatch: pytest.MonkeyPatch) -> None:
    (container,) = kserve_pod()["containers"]
    settings = read_as_environment(monkeypatch, {each["name"]: each["value"] for each in container["env"]})
    assert settings.port == container["ports"][0]["containerPort"]
    assert str(settings.models) in [each["mountPath"] for each in container["volumeMounts"]]


def test_no_manifest_names_a_setting_that_does_not_exist() -> None:
    named = {name for path in K8S.rglob("*.*") for name in re.findall(r"\bERNIE_[A-Z_]+", path.read_text("utf-8"))}
    assert named
    assert {name.removeprefix("ERNIE_").lower() for name in named} <= Settings.model_fields.keys()


@needs_kubectl
def test_the_grace_period_covers_the_drain(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for overlay in OVERLAYS:
        objects = rendered(tmp_path / overlay, overlay)
        settings = read_as_environment(monkeypatch, settings_of(objects))
        needed = settings.drain_delay_seconds + settings.shutdown_seconds + ENGINE_STOP_SECONDS
        assert needed <= pod_of(objects)["terminationGracePeriodSeconds"]
        probe = pod_of(objects)["containers"][0]["readinessProbe"]
        if overlay != "dev":
            assert settings.drain_delay_seconds > probe["periodSeconds"] * probe["failureThreshold"]


def test_the_grace_period_under_kserve_covers_the_drain(monkeypatch: pytest.MonkeyPatch) -> None:
    pod = kserve_pod()
    settings = read_as_environment(monkeypatch, {each["name"]: each["value"] for each in pod["containers"][0]["env"]})
    needed = settings.drain_delay_seconds + settings.shutdown_seconds + ENGINE_STOP_SECONDS
    assert needed <= pod["terminationGracePeriodSeconds"]


async def test_probes_and_scrapes_use_paths_of_the_service() -> None:
    text = "".join(path.read_text(encoding="utf-8") for path in K8S.rglob("*.yaml"))
    paths = set(re.findall(r"\bpath: (/(?:health|v2|metrics)[\w/]*)", text))
    assert paths == {"/health/live", "/health/ready", "/v2/health/live", "/v2/health/ready", "/metrics"}
    transport = httpx.ASGITransport(create_app(Settings()))
    async with httpx.AsyncClient(transport=transport, base_url="http://service") as client:
        for path in paths:
            expected = 503 if path.endswith("ready") else 200  # no model is loaded here
            assert (await client.get(path)).status_code == expected


def restricted(pod: dict[str, Any]) -> None:
    """Pod Security Standards, level restricted (and more: the root file system is read-only)."""
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] > 0
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    for container in [*pod["containers"], *pod.get("initContainers", [])]:
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert container["resources"]["limits"]["memory"]
    assert not any("hostPath" in volume for volume in pod["volumes"])


@needs_kubectl
@pytest.mark.parametrize("overlay", OVERLAYS)
def test_pods_are_restricted(tmp_path: Path, overlay: str) -> None:
    for components in ([], TOGETHER):
        pod = pod_of(rendered(tmp_path, overlay, *components))
        restricted(pod)
        assert pod["automountServiceAccountToken"] is False


def test_pods_under_kserve_are_restricted() -> None:
    restricted(kserve_pod())


@needs_kubectl
def test_with_a_scaler_the_deployment_sets_no_replicas(tmp_path: Path) -> None:
    for scaler in ("keda", "hpa"):
        (deployment,) = of_kind(rendered(tmp_path / scaler, "cpu", scaler), "Deployment")
        assert "replicas" not in deployment["spec"]


@needs_kubectl
def test_an_image_of_models_replaces_the_volume_claim(tmp_path: Path) -> None:
    (volume,) = [
        each for each in pod_of(rendered(tmp_path, "cpu", "models-image"))["volumes"] if each["name"] == "models"
    ]
    assert volume == {"name": "models", "emptyDir": {"sizeLimit": "4Gi"}}


@needs_kubectl
def test_selectors_match_the_pods_of_the_deployment(tmp_path: Path) -> None:
    objects = rendered(tmp_path, "cpu", *TOGETHER)
    (deployment,) = of_kind(objects, "Deployment")
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    selectors = [deployment["spec"]["selector"]["matchLabels"], of_kind(objects, "Service")[0]["spec"]["selector"]]
    selectors += [
        of_kind(objects, kind)[0]["spec"]["selector"]["matchLabels"]
        for kind in ("PodDisruptionBudget", "ServiceMonitor")
    ]
    selectors += [of_kind(objects, "NetworkPolicy")[0]["spec"]["podSelector"]["matchLabels"]]
    assert all(selector and selector.items() <= labels.items() for selector in selectors)
