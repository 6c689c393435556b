"""Checkpoints: complete or absent; damage, and checkpoints of other runs."""

from __future__ import annotations

import json
import math
import os
import random
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.training.runs.checkpoint_folders import (
    FILES,
    IDENTITY,
    add,
    assert_whole,
    content,
    hidden_in,
    state,
    steps_in,
    truncate,
    writing,
)
from training.runs import checkpoints
from training.runs.checkpoints import CheckpointError, Checkpoints, ResumeError, SavedCheckpoint, differences


def test_what_was_saved_comes_back(tmp_path: Path) -> None:
    output = tmp_path / "new" / "output"
    with Checkpoints(output, IDENTITY) as store:
        assert store.latest() is None
        saved = store.save(1200, {"seen": (1, 2), "best": math.inf, "name": "模型\udcff"}, writing(1200))
        assert store.latest() == saved
    assert saved == SavedCheckpoint(
        output / "step-000001200", 1200, {"seen": [1, 2], "best": math.inf, "name": "模型\udcff"}
    )
    for name in FILES:
        assert (saved.directory / name).read_bytes() == content(1200, name)
    assert Checkpoints(output, IDENTITY, writer=False).latest() == saved
    assert hidden_in(output) == []


def test_a_name_of_ten_digits_is_newer_than_one_of_nine(tmp_path: Path) -> None:
    with Checkpoints(tmp_path, IDENTITY) as store:
        add(store, 999_999_999, 1_000_000_000)
        assert store.latest().step == 1_000_000_000


def test_what_can_not_be_right_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    for wrong in ({"keep": 0}, {"milestone_every": -1}):
        with pytest.raises(ValueError, match="keep must be at least 1 and milestone_every at least 0"):
            Checkpoints(tmp_path, IDENTITY, **wrong)
    with Checkpoints(tmp_path, IDENTITY) as store:
        with pytest.raises(ValueError, match="step -1 is negative"):
            add(store, -1)
        with pytest.raises(TypeError, match="not JSON serializable"):
            store.save(1, {"path": tmp_path}, writing(1))
        with pytest.raises(ValueError, match=r"training\.json is reserved for the description of the checkpoint"):
            store.save(1, {}, lambda folder: (folder / "training.json").touch())
    with pytest.raises(RuntimeError, match="open for reading only"):
        add(store, 1)
    with pytest.raises(RuntimeError, match="open for reading only"):
        add(Checkpoints(tmp_path, IDENTITY, writer=False), 1)
    assert [path.name for path in tmp_path.iterdir()] == [".lock"]


def test_files_are_handled_without_paddle() -> None:
    code = "import sys, training.runs.checkpoints; sys.exit('paddle' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=Path(checkpoints.__file__).parents[2]).returncode == 0


def test_the_newest_and_the_milestones_stay(tmp_path: Path) -> None:
    with Checkpoints(tmp_path, IDENTITY, keep=2, milestone_every=300) as store:
        add(store, *range(100, 900, 100))
    assert steps_in(tmp_path) == [300, 600, 700, 800]
    assert hidden_in(tmp_path) == []
    with Checkpoints(tmp_path, IDENTITY, keep=1) as store:
        add(store, 900)
    assert steps_in(tmp_path) == [900]


def test_checkpoints_beyond_the_step_that_is_saved_stay_and_count_for_nothing(tmp_path: Path) -> None:
    with Checkpoints(tmp_path, IDENTITY, keep=9) as store:
        add(store, 100, 500, 600, 700)
    with Checkpoints(tmp_path, IDENTITY, keep=2) as store:
        add(store, 150, 200)
    assert steps_in(tmp_path) == [150, 200, 500, 600, 700]


def test_a_step_that_is_there_is_kept_and_not_written_again(tmp_path: Path) -> None:
    with Checkpoints(tmp_path, IDENTITY) as store:
        add(store, 100)
        again = store.save(100, {"samples": -1}, lambda folder: pytest.fail("it was written again"))
    assert again == SavedCheckpoint(tmp_path / "step-000000100", 100, state(100))
    assert_whole(tmp_path)
    with Checkpoints(tmp_path, {}) as other, pytest.raises(ResumeError, match="vocabulary was "):
        add(other, 100)
    assert_whole(tmp_path)


def test_all_is_on_the_disk_before_it_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    events: list[tuple[str, str]] = []
    fsync, rename = os.fsync, os.rename

    def recorded(descriptor: int) -> None:
        path = Path(os.readlink(f"/proc/self/fd/{descriptor}"))
        # A folder is synced when all its entries are there; what a file held then is what it holds in the end.
        events.append(
            ("sync", f"{path.relative_to(tmp_path)}:{len(list(path.iterdir())) if path.is_dir() else 'file'}")
        )
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", recorded)
    monkeypatch.setattr(os, "rename", lambda old, new: (events.append(("rename", Path(new).name)), rename(old, new)))
    with Checkpoints(tmp_path, IDENTITY, keep=1) as store:
        add(store, 100)
        (aside,) = {path.split("/")[0] for event, path in events if "/" in path}
        assert re.fullmatch(r"\.step-000000100\.[0-9a-f]{8}\.writing", aside)
        assert events[-3:-1] == [("rename", "step-000000100"), ("sync", ".:2")]
        before = [path for event, path in events[:-3] if event == "sync"]
        assert sorted(before[:-2]) == sorted([*(f"{aside}/{name}:file" for name in FILES), f"{aside}/optimizer:6"])
        assert before[-2:] == [f"{aside}/training.json:file", f"{aside}:4"]
        events.clear()
        add(store, 200)
    # A checkpoint has lost its name for good before anything of it is gone.
    assert events[-2:] == [("rename", ".step-000000100.removing"), ("sync", ".:3")]


# Damage


def flip(path: Path, bit: int) -> None:
    data = bytearray(path.read_bytes())
    data[bit // 8] ^= 1 << bit % 8
    path.write_bytes(data)


@pytest.mark.parametrize("name", ["model_state.pdparams", "optimizer/part-03", "training.json"])
@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (lambda path: flip(path, 100), "does not match its|is not JSON"),
        (truncate, "bytes, but should have|is not JSON"),
        (lambda path: path.write_bytes(b""), "has 0 bytes, but should have|is not JSON"),
        (lambda path: path.unlink(), "is absent"),
        (lambda path: (path.unlink(), path.mkdir()), "bytes, but should have|cannot be read: Is a directory"),
    ],
)
def test_a_damaged_checkpoint_is_passed_over_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, name: str, damage: Callable[[Path], object], told: str
) -> None:
    with Checkpoints(tmp_path, IDENTITY) as store:
        add(store, 100, 200)
        path = tmp_path / "step-000000200" / name
        if damage is truncate and name == "training.json":
            truncate(path)  # the newline, which is no damage
        damage(path)
        assert store.latest() == SavedCheckpoint(tmp_path / "step-000000100", 100, state(100))
    (warning,) = caplog.messages
    assert warning.startswith(f"the checkpoint {path.parents[name.count('/')]} is damaged and is skipped: {path} ")
    assert any(part in warning for part in told.split("|"))


def test_no_flipped_bit_of_a_description_gives_another_state(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with Checkpoints(tmp_path, IDENTITY) as store:
        add(store, 100, 200)
        path = tmp_path / "step-000000200" / "training.json"
        good, rng, passed_over = path.read_bytes(), random.Random(1), 0
        for bit in rng.sample(range(len(good) * 8), 300):
            flip(path, bit)
            caplog.clear()
            found = store.latest()
            if found.step == 100:
                passed_over += 1
                assert f"{path} " in caplog.text
            else:
                # A blank became another blank, or a digit changed that no float can show.
                assert found == SavedCheckpoint(tmp_path / "step-000000200", 200, state(200))
            path.write_bytes(good)
    assert passed_over > 200


def test_a_folder_under_the_name_of_another_step_is_no_checkpoint_of_that_step(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with Checkpoints(tmp_path, IDENTITY) as store:
        add(store, 100)
        shutil.copytree(tmp_path / "step-000000100", tmp_path / "step-000000900")
        assert store.latest().step == 100
    assert "training.json is of step 100" in caplog.text


def test_nothing_but_damaged_checkpoints_is_an_error_and_not_a_new_start(tmp_path: Path) -> None:
    with Checkpoints(tmp_path, IDENTITY) as store:
        add(store, 100, 200)
        for step in (100, 200):
            truncate(tmp_path / f"step-{step:09d}" / "config.json")
        with pytest.raises(CheckpointError, match=r"all 2 checkpoints in .* are damaged, the newest is .*200;"):
            store.latest()


def test_a_damaged_checkpoint_is_replaced_when_the_run_comes_to_its_step(tmp_path: Path) -> None:
    with Checkpoints(tmp_path, IDENTITY) as store:
        add(store, 100)
        truncate(tmp_path / "step-000000100" / "config.json")
        add(store, 100)
        assert store.latest().step == 100
        add(store, 200)
    assert steps_in(tmp_path) == [100, 200]
    assert_whole(tmp_path)
    assert hidden_in(tmp_path) == []


def test_damaged_checkpoints_do_not_count_among_those_kept(tmp_path: Path) -> None:
    with Checkpoints(tmp_path, IDENTITY, keep=4) as store:
        add(store, 100, 200, 300, 400)
    for step in (200, 400):
        truncate(tmp_path / f"step-{step:09d}" / "config.json")
    truncate(tmp_path / "step-000000300" / "training.json")
    (tmp_path / "step-000000300" / "training.json").write_text("{}")
    with Checkpoints(tmp_path, IDENTITY, keep=2) as store:
        assert store.latest().step == 100
        add(store, 250)
    assert steps_in(tmp_path) == [100, 250]
    assert_whole(tmp_path)


def test_an_unknown_format_is_an_error_and_not_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Checkpoints(tmp_path, IDENTITY) as store:
        add(store, 100)
        monkeypatch.setattr(checkpoints, "FORMAT", 99)
        add(store, 200)
        monkeypatch.undo()
        with pytest.raises(CheckpointError, match=r"step-000000200/training\.json has the format 99, but this version"):
            store.latest()


# Identity


def changed(identity: dict[str, Any], **values: Any) -> dict[str, Any]:
    return {**json.loads(json.dumps(identity)), **values}


def test_all_differences_to_the_run_before_are_shown(tmp_path: Path) -> None:
    with Checkpoints(tmp_path, IDENTITY) as store:
        add(store, 200)
    other = changed(IDENTITY, settings={"learning_rate": 0.002, "seed": 1, "betas": (0.9, 0.98), "clip": None})
    other["corpora"] = [{"tokens": 120, "sha256": "ab"}]
    with pytest.raises(ResumeError) as error:
        Checkpoints(tmp_path, other, writer=False).latest()
    assert str(error.value) == (
        f"the checkpoint {tmp_path}/step-000000200 was made with other settings: "
        "settings.learning_rate was 0.001 and is now 0.002; settings.clip was absent and is now null; "
        "corpora.0.tokens was 100 and is now 120; corpora.1.tokens was 7 and is now absent; "
        'corpora.1.sha256 was "cd" and is now absent; choose another --output, or give the same settings.'
    )


def test_identities_that_say_the_same_are_the_same(tmp_path: Path) -> None:
    with Checkpoints(tmp_path, {"levels": ((1, 0.0),), "sizes": {1: 2}}) as store:
        add(store, 1)
    assert Checkpoints(tmp_path, {"sizes": {"1": 2}, "levels": [[1.0, 0]]}, writer=False).latest().step == 1


def test_of_many_differences_the_first_are_shown_and_the_others_counted(tmp_path: Path) -> None:
    with Checkpoints(tmp_path, {f"k{n}": 0 for n in range(50)}) as store:
        add(store, 200)
    with pytest.raises(ResumeError, match=r"k19 was 0 and is now 1; and 30 more; choose another --output") as error:
        Checkpoints(tmp_path, {f"k{n}": 1 for n in range(50)}, writer=False).latest()
    assert "k20" not in str(error.value)


KEYS = st.text("abc", min_size=1, max_size=2)
LEAVES = st.none() | st.booleans() | st.integers(-3, 3) | st.floats(allow_nan=False) | st.text("xyz", max_size=3)
VALUES = st.recursive(LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3))
DOCUMENTS = st.dictionaries(KEYS, VALUES, max_size=4)


def at(document: Any, key: str) -> str:
    """The value at a key with dots as JSON, or "absent"."""
    for name in key.split("."):
        if isinstance(document, dict) and name in document:
            document = document[name]
        elif isinstance(document, list) and name.isdigit() and int(name) < len(document):
            document = document[int(name)]
        else:
            return "absent"
    text = json.dumps(document)
    return text if len(text) <= 80 else text[:77] + "…"


@given(DOCUMENTS, DOCUMENTS)
def test_differences_are_all_there_is_between_two_documents(one: dict[str, Any], other: dict[str, Any]) -> None:
    found = differences(one, other)
    assert bool(found) == (one != other)
    assert sorted(found) == sorted((key, now, was) for key, was, now in differences(other, one))
    assert len({key for key, _, _ in found}) == len(found)
    for key, was, now in found:
        assert (was, now) == (at(one, key), at(other, key))
    assert differences(one, one) == []


@given(DOCUMENTS, KEYS, st.lists(KEYS, max_size=3))
def test_one_changed_value_is_one_difference(document: dict[str, Any], top: str, path: list[str]) -> None:
    one, other = changed(document), changed(document)
    for copy, value in ((one, 1), (other, 2)):
        nested: Any = value
        for name in reversed(path):
            nested = [None, {name: nested}]
        copy[top] = nested
    assert differences(one, other) == [(".".join([top, *(f"1.{name}" for name in path)]), "1", "2")]
