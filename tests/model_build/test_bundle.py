"""An invalid directory is refused with one sentence, and other bundles are not affected."""

import json
from pathlib import Path

import pytest

from model_build.bundle import BundleError, GraphFile, Manifest, find_bundles, open_bundle, read_repository

MANIFEST = Manifest(name="good", version="1", task="classify", max_length=8, graphs={}, inputs=[], outputs=[])
LONG = "x" * 300  # longer than a file name can be


def write(directory: Path, manifest: Manifest) -> Path:
    directory.mkdir(parents=True)
    (directory / "bundle.json").write_text(manifest.model_dump_json(), encoding="utf-8")
    (directory / "vocab.txt").write_text("[PAD]", encoding="utf-8")
    return directory


def export(directory: Path, files: dict[str, bytes]) -> Path:
    directory.mkdir(parents=True)
    for name in ("model.pdmodel", "model.pdiparams", "vocab.txt"):
        (directory / name).write_bytes(b"x")
    for name, content in files.items():
        (directory / name).write_bytes(content)
    return directory


@pytest.mark.parametrize(
    ("files", "sentence"),
    [
        ({"config.json": b"{"}, "config.json: the document: Invalid JSON"),
        ({"config.json": b"[]"}, "config.json: the document: Input should be an object"),
        ({"config.json": b"\xff"}, "config.json is not UTF-8 at byte 0"),
        (
            {"config.json": json.dumps({"id2label": {"one": "a"}}).encode()},
            "config.json: id2label: the number of a class",
        ),
        ({"config.json": json.dumps({"id2label": ["a", "b"]}).encode()}, "config.json: id2label must be a JSON object"),
        ({"model_config.json": b'{"max_position_embeddings": "many"}'}, "model_config.json: max_position_embeddings: "),
        ({"labels.txt": b"\xb2\xee"}, "labels.txt is not UTF-8 at byte 0"),
    ],
)
def test_a_broken_export_is_refused_and_the_valid_bundles_are_found(
    tmp_path: Path, files: dict[str, bytes], sentence: str
) -> None:
    export(tmp_path / "broken", files)
    write(tmp_path / "good" / "1", MANIFEST)
    bundles, refused = read_repository(tmp_path)
    assert [bundle.manifest.name for bundle in bundles] == ["good"]
    assert refused.keys() == {"broken"}
    assert sentence in str(refused["broken"])


def test_an_error_of_the_file_system_is_a_bundle_error(tmp_path: Path) -> None:
    graphs = {"onnx": GraphFile(path="model.onnx", sha256={LONG: "0"})}
    with pytest.raises(BundleError, match="cannot be read: File name too long"):
        open_bundle(write(tmp_path / "1", MANIFEST.model_copy(update={"graphs": graphs})))


def test_the_configuration_of_an_export_is_kept_unchanged(tmp_path: Path) -> None:
    config = {"hidden_size": 24, "max_position_embeddings": 2048, "vocab_size": 40, "id2label": {"1": "b", "0": "a"}}
    manifest = open_bundle(export(tmp_path / "export", {"config.json": json.dumps(config).encode()})).manifest
    assert (manifest.max_length, manifest.labels) == (512, ["a", "b"])
    assert json.loads(json.dumps(manifest.architecture)) == config


def test_a_version_with_a_digit_that_is_not_decimal_is_accepted(tmp_path: Path) -> None:
    for version in ("1", "²"):
        write(tmp_path / "good" / version, MANIFEST.model_copy(update={"version": version}))
    (bundle,), refused = read_repository(tmp_path)
    assert (bundle.manifest.version, refused) == ("1", {})


def test_a_bundle_that_is_still_being_written_is_ignored(tmp_path: Path) -> None:
    write(tmp_path / "good" / "1", MANIFEST)
    write(tmp_path / "good" / ".2-aside", MANIFEST.model_copy(update={"version": "2"}))
    export(tmp_path / ".copying", {})
    bundles, refused = read_repository(tmp_path)
    assert [bundle.manifest.version for bundle in bundles] == ["1"]
    assert not refused


def test_a_bundle_for_another_task_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "good" / "1", MANIFEST)
    write(tmp_path / "names" / "1", MANIFEST.model_copy(update={"name": "names", "task": "token-classification"}))
    bundles, refused = read_repository(tmp_path, ("classify", "fill-mask"))
    assert [bundle.manifest.name for bundle in bundles] == ["good"]
    assert str(refused["names/1"]).endswith("the bundle is for token-classification, not for classify or fill-mask.")
    assert len(read_repository(tmp_path)[0]) == 2


def test_find_bundles_skips_bundles_for_other_tasks_but_not_broken_ones(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write(tmp_path / "names" / "1", MANIFEST.model_copy(update={"name": "names", "task": "token-classification"}))
    with pytest.raises(BundleError, match="the bundle is for token-classification, not for classify"):
        find_bundles(tmp_path, ("classify",))
    write(tmp_path / "good" / "1", MANIFEST)
    assert [bundle.manifest.name for bundle in find_bundles(tmp_path, ("classify",))] == ["good"]
    assert "skipped: " in caplog.text
    export(tmp_path / "broken", {"config.json": b"{"})
    with pytest.raises(BundleError, match="broken"):
        find_bundles(tmp_path, ("classify",))
