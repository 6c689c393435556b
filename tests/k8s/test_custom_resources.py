"""Custom resources against the schemas of those who define them."""

from typing import Any

import kubernetes_validate
import pydantic
import pytest
from cloudcoil.models.keda.v1alpha1 import ScaledObject
from cloudcoil.models.prometheus_operator.v1 import PrometheusRule, ServiceMonitor

from tests.k8s.rendered import Object, read

# Models made from the definitions of KEDA 2.16 and of the Prometheus operator 0.80.
DEFINED = {
    "components/keda/scaled-object.yaml": ScaledObject,
    "components/monitoring/service-monitor.yaml": ServiceMonitor,
    "components/monitoring/prometheus-rule.yaml": PrometheusRule,
}
# What KServe's PredictorSpec has beside the fields of a pod, as far as it is used here.
KSERVE_SCALING = {"minReplicas", "maxReplicas"}


def as_defined(kind: type[Any], manifest: Object) -> Object:
    """The manifest without the fields that its definition does not know, which a cluster would prune in silence.

    Raises:
        pydantic.ValidationError: A field that is known has a wrong type, or one that must be there is not.
    """
    read: Object = kind.model_validate(manifest).model_dump(mode="json", by_alias=True, exclude_unset=True)
    return read


@pytest.mark.parametrize("path", DEFINED)
def test_custom_resources_are_what_their_definitions_know(path: str) -> None:
    manifest = read(path)
    assert as_defined(DEFINED[path], manifest) == manifest


@pytest.mark.parametrize("path", DEFINED)
def test_a_field_that_a_definition_does_not_know_would_be_seen(path: str) -> None:
    manifest = read(path)
    manifest["spec"]["nonsense"] = 1
    assert as_defined(DEFINED[path], manifest) != manifest


def test_a_field_of_a_wrong_type_would_be_seen() -> None:
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
