"""The requests of a run with the right answers, which the service gave before the faults began."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from benchmarks.serving.connection import HttpConnection, post
from benchmarks.serving.questions import Check, Question, classified, close, filled, masked_at_random, same_fills
from benchmarks.serving.texts import TEXTS, body

CLASSIFIER, LM = "sentiment", "masked-lm"
INFER = f"/v2/models/{CLASSIFIER}/infer"
# More candidates are asked for before the faults, because candidates with nearly equal scores may change places.
MORE_CANDIDATES = 5
LARGE_TEXTS, LARGE_CANDIDATES = 24, 60
"""An answer of more than 100 kB, for clients that read slowly."""
LABEL_SEPARATOR = "@"
"""Every version of the classifier has other labels: the name, this character, and the version."""


@dataclass(frozen=True)
class Questions:
    """Requests by purpose."""

    usual: list[Question]
    large: list[Question]
    """With large answers."""
    refused: list[Question]
    visits: list[Question]
    """GET requests."""


def labels_of(names: list[str], version: str) -> list[str]:
    """The labels of a version."""
    return [f"{name.partition(LABEL_SEPARATOR)[0]}{LABEL_SEPARATOR}{version}" for name in names]


def of_version(check: Check) -> Check:
    """Checks that all labels are those of the version that the answer names, and the answer without the version."""

    def checked(answer: dict[str, Any]) -> str | None:
        plain = copy.deepcopy(answer)
        for result in plain["results"]:
            for label in result["labels"]:
                name, _, version = label["label"].partition(LABEL_SEPARATOR)
                if version != answer["version"]:
                    return f"the label {label['label']} is not of version {answer['version']}"
                label["label"] = name
        return check(plain)

    return checked


def inferred(expected: dict[str, float], tolerance: float) -> Check:
    """Compares the labels and scores of an answer of /v2 for one text."""

    def check(answer: dict[str, Any]) -> str | None:
        outputs = {each["name"]: each["data"] for each in answer["outputs"]}
        found = dict(zip(outputs["labels"], outputs["scores"], strict=True))
        wanted = {f"{name}{LABEL_SEPARATOR}{answer['model_version']}": score for name, score in expected.items()}
        if found.keys() != wanted.keys() or not all(close(found[name], wanted[name], tolerance) for name in wanted):
            return f"labels {found}, before {wanted}"
        return None

    return check


class Asking:
    """Asks the idle service and makes questions of its answers."""

    def __init__(self, url: str, key: str, tolerances: dict[str, float], rng: random.Random) -> None:
        self._url = url
        self._headers = f"Authorization: Bearer {key}\r\n"
        self._tolerances = tolerances
        self._rng = rng
        self._connection = HttpConnection(url)

    async def questions(self, count: int) -> Questions:
        """`count` of each kind."""
        usual, large = [], []
        for _ in range(count):
            usual += [
                await self._classify("one text", [self._text(8)]),
                await self._classify("one long text", [self._text(40)]),
                await self._classify("eight texts", [self._text(4) for _ in range(8)]),
                await self._fill("one mask", [masked_at_random(self._text(2), self._rng)], 5),
                await self._joint(),
                await self._infer(),
            ]
        for _ in range(max(1, count // 8)):
            masked = [masked_at_random(self._text(2), self._rng) for _ in range(LARGE_TEXTS)]
            large.append(await self._fill("large answer", masked, LARGE_CANDIDATES))
        self._connection.close()
        return Questions(usual, large, refused_questions(), visits())

    def _text(self, sentences: int) -> str:
        return "".join(self._rng.choices(TEXTS, k=self._rng.randint(1, sentences)))

    async def _ask(self, path: str, sent: bytes) -> dict[str, Any]:
        answer = await self._connection.ask(post(self._url, path, sent, headers=self._headers))
        if answer.status != 200:
            raise SystemExit(f"before any fault, {path} was answered {answer.status}: {answer.body.decode()}")
        found: dict[str, Any] = json.loads(answer.body)
        return found

    async def _classify(self, kind: str, texts: list[str]) -> Question:
        sent = body(inputs=texts, model=CLASSIFIER, truncation="window")
        results = (await self._ask("/classify", sent))["results"]
        scores = [{_plain(label["label"]): label["score"] for label in each["labels"]} for each in results]
        check = of_version(classified(scores, self._tolerances[CLASSIFIER]))
        return Question(kind, CLASSIFIER, "/classify", sent, check=check)

    async def _fill(self, kind: str, texts: list[str], candidates: int) -> Question:
        more = await self._ask("/fill-mask", body(inputs=texts, top_k=candidates + MORE_CANDIDATES))
        expected = [
            [[(each["token"], each["score"]) for each in mask] for mask in result["masks"]]
            for result in more["results"]
        ]
        check = all_filled(expected, self._tolerances[LM])
        return Question(kind, LM, "/fill-mask", body(inputs=texts, top_k=candidates), check=check)

    async def _joint(self) -> Question:
        text = masked_at_random(self._rng.choice(TEXTS[:5]), self._rng, 2)
        sent = body(inputs=text, strategy="joint", top_k=3)
        check = same_fills(await self._ask("/fill-mask", sent), self._tolerances[LM])
        return Question("masks together", LM, "/fill-mask", sent, check=check)

    async def _infer(self) -> Question:
        inputs = [{"name": "text", "shape": [1], "datatype": "BYTES", "data": [self._text(2)]}]
        sent = body(inputs=inputs)
        outputs = {each["name"]: each["data"] for each in (await self._ask(INFER, sent))["outputs"]}
        scores = dict(zip(map(_plain, outputs["labels"]), outputs["scores"], strict=True))
        return Question("/v2 infer", CLASSIFIER, INFER, sent, check=inferred(scores, self._tolerances[CLASSIFIER]))


def _plain(label: str) -> str:
    return label.partition(LABEL_SEPARATOR)[0]


def all_filled(expected: list[list[list[tuple[str, float]]]], tolerance: float) -> Check:
    """Compares the candidates of every mask of every text."""

    def check(answer: dict[str, Any]) -> str | None:
        for result, masks in zip(answer["results"], expected, strict=True):
            known = {token for mask in masks for token, _ in mask}
            if unknown := {each["token"] for mask in result["masks"] for each in mask} - known:
                return f"candidates {sorted(unknown)} were not there before the faults"
            if sentence := filled(masks, tolerance)({"results": [result]}):
                return sentence
        return None

    return check


def refused_questions() -> list[Question]:
    """Requests with an error of the client."""
    return [
        Question("invalid JSON", "", "/classify", b'{"inputs": ', 400),
        Question("unknown model", "", "/classify", body(inputs="好", model="absent"), 404),
        Question("wrong task", "", "/classify", body(inputs="好", model=LM), 409),
        Question("empty text", CLASSIFIER, "/classify", body(inputs=["好", ""], model=CLASSIFIER), 422),
        Question("no mask", LM, "/fill-mask", body(inputs="没有"), 422),
        Question("unknown path", "", "/nothing", b"{}", 404),
        Question("wrong method", "", "/classify", b"", 405, method="GET"),
        Question("unknown model of /v2", "", "/v2/models/absent/infer", b'{"inputs": []}', 404),
    ]


def visits() -> list[Question]:
    """GET requests with checks of their answers."""

    def has(name: str, allowed: Callable[[Any], bool]) -> Check:
        return lambda answer: None if allowed(answer.get(name)) else f"{name} is {answer.get(name)!r}"

    def models(found: Any) -> bool:
        return isinstance(found, list) and {each["name"] for each in found} == {CLASSIFIER, LM}

    checks: dict[str, Check] = {
        "/health/live": has("status", lambda status: status == "live"),
        "/health/ready": has("status", lambda status: status == "ready"),
        "/v2/health/live": lambda answer: None,
        "/models": has("models", models),
        f"/models/{LM}": has("name", lambda name: name == LM),
        f"/v2/models/{CLASSIFIER}": has("name", lambda name: name == CLASSIFIER),
        "/metrics": lambda answer: None,
        "/openapi.json": has("openapi", bool),
    }
    return [Question(path, "", path, b"", check=check, method="GET") for path, check in checks.items()]
