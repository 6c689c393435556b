"""Our options become FastDeploy's, as far as the CPU build lets RuntimeOption be read."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("fastdeploy", reason="fastdeploy-python has no wheel for this Python; Python 3.10 runs this")

from model_build.bundle import Bundle, open_bundle
from service.runtime.base import RuntimeOptions, RuntimeUnavailable
from service.runtime.fastdeploy import FastDeployRuntime, chosen_backend, fd, runtime_option, set_tensorrt, shape_ranges


@pytest.fixture
def reviews(tiny_models: Path) -> Bundle:
    return open_bundle(tiny_models / "reviews" / "1")


@pytest.fixture
def characters(tiny_models: Path) -> Bundle:
    return open_bundle(tiny_models / "characters" / "1")


def readable(bundle: Bundle, options: RuntimeOptions, backend: str) -> Any:
    """The translated option; FastDeploy's Python class keeps most of its values on `_option`."""
    return runtime_option(bundle, options, backend)._option


def test_auto_takes_the_onnx_graph_where_there_is_one(reviews: Bundle) -> None:
    assert chosen_backend(reviews, RuntimeOptions()) == "ort"
    assert chosen_backend(reviews, RuntimeOptions(device="gpu")) == "trt"
    paddle_only = reviews.manifest.model_copy(update={"graphs": {"paddle": reviews.manifest.graphs["paddle"]}})
    exported = Bundle(reviews.directory, paddle_only)
    assert chosen_backend(exported, RuntimeOptions()) == "paddle"
    assert chosen_backend(exported, RuntimeOptions(device="gpu", precision="fp16")) == "paddle_trt"
    assert chosen_backend(reviews, RuntimeOptions(backend="paddle")) == "paddle"


def test_the_cpu_backends_get_their_graph_and_threads(reviews: Bundle) -> None:
    option = readable(reviews, RuntimeOptions(cpu_threads=3), "ort")
    assert option.backend == fd.Backend.ORT
    assert option.model_file.endswith("model.onnx")
    assert option.cpu_thread_num == 3
    option = readable(reviews, RuntimeOptions(cpu_threads=3), "paddle")
    assert option.backend == fd.Backend.PDINFER
    assert option.model_file.endswith("model.pdmodel")
    assert option.params_file.endswith("model.pdiparams")
    assert option.paddle_infer_option.mkldnn_cache_size == 64
    assert option.paddle_infer_option.enable_trt is False


def test_tensorrt_gets_precision_shapes_and_a_cache_that_names_what_made_it(characters: Bundle) -> None:
    """`use_trt_backend` itself aborts in the CPU build, so it is the one call left out here."""

    def translated(**changes: Any) -> Any:
        option = fd.RuntimeOption()
        values = {"device": "gpu", "precision": "fp16", "max_batch": 16, "cache_directory": "/cache", **changes}
        set_tensorrt(option, characters, RuntimeOptions(**values))
        return option.trt_option

    half = translated()
    assert half.enable_fp16 is True
    assert half.max_batch_size == 16
    assert re.fullmatch(r"/cache/characters-[0-9a-f]{16}\.trt", half.serialize_file)
    assert translated().serialize_file == half.serialize_file
    assert translated(precision="fp32").serialize_file != half.serialize_file
    assert translated(max_batch=8).serialize_file != half.serialize_file
    assert not translated(cache_directory=None).serialize_file
    assert shape_ranges(characters, RuntimeOptions(max_batch=16))["input_ids"] == ([1, 1], [16, 64], [16, 64])


def test_the_cpu_build_itself_would_fall_back_to_the_cpu_which_is_why_we_check_first(reviews: Bundle) -> None:
    option = readable(reviews, RuntimeOptions(device="gpu", device_id=1), "paddle")
    assert option.device == fd.C.Device.CPU


def test_paddle_tensorrt_collects_shapes(reviews: Bundle) -> None:
    option = readable(reviews, RuntimeOptions(device="gpu", precision="fp16"), "paddle_trt")
    assert option.backend == fd.Backend.PDINFER
    assert option.paddle_infer_option.enable_trt is True
    assert option.paddle_infer_option.collect_trt_shape is True
    assert option.trt_option.enable_fp16 is True


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (RuntimeOptions(device="gpu"), "the GPU was asked for"),
        (RuntimeOptions(backend="trt"), "runs on a GPU only"),
        (RuntimeOptions(backend="paddle_trt"), "runs on a GPU only"),
        (RuntimeOptions(precision="fp16"), "no fp16 on the CPU"),
        (RuntimeOptions(precision="bf16", device="gpu"), "GPU was asked for"),
    ],
)
def test_what_cannot_be_had_is_refused_and_never_replaced(
    reviews: Bundle, options: RuntimeOptions, sentence: str
) -> None:
    with pytest.raises(RuntimeUnavailable, match=sentence):
        FastDeployRuntime(reviews, options)


def test_inputs_that_would_crash_fastdeploy_are_refused(reviews: Bundle) -> None:
    runtime = FastDeployRuntime(reviews, RuntimeOptions(cpu_threads=1))
    ids = np.array([[1, 9, 2]])
    assert runtime.run({"input_ids": ids, "token_type_ids": ids * 0})["logits"].shape == (1, 3)
    for bad in (
        {"input_ids": ids},
        {"input_ids": ids.astype(np.int32), "token_type_ids": ids * 0},
        {"input_ids": ids[0], "token_type_ids": ids * 0},
        {"input_ids": ids[:0], "token_type_ids": ids[:0]},
    ):
        with pytest.raises(ValueError, match=r"the graph takes|must be int64"):
            runtime.run(bad)
    runtime.close()
