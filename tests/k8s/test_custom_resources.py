"""Custom resources against the schemas of their projects."""

from typing import Any

import kubernetes_validate
import pydantic
import pytest
from cloudcoil.models.keda.v1alpha1 import ScaledObject
from cloudcoil.models.prometheus_operator.v1 import PrometheusRule, ServiceMonitor

from tests.k8s.rendered import Object, read

# Classes generated from the definitions of KEDA 2.16 and of the Prometheus operator 0.80.
DEFINED = {
    "components/keda/scaled-object.yaml": ScaledObject,
    "components/monitoring/service-monitor.yaml": ServiceMonitor,
    "components/monitoring/prometheus-rule.yaml": PrometheusRule,
}
# The fields of KServe's PredictorSpec that are used here and are not fields of a pod.
KSERVE_SCALING = {"minReplicas", "maxReplicas"}


def as_defined(kind: type[Any], manifest: Object) -> Object:
    """The manifest without unknown fields, which a cluster would remove without a warning.

    Raises:
        pydantic.ValidationError: A known field has a wrong type, or a required field is missing.
    """
    read: Object = kind.model_validate(manifest).model_dump(mode="json", by_alias=True, exclude_unset=True)
    return read


@pytest.mark.parametrize("path", DEFINED)
def test_custom_resources_have_only_known_fields(path: str) -> None:
    manifest = read(path)
    assert as_defined(DEFINED[path], manifest) == manifest


@pytest.mark.parametrize("path", DEFINED)
def test_an_unknown_field_would_be_found(path: str) -> None:
    manifest = read(path)
    manifest["spec"]["nonsense"] = 1
    assert as_defined(DEFINED[path], manifest) != manifest


def test_a_field_of_a_wrong_type_would_be_found() -> None:
    manifest = read("components/keda/scaled-object.yaml")
    manifest["spec"]["maxReplicaCount"] = "many"
    with pytest.raises(pydantic.ValidationError, match="maxReplicaCount"):
        as_defined(ScaledObject, manifest)


def test_the_predictor_for_kserve_is_a_pod_with_replicas() -> None:
    manifest = read("kserve/inference-service.yaml")
    assert manifest["apiVersion"] == "serving.kserve.io/v1beta1"
    assert manifest["spec"].keys() == {"predictor"}
    predictor = manifest["spec"]["predictor"]
    assert all(isinstance(predictor[name], int) for name in KSERVE_SCALING)
    pod = {name: value for name, value in predictor.items() if name not in KSERVE_SCALING}
    kubernetes_validate.validate(
        {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "ernie"}, "spec": pod}, "1.27", strict=True
    )
