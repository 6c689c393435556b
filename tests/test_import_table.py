"""The rooms may only import what the design allows them."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
ROOMS = {"native", "model_build", "training", "service", "release", "benchmarks", "tests"}
ALLOWED = {
    "native": {"numpy"},
    "model_build": {"paddle"},
    "training": {"native", "model_build", "paddle", "paddlenlp"},
    "service": {"native", "model_build.bundle"},
}
GUARDED = ROOMS | {"paddle", "paddlenlp"}
# model_build reads published weights through PaddleNLP, by name, only when asked to.
EXCEPTIONS = {("model_build/weights.py", "paddlenlp")}


def imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            # `from model_build import bundle` is an import of model_build.bundle.
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def permitted(name: str, room: str) -> bool:
    return any(
        name == prefix or name.startswith(prefix + ".") or prefix.startswith(name + ".")
        for prefix in ALLOWED[room] | {room}
    )


@pytest.mark.parametrize("room", ALLOWED)
def test_a_room_imports_only_what_the_table_allows(room: str) -> None:
    wrong = []
    for path in sorted((ROOT / room).rglob("*.py")):
        file = path.relative_to(ROOT).as_posix()
        for name in imports(path):
            top = name.split(".")[0]
            if top in GUARDED and not permitted(name, room) and (file, top) not in EXCEPTIONS:
                wrong.append(f"{file} imports {name}")
    assert not wrong


def test_the_bundle_contract_does_not_need_paddle() -> None:
    assert not {name for name in imports(ROOT / "model_build" / "bundle.py") if name.startswith("paddle")}


def test_the_check_itself_sees_a_forbidden_import() -> None:
    assert not permitted("paddle", "service")
    assert not permitted("model_build.ernie", "service")
    assert permitted("model_build.bundle", "service")
