"""The files of a bundle must be inside its folder, and its numbers and names must be within limits."""

import json
import os
import re
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from model_build.bundle import BundleError, find_bundles, open_bundle
from model_build.bundle_files import external_data

GOOD = {
    "name": "good", "version": "1", "task": "classify", "max_length": 8, "inputs": [], "outputs": [],
    "graphs": {"onnx": {"path": "graph/model.onnx", "sha256": {"graph/model.onnx": "0"}}},
}  # fmt: skip


def write(directory: Path, **changed: object) -> Path:
    (directory / "graph").mkdir(parents=True)
    (directory / "vocab.txt").write_text("[PAD]", encoding="utf-8")
    (directory / "bundle.json").write_text(json.dumps({**GOOD, **changed}), encoding="utf-8")
    onnx.save(model(), directory / "graph" / "model.onnx")
    return directory


def model(location: str | None = None, nested: bool = False) -> onnx.ModelProto:
    """A graph with one tensor, with external data if there is a location; `nested`: within an If within a function."""
    tensor = numpy_helper.from_array(np.arange(300, dtype=np.float32), "weights")
    if location is not None:
        tensor.ClearField("raw_data")
        tensor.data_location = onnx.TensorProto.EXTERNAL
        tensor.external_data.add(key="offset", value="0")
        tensor.external_data.add(key="location", value=location)
    constant = helper.make_node("Constant", [], ["weights"], value=tensor)
    output = helper.make_tensor_value_info("weights", onnx.TensorProto.FLOAT, [300])
    if not nested:
        return helper.make_model(helper.make_graph([constant], "graph", [], [output]))
    branch = helper.make_graph([constant], "branch", [], [output])
    condition = helper.make_node("If", ["condition"], ["weights"], then_branch=branch, else_branch=branch)
    function = helper.make_function("own", "f", ["condition"], ["weights"], [condition], [helper.make_opsetid("", 17)])
    return helper.make_model(helper.make_graph([], "graph", [], []), functions=[function])


def link(path: Path, to: Path | str) -> None:
    path.unlink(missing_ok=True)
    path.symlink_to(to)


def test_a_version_folder_that_is_a_link_and_links_within_it_are_read(tmp_path: Path) -> None:
    bundle = write(tmp_path / "store" / "abc")
    (bundle / "..2026").mkdir()
    (bundle / "vocab.txt").rename(bundle / "..2026" / "vocab.txt")
    link(bundle / "..data", "..2026")
    link(bundle / "vocab.txt", "..data/vocab.txt")
    (tmp_path / "models" / "good").mkdir(parents=True)
    link(tmp_path / "models" / "good" / "1", bundle)
    assert open_bundle(tmp_path / "models" / "good" / "1").manifest.name == "good"


@pytest.mark.parametrize("file", ["vocab.txt", "graph/model.onnx"])
def test_a_file_that_is_a_link_to_outside_is_refused_by_name(tmp_path: Path, file: str) -> None:
    bundle = write(tmp_path / "1")
    (tmp_path / "outside").write_bytes((bundle / file).read_bytes())
    link(bundle / file, tmp_path / "outside")
    with pytest.raises(BundleError, match=re.escape(f"the file '{file}' is not in the bundle's folder")):
        open_bundle(bundle)


@pytest.mark.parametrize("name", ["../outside", "graph/../../outside", "{outside}"])
@pytest.mark.parametrize("field", ["path", "params_path", "sha256"])
def test_a_name_that_leads_outside_is_refused(tmp_path: Path, name: str, field: str) -> None:
    outside = tmp_path / "outside"
    outside.write_bytes(b"x")
    name = name.format(outside=outside)
    graph = {"path": "graph/model.onnx", **({"sha256": {name: "0"}} if field == "sha256" else {field: name})}
    with pytest.raises(BundleError, match="is not in the bundle's folder; copy it there"):
        open_bundle(write(tmp_path / "1", graphs={"onnx": graph}))


@pytest.mark.parametrize("nested", [False, True], ids=["constant", "in an If in a function"])
@pytest.mark.parametrize("location", ["../outside", "{outside}", "link"])
def test_external_data_outside_the_folder_is_refused(tmp_path: Path, location: str, nested: bool) -> None:
    outside = tmp_path / "outside"
    outside.write_bytes(b"x" * 1200)
    bundle = write(tmp_path / "1")
    link(bundle / "graph" / "link", outside)
    # The location is relative to the graph's folder.
    location = {"../outside": "../../outside"}.get(location, location.format(outside=outside))
    onnx.save(model(location, nested), bundle / "graph" / "model.onnx")
    with pytest.raises(BundleError, match=r"model.onnx: its external data '.*' is not in the bundle's folder"):
        open_bundle(bundle)


def test_external_data_within_the_folder_is_read(tmp_path: Path) -> None:
    bundle = write(tmp_path / "1")
    (bundle / "graph" / "weights.bin").write_bytes(b"x" * 1200)
    onnx.save(model("weights.bin"), bundle / "graph" / "model.onnx")
    assert open_bundle(bundle).manifest.name == "good"
    assert external_data(bundle / "graph" / "model.onnx") == {"weights.bin"}


@pytest.mark.parametrize("content", [b"", b"\x00", b"\x3a\xff\xff\xff\xff\x7f", b"not an onnx graph at all"])
def test_a_graph_that_is_not_onnx_is_refused_in_one_sentence(tmp_path: Path, content: bytes) -> None:
    bundle = write(tmp_path / "1")
    (bundle / "graph" / "model.onnx").write_bytes(content)
    with pytest.raises(BundleError, match=r"model.onnx is damaged: it is not an ONNX graph; copy the bundle again"):
        open_bundle(bundle)


@pytest.mark.parametrize(
    ("field", "value", "sentence"),
    [
        ("name", "a/b", "name: .*'a/b' must be one name"),
        ("name", "a\nERROR forged", "name: .*cannot be printed"),
        ("name", "x" * 200, "name: "),
        ("version", "", "version: "),
        ("max_length", 10**12, "max_length: "),
        ("max_length", 0, "max_length: "),
        ("top_candidates", 0, "top_candidates: "),
        ("labels", ["x" * 5000], "labels.0: "),
        ("evaluation", {"accuracy": float("nan")}, "evaluation has a number that JSON cannot hold"),
        ("schema_version", 0, "schema_version: "),
    ],
)
def test_a_value_outside_its_limits_is_refused_by_its_name(
    tmp_path: Path, field: str, value: object, sentence: str
) -> None:
    with pytest.raises(BundleError, match=sentence):
        open_bundle(write(tmp_path / "1", **{field: value}))


def test_an_export_whose_folder_cannot_be_a_name_is_refused_in_one_sentence(tmp_path: Path) -> None:
    export = tmp_path / "a\nb"
    export.mkdir()
    for name in ("model.pdmodel", "model.pdiparams", "vocab.txt"):
        (export / name).write_bytes(b"x")
    with pytest.raises(BundleError, match="the name of this export: "):
        open_bundle(export)


@pytest.mark.parametrize("name", ["labels.txt", "config.json", "model.pdiparams", "vocab.txt"])
def test_a_file_of_an_export_that_is_a_link_to_outside_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "secret").write_text("a line of another file", encoding="utf-8")
    export = tmp_path / "export"
    export.mkdir()
    for each in ("model.pdmodel", "model.pdiparams", "vocab.txt"):
        (export / each).write_bytes(b"x")
    link(export / name, tmp_path / "secret")
    with pytest.raises(BundleError, match=re.escape(f"the file '{name}' is not in the bundle's folder")):
        open_bundle(export)


def test_a_tag_with_bits_that_runtimes_ignore_hides_no_external_data(tmp_path: Path) -> None:
    """A tag has 32 bits. In five bytes, 35 bits can be written, and runtimes ignore the upper three."""
    bundle = write(tmp_path / "1")
    graph = bundle / "graph" / "model.onnx"
    tensor = model("../../outside").graph.node[0].attribute[0].t
    entry = tensor.external_data[1].SerializeToString()
    tensor.ClearField("external_data")
    hidden = tensor.SerializeToString() + b"\xea\x80\x80\x80\x70" + bytes([len(entry)]) + entry
    initializer = b"\x2a" + bytes([len(hidden)]) + hidden
    graph.write_bytes(b"\x3a" + bytes([len(initializer)]) + initializer)
    read = onnx.load(str(graph), load_external_data=False)
    assert read.graph.initializer[0].external_data[0].value == "../../outside"
    with pytest.raises(BundleError, match=r"its external data '\.\./\.\./outside' is not in the bundle's folder"):
        open_bundle(bundle)


@pytest.mark.parametrize("location", ["*/_ORT_MEM_ADDR_/*", "missing.bin", ""])
def test_external_data_that_is_not_a_file_is_refused(tmp_path: Path, location: str) -> None:
    bundle = write(tmp_path / "1")
    onnx.save(model(location), bundle / "graph" / "model.onnx")
    with pytest.raises(BundleError, match=r"is missing; copy|is not a regular file; copy"):
        open_bundle(bundle)


def test_external_data_is_looked_for_next_to_a_link_and_next_to_its_target(tmp_path: Path) -> None:
    bundle = write(tmp_path / "1")
    (tmp_path / "outside").write_bytes(b"x" * 1200)
    onnx.save(model("../outside"), bundle / "real.onnx")
    link(bundle / "graph" / "model.onnx", "../real.onnx")
    with pytest.raises(BundleError, match="is not in the bundle's folder"):
        open_bundle(bundle)


def test_a_graph_of_too_many_fields_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("model_build.protobuf.MAX_FIELDS", 1000)
    bundle = write(tmp_path / "1")
    (bundle / "graph" / "model.onnx").write_bytes(b"\x08\x01" * 1001)
    with pytest.raises(BundleError, match="it is not an ONNX graph"):
        open_bundle(bundle)


def test_a_link_to_itself_and_a_pipe_are_refused_in_one_sentence(tmp_path: Path) -> None:
    graphs = {"onnx": {"path": "graph/other.onnx"}}
    bundle = write(tmp_path / "1", graphs=graphs)
    os.mkfifo(bundle / "graph" / "other.onnx")
    with pytest.raises(BundleError, match="is not a regular file"):
        open_bundle(bundle)
    link(bundle / "graph" / "other.onnx", "other.onnx")
    open_bundle(bundle)  # like a graph that is missing, which the runtime reports


def test_a_link_to_a_folder_whose_name_is_not_utf_8_is_skipped(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write(tmp_path / "models" / "good" / "1")
    bad = tmp_path / os.fsdecode(b"\xb2\xee")
    try:
        write(bad)
    except OSError:
        pytest.skip("this file system takes only names in UTF-8; set TMPDIR to one that takes all, such as ext4")
    (tmp_path / "models" / "good" / "2").symlink_to(bad)
    (bundle,) = find_bundles(tmp_path / "models")
    assert bundle.directory.name == "1"
    assert "\\xb2\\xee: this name is not UTF-8" in caplog.text
