"""Beam search and whole targets against exhaustive enumeration: over a made-up model, and over the real engine."""

import asyncio
import itertools
import math
from collections.abc import Sequence
from pathlib import Path

import httpx
import numpy as np
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model_build.bundle import open_bundle
from service.engine.messages import Item, MaskOutput
from service.fill_mask import sequence, widened, written
from service.joint_fill import Blank, Tokens, beam_search, score_targets
from service.schemas import TextInput
from service.tokenization import NativeTokenizer
from tests.service.conftest import Service

VOCABULARY = 7


def made_up(item: Item) -> np.ndarray:
    """Probabilities that depend on every token and on the place asked for."""
    rng = np.random.default_rng([*item.input_ids, *item.mask_positions])
    weights = rng.random(VOCABULARY) ** 4 + 1e-6
    return np.asarray(weights / weights.sum())


async def ask(blanks: list[int], items: list[Item]) -> list[MaskOutput]:
    answers = []
    for item in items:
        scores = made_up(item)
        best = np.argsort(-scores)
        answers.append(MaskOutput(best.tolist(), scores[best].tolist(), scores[item.target_ids].tolist()))
    return answers


def by_chain_rule(blank: Blank, tokens: Tokens) -> float:
    ids, product = list(blank.input_ids), 1.0
    for column, token in zip(blank.columns, tokens, strict=True):
        product *= made_up(Item(list(ids), blank.token_type_ids, [column]))[token]
        ids[column] = token
    return product


blanks = st.integers(1, 3).flatmap(
    lambda masks: st.builds(
        lambda before, after: Blank(
            [*before, *[3] * masks, *after],
            [0] * (len(before) + masks + len(after)),
            list(range(len(before), len(before) + masks)),
        ),
        st.lists(st.integers(4, 6), max_size=3),
        st.lists(st.integers(4, 6), max_size=3),
    )
)


@settings(max_examples=30, deadline=None)
@given(given_blanks=st.lists(blanks, min_size=1, max_size=3))
def test_a_beam_of_full_width_finds_exactly_what_enumeration_finds(given_blanks: list[Blank]) -> None:
    found = asyncio.run(beam_search(given_blanks, VOCABULARY**3, {0}, ask))
    for blank, fillings in zip(given_blanks, found, strict=True):
        every = {
            tokens: by_chain_rule(blank, tokens)
            for tokens in itertools.product(range(1, VOCABULARY), repeat=len(blank.columns))
        }
        assert [filling.tokens for filling in fillings] == sorted(every, key=lambda tokens: (-every[tokens], tokens))
        assert [filling.score for filling in fillings] == pytest.approx(sorted(every.values(), reverse=True))


@settings(max_examples=30, deadline=None)
@given(blank=blanks, width=st.integers(1, 5))
def test_a_narrow_beam_finds_fewer_but_scores_them_the_same(blank: Blank, width: int) -> None:
    (fillings,) = asyncio.run(beam_search([blank], width, set(), ask))
    assert 1 <= len(fillings) <= width
    for filling in fillings:
        assert filling.score == pytest.approx(by_chain_rule(blank, filling.tokens))
        assert filling.token_score == pytest.approx(filling.score ** (1 / len(blank.columns)))


@settings(max_examples=30, deadline=None)
@given(blank=blanks, data=st.data())
def test_targets_are_scored_by_the_chain_rule_and_questions_are_shared(blank: Blank, data: st.DataObject) -> None:
    one = st.tuples(*[st.integers(1, VOCABULARY - 1)] * len(blank.columns))
    targets: Sequence[Tokens] = data.draw(st.lists(one, min_size=1, max_size=10, unique=True))
    asked: list[Item] = []

    async def counted(blanks: list[int], items: list[Item]) -> list[MaskOutput]:
        asked.extend(items)
        return await ask(blanks, items)

    (fillings,) = asyncio.run(score_targets([blank], [targets], counted))
    assert [filling.tokens for filling in fillings] == targets
    assert [filling.score for filling in fillings] == pytest.approx([by_chain_rule(blank, each) for each in targets])
    beginnings = {target[:place] for target in targets for place in range(len(blank.columns))}
    assert len(asked) == len(beginnings)


def test_a_probability_of_zero_is_the_worst_and_no_error() -> None:
    async def hopeless(blanks: list[int], items: list[Item]) -> list[MaskOutput]:
        return [MaskOutput([5, 6], [1.0, 0.0], []) for _ in items]

    (fillings,) = asyncio.run(beam_search([Blank([3], [0], [0])], 2, set(), hopeless))
    assert [filling.score for filling in fillings] == [1.0, 0.0]


def test_tokens_are_written_as_people_write_them() -> None:
    assert written(["北", "京"]) == "北京"
    assert written(["new", "york", "##er"]) == "new yorker"
    assert written(["第", "3", "章"]) == "第3章"


def test_texts_are_widened_and_filled_in_place() -> None:
    pair = TextInput(text="一[MASK]二[MASK]", text_pair="三[MASK]")
    assert widened(pair, 1, 2).text == "一[MASK]二[MASK][MASK]"
    assert widened(pair, 2, 3).text_pair == "三[MASK][MASK][MASK]"
    assert sequence(pair, ["天", "##x", "好"]) == "一天二x\n三好"
    assert sequence(TextInput(text="一[MASK]二"), ["天"]) == "一天二"


class Oracle:
    """Chain-rule scores of the bundle `characters`, by ONNX Runtime and text by text."""

    def __init__(self, models: Path) -> None:
        bundle = open_bundle(models / "characters" / "1")
        self.tokenizer = NativeTokenizer(bundle.vocab_path)
        self._session = onnxruntime.InferenceSession(str(bundle.graph("onnx")[0]), providers=["CPUExecutionProvider"])

    def score(self, before: str, tokens: Sequence[str], after: str) -> float:
        pieces = self.tokenizer.pieces
        ids = [self.tokenizer.ids["[CLS]"], *pieces(before)]
        first = len(ids)
        ids += [self.tokenizer.ids["[MASK]"]] * len(tokens) + pieces(after) + [self.tokenizer.ids["[SEP]"]]
        product = 1.0
        for place, token in enumerate(tokens):
            wanted = self.tokenizer.ids[token]
            fed = {
                "input_ids": np.array([ids]),
                "token_type_ids": np.zeros((1, len(ids)), dtype=np.int64),
                "mask_positions": np.array([first + place]),
                "target_ids": np.array([[wanted]]),
            }
            product *= float(self._session.run(["target_scores"], fed)[0][0, 0])
            ids[first + place] = wanted
        return product


@pytest.fixture(scope="session")
def oracle(tiny_models: Path) -> Oracle:
    return Oracle(tiny_models)


def fill(service: Service, **body: object) -> dict:
    answer = httpx.post(f"{service.url}/fill-mask", json=body, timeout=60)
    assert answer.status_code == 200, answer.text
    (result,) = answer.json()["results"]
    return dict(result)


def test_joint_scores_of_the_service_are_those_of_the_chain_rule(service: Service, oracle: Oracle) -> None:
    result = fill(service, text="好[MASK][MASK]天", strategy="joint", top_k=20)
    assert len(result["fills"]) == 20
    scores = [each["score"] for each in result["fills"]]
    assert scores == sorted(scores, reverse=True)
    for each in result["fills"]:
        assert each["score"] == pytest.approx(oracle.score("好", each["tokens"], "天"), rel=1e-4)
        assert each["sequence"] == f"好{''.join(each['tokens'])}天".replace("##", "")


def test_an_open_number_of_masks_is_the_best_of_every_number(service: Service) -> None:
    apart = [fill(service, text=f"好{'[MASK]' * count}天", strategy="joint", top_k=8)["fills"] for count in (1, 2, 3)]
    expected = sorted((each for fills in apart for each in fills), key=lambda each: -each["token_score"])[:8]
    for body in ({"text": "好[MASK]+天", "span": 3}, {"text": "好[MASK]天", "span": 3}):
        found = fill(service, strategy="joint", top_k=8, **body)["fills"]
        assert [each["tokens"] for each in found] == [each["tokens"] for each in expected]
        assert [each["score"] for each in found] == pytest.approx([each["score"] for each in expected], rel=1e-4)


def test_targets_of_several_tokens_are_scored_as_a_whole(service: Service, oracle: Oracle) -> None:
    tokens = [token for token in oracle.tokenizer.tokens if len(token) == 1 and token >= "一"]
    targets = [tokens[0], tokens[1] + tokens[2], tokens[1] + tokens[3], tokens[2] + tokens[1] + tokens[0]]
    result = fill(service, text="好[MASK]天[MASK]", targets=targets, top_k=10)
    assert len(result["masks"]) == 2
    for each in result["masks"][0]:
        assert each["score"] == pytest.approx(oracle.score("好", list(each["token"]), "天[MASK]"), rel=1e-4)
        assert each["token_score"] == pytest.approx(math.pow(each["score"], 1 / len(each["tokens"])), rel=1e-4)
        assert each["sequence"] == f"好{each['token']}天[MASK]"
    ranks = [each["token_score"] for each in result["masks"][0]]
    assert ranks == sorted(ranks, reverse=True)
    assert {each["token"] for each in result["masks"][0]} == set(targets)


@pytest.mark.parametrize(
    ("body", "status", "sentence"),
    [
        ({"text": "好", "strategy": "joint"}, 422, "no mask token"),
        ({"text": "好", "targets": ["很好"]}, 422, "no mask token"),
        ({"text": "[MASK]好[MASK]+", "strategy": "joint"}, 422, "must have one [MASK]+"),
        ({"text": "[MASK]", "strategy": "joint", "span": 9}, 422, "at most 8 tokens"),
        ({"text": "[MASK]", "span": 2}, 422, 'needs "strategy": "joint"'),
        ({"text": "[MASK]", "strategy": "joint", "targets": ["好"]}, 422, "has targets"),
        ({"text": f"[MASK]{'好' * 200}[MASK]", "strategy": "joint"}, 422, "too far apart"),
        ({"inputs": ["[MASK]"] * 20, "strategy": "joint", "span": 8, "top_k": 25}, 413, "more than 2048 texts"),
    ],
)
def test_what_cannot_be_filled_together_is_one_sentence(
    service: Service, body: dict, status: int, sentence: str
) -> None:
    answer = httpx.post(f"{service.url}/fill-mask", json=body, timeout=60)
    assert answer.status_code == status, answer.text[:500]
    assert sentence in answer.json()["detail"]
