"""What the comparison of two builds does with figures, processes and checkouts; nothing is timed here."""

from pathlib import Path

import pytest

from benchmarks.serving.builds import BEFORE, NOW, Figure, command_of, setups_of
from benchmarks.serving.service import process_name

MODELS = Path(__file__).parents[3] / "models"
TEXTS = {"short": ["好"], "long": ["很好"]}


@pytest.mark.parametrize(("lower_is_better", "expected"), [(False, [2.0, 0.5]), (True, [0.5, 2.0])])
def test_a_ratio_above_one_is_better_for_this_checkout(lower_is_better: bool, expected: list[float]) -> None:
    figure = Figure("some", "unit", lambda service: 0.0, lower_is_better)
    figure.values = {BEFORE: [1.0, 2.0], NOW: [2.0, 1.0]}
    assert figure.ratios() == expected


@pytest.mark.parametrize(
    ("command", "name"),
    [
        (["python", "-m", "service.api.worker", "--control", "x"], "worker"),
        (["python", "-P", "-c", "from service.api.worker import main; main()"], "worker"),
        (["python", "-m", "service.engine", "--bundle", str(MODELS / "sentiment" / "3")], "sentiment"),
        (["python", "-c", "import service.engine", str(MODELS / "masked-lm" / "2")], "masked-lm"),
        (["python", "-m", "service.cli"], None),
    ],
)
def test_the_processes_of_earlier_and_later_layouts_are_recognised(command: list[str], name: str | None) -> None:
    assert process_name(command) == name


def test_only_the_chosen_measures_are_set_up(tmp_path: Path) -> None:
    (setup,) = setups_of(["throughput", "charset"], tmp_path, tmp_path, TEXTS, ["--runtime", "auto"], 1)
    assert {each.name.split()[0] for each in setup.figures} == {"throughput", "charset"}
    assert setup.models == {BEFORE: tmp_path / "models", NOW: MODELS}
    (setup,) = setups_of(["one_connection"], tmp_path, tmp_path, TEXTS, [], 1)
    assert len(setup.figures) == 4


def test_a_checkout_without_an_environment_is_named(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"ernie-serve does not exist; run `make .venv/.ready`"):
        command_of(tmp_path)
