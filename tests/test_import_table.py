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
    "service": {"native", "model_build.bundle", "model_build.bundle_check", "model_build.graph_reader"},
}
# Inside the service, arrows go only downward: the three processes know the messages, and not each other.
SERVICE_FILES = {"endpoints", "logs", "metrics", "problem", "settings"}
SERVICE = {
    "messages": set(),
    "runtime": set(),
    "engine": {"messages", "runtime"},
    "api/models": {"messages", "api", *SERVICE_FILES},
    "api/tasks": {"messages", "api", *SERVICE_FILES},
    "api": {"messages", *SERVICE_FILES},
    "parent": {"messages", "runtime", *SERVICE_FILES},
    ".": {"messages", "runtime", "start", "engine", "metric_files", *SERVICE_FILES},
}
# A module that must not know those above it: the road of a request goes down this list.
ROAD = [
    "worker",
    "app",
    "connection",
    "openapi",
    "asgi_adapter",
    "other_requests",
    "exchange",
    "gate",
    "telemetry",
    "request",
]
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


@pytest.mark.parametrize("folder", SERVICE)
def test_a_folder_of_the_service_imports_only_what_the_table_allows(folder: str) -> None:
    own = folder.split("/")[0]
    wrong = []
    found = (ROOT / "service").glob("*.py") if folder == "." else (ROOT / "service" / folder).rglob("*.py")
    for path in sorted(found):
        if path.name == "start.py":
            continue  # starts the parent
        for name in imports(path):
            if name.startswith("service."):
                target = name.split(".")[1]
                if target != own and target not in SERVICE[folder]:
                    wrong.append(f"{path.relative_to(ROOT)} imports {name}")
    assert not wrong


@pytest.mark.parametrize("module", ROAD)
def test_the_road_of_a_request_goes_downward(module: str) -> None:
    above = {f"service.api.{name}" for name in ROAD[: ROAD.index(module)]}
    assert not imports(ROOT / "service" / "api" / f"{module}.py") & above


def test_one_file_knows_uvicorns_private_side_and_one_more_starts_it() -> None:
    using = {
        path.relative_to(ROOT / "service").as_posix(): {
            name for name in imports(path) if name.split(".")[0] == "uvicorn"
        }
        for path in (ROOT / "service").rglob("*.py")
    }
    assert {name for name, found in using.items() if found} == {"api/connection.py", "api/worker.py"}
    assert using["api/worker.py"] == {"uvicorn"}, "the public package only"


def test_the_bundle_contract_does_not_need_paddle() -> None:
    assert not {name for name in imports(ROOT / "model_build" / "bundle.py") if name.startswith("paddle")}


def test_the_check_itself_sees_a_forbidden_import() -> None:
    assert not permitted("paddle", "service")
    assert not permitted("model_build.ernie", "service")
    assert permitted("model_build.bundle", "service")
