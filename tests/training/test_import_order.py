"""The folders of training may only import the folders below them."""

import ast
from pathlib import Path

import pytest

TRAINING = Path(__file__).resolve().parents[2] / "training"
DATA = {"runs", "corpus", "datasets", "tasks"}
LOOPS = {"pretraining", "finetuning", "distilling"}
ALLOWED = {
    "runs": set(),
    "corpus": {"runs"},
    "datasets": {"runs", "corpus"},
    "tasks": {"datasets"},
    "reports": {"datasets", "tasks", "pretraining.filled_samples"},
    # A loop may have teachers, and a teacher assistant runs a loop.
    **dict.fromkeys(LOOPS, DATA | LOOPS | {"reports"}),
    "compressing": DATA | LOOPS,
    "cli": DATA | LOOPS | {"compressing", "demo"},
}


def imports(path: Path) -> set[str]:
    """Modules of training that a file imports, without "training."; `from training import x` counts as x."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return {name.removeprefix("training.") for name in found if name.startswith("training.")}


def permitted(name: str, folder: str) -> bool:
    return any(name == prefix or name.startswith(prefix + ".") for prefix in ALLOWED[folder] | {folder})


@pytest.mark.parametrize("folder", sorted(ALLOWED))
def test_a_folder_imports_only_folders_below_it(folder: str) -> None:
    wrong = [
        f"{path.relative_to(TRAINING)} imports training.{name}"
        for path in sorted((TRAINING / folder).rglob("*.py"))
        for name in sorted(imports(path))
        if not permitted(name, folder)
    ]
    assert not wrong


def test_every_folder_has_a_row() -> None:
    assert {path.name for path in TRAINING.iterdir() if (path / "__init__.py").is_file()} == set(ALLOWED)


def test_the_check_itself_sees_a_forbidden_import() -> None:
    assert not permitted("finetuning.loop.finetune", "tasks")
    assert not permitted("pretraining.loop.pretrain", "reports")
    assert permitted("pretraining.filled_samples.FilledSample", "reports")
