"""Loads bundles with random defects into a running service: each must be served with the right values, or refused.

    python -m benchmarks.serving.fuzz_bundles --cases 150 --seed 1

Each case is a copy of the embedded classifier with one defect: a field of `bundle.json` with another value, a missing,
empty, truncated or replaced file, a vocabulary of another size, or a graph with other inputs or outputs. `POST
/admin/reload` loads several cases at a time. A case is right if its scores are those that the undamaged graph gives
under the labels and the kind of scores of the damaged `bundle.json`, or if it is refused in one sentence. Ends with
status 1 if a case is wrong, or if the parent process or the undamaged model stops serving.
"""

from __future__ import annotations

import collections
import json
import math
import random
import shutil
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.arguments import parser_of
from benchmarks.rounds import progress
from benchmarks.serving.fuzz_bodies import value
from benchmarks.serving.service import Service, serving
from model_build.bundle import find_bundles

# All rules of tokenizers split these texts alike, and they have no letters to fold.
TEXTS = ("房间很干净服务也很周到", "太差了再也不来了", "还可以", "早餐不好吃")
BASE = "base"
CASES_PER_RELOAD = 10
TOLERANCE = 1e-4
MOST_CHARACTERS = 600

Manifest = dict[str, Any]


class Case(NamedTuple):
    """A damaged bundle."""

    number: int
    kind: str
    folder: Path


# Defects


def field(rng: random.Random, bundle: Path, other: Path) -> None:
    """Replaces, removes or adds a field of bundle.json, at any depth."""
    manifest = json.loads((bundle / "bundle.json").read_text(encoding="utf-8"))
    place: Any = manifest
    while True:
        keys = list(place) if isinstance(place, dict) else list(range(len(place)))
        key = rng.choice(keys)
        if not (isinstance(place[key], dict | list) and place[key]) or rng.random() < 0.4:
            break
        place = place[key]
    action = rng.randrange(4)
    if action == 0:
        del place[key]
    elif action == 1 and isinstance(place[key], int | float) and place[key] is not True:
        place[key] = rng.choice((-1, 0, 1, 2, 3, 7, place[key] + 1, place[key] - 1, place[key] * 2, 2**31, 2**70))
    else:
        place[key] = value(rng)
    text = json.dumps(manifest, ensure_ascii=True)
    (bundle / "bundle.json").write_text(text, encoding="utf-8")


def labels(rng: random.Random, bundle: Path, other: Path) -> None:
    """Replaces the labels or the kind of scores by others that may be valid."""
    manifest = json.loads((bundle / "bundle.json").read_text(encoding="utf-8"))
    if rng.random() < 0.5:
        manifest["scores"] = rng.choice(("softmax", "sigmoid", "raw", "Softmax", None))
    else:
        manifest["labels"] = rng.sample(["a", "b", "c", "负面", "正面", "", " ", "a"], rng.randint(0, 4))
    (bundle / "bundle.json").write_text(json.dumps(manifest), encoding="utf-8")


def file_of(rng: random.Random, bundle: Path, other: Path) -> None:
    """Removes, empties, truncates, replaces or exchanges a file."""
    files = sorted(path for path in bundle.rglob("*") if path.is_file())
    path = rng.choice(files)
    content = path.read_bytes()
    action = rng.randrange(6)
    if action == 0:
        path.unlink()
    elif action == 1:
        path.write_bytes(b"")
    elif action == 2:
        # A list of tokens without its end is another, valid vocabulary: it is cut in its first quarter.
        path.write_bytes(content[: rng.randrange(len(content) // 4)])
    elif action == 3:
        path.write_bytes(rng.randbytes(rng.randint(1, 2000)))
    elif action == 4:
        path.unlink()
        path.mkdir()
    else:
        path.write_bytes(rng.choice(files).read_bytes())


def vocabulary(rng: random.Random, bundle: Path, other: Path) -> None:
    """Adds tokens that the embedding table lacks, doubles one, or removes a special token."""
    path = bundle / "vocab.txt"
    tokens = path.read_text(encoding="utf-8").splitlines()
    action = rng.randrange(3)
    if action == 0:
        tokens += [f"[new{number}]" for number in range(rng.choice((1, 10, 5000)))]
    elif action == 1:
        tokens[rng.randrange(len(tokens))] = tokens[rng.randrange(len(tokens))]
    else:
        special = rng.choice(("[CLS]", "[SEP]", "[UNK]"))
        tokens[tokens.index(special)] = f"{special}x"
    path.write_text("\n".join(tokens) + "\n", encoding="utf-8")


def graph(rng: random.Random, bundle: Path, other: Path) -> None:
    """Replaces the graph by that of another task, or changes its inputs or outputs."""
    import onnx

    path = next(bundle.glob("graph/*.onnx"))
    if rng.random() < 0.3:
        shutil.copyfile(next(other.glob("graph/*.onnx")), path)
        return
    model = onnx.load(str(path))
    action = rng.randrange(4)
    if action == 0:
        del model.graph.output[:]
    elif action == 1:
        model.graph.output[0].name = model.graph.node[rng.randrange(len(model.graph.node))].output[0]
    elif action == 2:
        del model.graph.input[rng.randrange(len(model.graph.input))]
    else:
        dimension = model.graph.input[0].type.tensor_type.shape.dim[rng.randrange(2)]
        dimension.dim_value = rng.choice((0, 1, 3, 1_000_000))
    onnx.save(model, str(path))


KINDS: dict[str, tuple[int, Callable[[random.Random, Path, Path], None]]] = {
    "field": (50, field),
    "labels": (10, labels),
    "file": (20, file_of),
    "vocabulary": (8, vocabulary),
    "graph": (12, graph),
}


def make_case(number: int, seed: int, models: Path, base: Path, other: Path) -> Case:
    """Writes the bundle of a case to `models`."""
    rng = random.Random(f"{seed} {number}")
    kind = rng.choices(list(KINDS), [weight for weight, _ in KINDS.values()])[0]
    folder = models / f"case-{number}" / "1"
    copy_of(base, folder, f"case-{number}")
    KINDS[kind][1](rng, folder, other)
    return Case(number, kind, folder)


def copy_of(base: Path, folder: Path, name: str) -> None:
    """A copy of the bundle under another name."""
    shutil.copytree(base, folder)
    manifest = json.loads((folder / "bundle.json").read_text(encoding="utf-8"))
    (folder / "bundle.json").write_text(json.dumps({**manifest, "name": name}), encoding="utf-8")


# Verdicts


def right_scores(logits: list[float], manifest: Manifest) -> dict[str, float]:
    """Scores by label: the logits under the labels and the kind of scores of this bundle.json."""
    kind = manifest.get("scores", "softmax")
    if kind == "sigmoid":
        scores = [1 / (1 + math.exp(-each)) for each in logits]
    elif kind == "raw":
        scores = logits
    else:
        total = sum(map(math.exp, logits))
        scores = [math.exp(each) / total for each in logits]
    names = manifest.get("labels") or [f"LABEL_{number}" for number in range(len(scores))]
    return dict(zip(names, scores, strict=False))


def wrong_scores(given: list[dict[str, float]], logits: list[list[float]], manifest: Manifest) -> str | None:
    """Why the scores of the texts are wrong; None if they are right."""
    for text, scores, each in zip(TEXTS, given, logits, strict=True):
        right = right_scores(each, manifest)
        if scores.keys() != right.keys():
            return f"{text} has the labels {sorted(scores)}, not {sorted(right)}"
        if worst := [name for name in right if not abs(scores[name] - right[name]) <= TOLERANCE]:
            return f"{text} has {scores[worst[0]]:.6g} for {worst[0]}, not {right[worst[0]]:.6g}"
    return None


def wrong_sentence(sentence: str) -> str | None:
    """Why the reason of a refusal is not one sentence; None if it is one."""
    if "\n" in sentence or "Traceback" in sentence:
        return "the reason of the refusal has several lines"
    if not 10 <= len(sentence) <= MOST_CHARACTERS:
        return f"the reason of the refusal has {len(sentence)} characters"
    return None


def refusal_of(case: Case, refused: dict[str, str]) -> str | None:
    """The reason for which the service refused the case: it names the folder, or the model."""
    name = case.folder.parent.name
    return next((text for key, text in refused.items() if key.split("/")[0] == name or f"/{name}/" in text), None)


def post(url: str, body: Any) -> tuple[int, Any]:
    """The status and the document of an answer."""
    request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=300) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read() or b"{}")


def scores_of(url: str, model: str, **fields: Any) -> list[dict[str, float]] | str:
    """The scores of the texts by label, or the error."""
    status, answer = post(f"{url}/classify", {"inputs": list(TEXTS), "model": model, **fields})
    if status != 200:
        return f"{status} {answer.get('detail')}"
    return [{each["label"]: each["score"] for each in result["labels"]} for result in answer["results"]]


def judge(service: Service, case: Case, done: dict[str, Any], logits: list[list[float]]) -> tuple[str, str | None]:
    """What became of a case, and why that is wrong."""
    if (sentence := refusal_of(case, done["refused"])) is not None:
        return "refused", wrong_sentence(sentence)
    if not (case.folder / "bundle.json").is_file():
        return "refused", None  # without it, the folder is not a bundle, and the service does not look at it
    manifest = json.loads((case.folder / "bundle.json").read_text(encoding="utf-8"))
    if manifest["name"] not in done["loaded"] + done["unchanged"]:
        return "lost", "the case was neither loaded nor refused"
    given = scores_of(service.url, manifest["name"])
    if isinstance(given, str):
        return "not served", f"the model is loaded, but it answers {given}"
    return "served", wrong_scores(given, logits, manifest)


def fuzz(models: Path, cases: int, seed: int, seconds: float) -> tuple[dict[str, collections.Counter[str]], list[str]]:
    """The number of cases by kind and outcome, and a sentence for each wrong one. `seconds`: no new reload after it."""
    originals = {bundle.manifest.task: bundle.directory for bundle in find_bundles(models)}
    base, other = originals["classify"], originals["fill-mask"]
    counts: dict[str, collections.Counter[str]] = {kind: collections.Counter() for kind in KINDS}
    wrong: list[str] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        copy_of(base, folder / BASE / "1", BASE)
        names = json.loads((base / "bundle.json").read_text(encoding="utf-8"))["labels"]
        with serving(folder, settings={"ERNIE_ADMIN": "true"}) as service:
            raw = scores_of(service.url, BASE, raw_scores=True)
            if isinstance(raw, str):
                raise SystemExit(f"the undamaged bundle is not served: {raw}")
            logits = [[scores[label] for label in names] for scores in raw]
            begun = time.monotonic()
            for first in progress(range(0, cases, CASES_PER_RELOAD), unit="reload"):
                if time.monotonic() - begun > seconds:
                    break
                numbers = range(first, min(cases, first + CASES_PER_RELOAD))
                made = [make_case(number, seed, folder, base, other) for number in numbers]
                _, done = post(f"{service.url}/admin/reload", {})
                for case in made:
                    outcome, why = judge(service, case, done, logits)
                    counts[case.kind][outcome] += 1
                    if why:
                        wrong.append(f"case {case.number} ({case.kind}): {why}")
                    shutil.rmtree(case.folder.parent)
                if service.process.poll() is not None:
                    wrong.append("the parent process has ended")
                    break
                if scores_of(service.url, BASE, raw_scores=True) != raw:
                    wrong.append("the undamaged model gives other scores")
    return counts, wrong


def main() -> int:
    """Prints the table."""
    parser = parser_of(__doc__, models=True, seed=True)
    parser.add_argument("--cases", type=int, default=150, help="number of damaged bundles (default: 150)")
    parser.add_argument(
        "--seconds", type=float, default=math.inf, help="load no further bundles after this time (default: no limit)"
    )
    arguments = parser.parse_args()
    counts, wrong = fuzz(arguments.models, arguments.cases, arguments.seed, arguments.seconds)
    outcomes = sorted({outcome for counter in counts.values() for outcome in counter})
    print(f"{'':14}" + "".join(f"{outcome:>12}" for outcome in outcomes))
    for kind, counter in counts.items():
        print(f"{kind:14}" + "".join(f"{counter[outcome]:>12}" for outcome in outcomes))
    print(f"{sum(sum(counter.values()) for counter in counts.values())} cases; {len(wrong)} wrong.")
    for sentence in wrong:
        print(f"  {sentence}")
    return 1 if wrong else 0


if __name__ == "__main__":
    raise SystemExit(main())
