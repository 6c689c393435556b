"""Records survive kills and resumed runs, and VisualDL shows them once."""

from __future__ import annotations

import json
import logging
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from training.runs import visualdl
from training.runs.records import Records
from training.runs.visualdl import VisualDL


def filled(path: Path, steps: range) -> Records:
    records = Records(path)
    for step in steps:
        records.append({"step": step, "loss": 10.0 / step})
    return records


def test_records_are_read_as_they_were_written(tmp_path: Path) -> None:
    records = filled(tmp_path / "output" / "records.jsonl", range(1, 4))
    assert records.read() == [{"step": step, "loss": 10.0 / step} for step in (1, 2, 3)]
    assert Records(tmp_path / "output" / "records.jsonl").read() == records.read()
    assert Records(tmp_path / "none.jsonl").read() == []


def test_a_record_is_in_the_file_when_append_returns(tmp_path: Path) -> None:
    records = Records(tmp_path / "records.jsonl")
    records.append({"step": 7, "loss": 1.5})
    assert (tmp_path / "records.jsonl").read_text() == '{"step": 7, "loss": 1.5}\n'


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), np.float32("nan")])
def test_what_is_not_finite_is_null(tmp_path: Path, value: float) -> None:
    records = Records(tmp_path / "records.jsonl")
    records.append({"step": 1, "loss": value})
    strict = json.loads((tmp_path / "records.jsonl").read_text(), parse_constant=lambda name: pytest.fail(name))
    assert strict == {"step": 1, "loss": None}
    records.cut(1)
    assert records.read() == [{"step": 1, "loss": None}]


def test_numbers_of_numpy_are_written_as_numbers(tmp_path: Path) -> None:
    records = Records(tmp_path / "records.jsonl")
    record: dict[str, Any] = {"step": np.int64(3), "loss": np.float32(0.5), "skipped_steps": np.int32(2)}
    records.append(record)
    assert (tmp_path / "records.jsonl").read_text() == '{"step": 3, "loss": 0.5, "skipped_steps": 2}\n'


@pytest.mark.parametrize("record", [{"loss": 1.0}, {"step": 1.5, "loss": 1.0}])
def test_a_record_without_a_step_is_refused(tmp_path: Path, record: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r'records\.jsonl has no int "step"'):
        Records(tmp_path / "records.jsonl").append(record)
    assert not (tmp_path / "records.jsonl").exists()


def test_wherever_a_kill_cuts_the_file_the_whole_lines_stay_and_the_next_record_is_one(tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    filled(path, range(1, 4))
    whole = path.read_bytes()
    for size in range(len(whole) + 1):
        path.write_bytes(whole[:size])
        lines = whole[:size].count(b"\n")
        assert [record["step"] for record in Records(path).read()] == list(range(1, lines + 1))
        assert path.read_bytes() == whole[:size]
        Records(path).append({"step": 99})
        assert [record["step"] for record in Records(path).read()] == [*range(1, lines + 1), 99]


def test_a_resumed_run_drops_the_records_beyond_its_step_and_a_cut_off_line(tmp_path: Path) -> None:
    records = filled(tmp_path / "records.jsonl", range(1, 10))
    records.close()
    with records.path.open("ab") as file:
        file.write(b'{"step": 4, "lo')
    records.cut(6)
    assert records.path.read_bytes().count(b"\n") == 6
    records.append({"step": 7, "loss": 0.1})
    assert [record["step"] for record in records.read()] == [1, 2, 3, 4, 5, 6, 7]
    assert records.read()[-1]["loss"] == 0.1
    assert [path.name for path in tmp_path.iterdir()] == ["records.jsonl"]


def test_records_go_on_after_a_cut_of_an_open_file(tmp_path: Path) -> None:
    records = filled(tmp_path / "records.jsonl", range(1, 6))
    records.cut(2)
    records.append({"step": 3})
    assert [record["step"] for record in records.read()] == [1, 2, 3]


def test_a_cut_before_the_first_record_makes_no_file(tmp_path: Path) -> None:
    Records(tmp_path / "records.jsonl").cut(100)
    assert not list(tmp_path.iterdir())


def test_a_line_that_is_no_record_is_left_out_and_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "records.jsonl"
    path.write_bytes(b'{"step": 1}\n\0\0\0\n[1]\n{"loss": 2}\n\xff\n{"step": 2}\n')
    assert Records(path).read() == [{"step": 1}, {"step": 2}]
    assert [record.message.split(": ")[1] for record in caplog.records] == [
        f"line {line} is not a record and is skipped" for line in (2, 3, 4, 5)
    ]


def shown(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """What VisualDL's own reader finds in the newest file of a folder."""
    from visualdl import LogReader  # type: ignore[import-untyped]

    file = max(path.name for path in folder.glob("*vdlrecords*"))
    reader = LogReader(file_path=str(folder / file))
    tags = [tag.replace("%", "/") for tag in reader.get_tags().get("scalar", [])]
    return {tag: [(each.id, round(each.value, 4)) for each in reader.get_data("scalar", tag)] for tag in tags}


def test_visualdl_shows_the_numbers_of_a_run(tmp_path: Path) -> None:
    mirror = VisualDL(tmp_path / "visualdl", {})
    mirror.append("train", {"step": 10, "loss": 2.5, "mlm": 2.0})
    mirror.append("train", {"step": 20, "loss": float("nan"), "mlm": None})
    mirror.append("train", {"step": 30, "loss": 1.5, "mlm": 1.25})
    mirror.append("validation", {"step": 30, "character/top1": 0.5})
    mirror.close()
    assert shown(tmp_path / "visualdl") == {
        "train/loss": [(10, 2.5), (30, 1.5)],
        "train/mlm": [(10, 2.0), (30, 1.25)],
        "validation/character/top1": [(30, 0.5)],
    }


def test_visualdl_shows_a_resumed_run_once(tmp_path: Path) -> None:
    folder = tmp_path / "visualdl"
    records = filled(tmp_path / "records.jsonl", range(1, 6))
    first = VisualDL(folder, {"train": records.read()})
    first.close()
    (folder / "vdlrecords.9999999999.log").write_bytes(b"")  # a start whose clock was ahead
    (folder / "notes.txt").write_text("mine")
    records.cut(3)
    second = VisualDL(folder, {"train": records.read(), "validation": [{"step": 2, "word/top5": 0.25}]})
    second.append("train", {"step": 4, "loss": 0.5})
    second.close()
    assert shown(folder) == {
        "train/loss": [(1, 10.0), (2, 5.0), (3, 3.3333), (4, 0.5)],
        "validation/word/top5": [(2, 0.25)],
    }
    assert len(list(folder.glob("*vdlrecords*"))) == 1
    assert (folder / "notes.txt").read_text() == "mine"


def test_of_a_long_run_visualdl_gets_records_at_equal_distances_and_the_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(visualdl, "EARLIER", 4)
    VisualDL(tmp_path, {"train": [{"step": step, "loss": step} for step in range(1, 12)]}).close()
    assert [step for step, _ in shown(tmp_path)["train/loss"]] == [2, 5, 8, 11]


def test_without_visualdl_the_run_goes_on_with_one_line_in_the_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "visualdl", None)
    with caplog.at_level(logging.INFO):
        mirror = VisualDL(tmp_path / "visualdl", {"train": [{"step": 1, "loss": 1.0}]})
        mirror.append("train", {"step": 2, "loss": 0.5})
        mirror.close()
    assert len(caplog.records) == 1
    assert "no curves for VisualDL" in caplog.text
    assert not (tmp_path / "visualdl").exists()
