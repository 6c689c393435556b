"""Beam search and whole targets against exhaustive enumeration: over a made-up model, and over the real engine."""

import asyncio
import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import httpx
import numpy as np
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model_build.bundle import open_bundle
from service.api.models.tokenization import NativeTokenizer
from service.api.request_bodies import TextInput
from service.api.tasks.fill_mask.joint import Blank, Tokens, beam_search, prefixes_of, score_targets
from service.api.tasks.fill_mask.masks import joined, sequence, widened
from service.messages.inference import Item, MaskOutput
from tests.service.conftest import Service

VOCABULARY = 7


def made_up(item: Item) -> np.ndarray:
    """Probabilities that depend on every token and on the place asked for."""
    rng = np.random.default_rng([*item.input_ids, *item.mask_positions])
    weights = rng.random(VOCABULARY) ** 4 + 1e-6
    return np.asarray(weights / weights.sum())


async def ask(count: int, questions: Iterable[tuple[int, Item]]) -> list[MaskOutput]:
    answers = []
    for _, item in questions:
        scores = made_up(item)
        best = np.argsort(-scores)
        answers.append(MaskOutput(best.tolist(), scores[best].tolist(), scores[item.target_ids].tolist()))
    assert len(answers) == count
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
    asked: list[int] = []

    async def counted(count: int, questions: Iterable[tuple[int, Item]]) -> list[MaskOutput]:
        asked.append(count)
        return await ask(count, questions)

    (fillings,) = asyncio.run(score_targets([blank], {len(blank.columns): prefixes_of(targets)}, counted))
    assert fillings.keys() == set(targets)
    for target in targets:
        assert fillings[target].tokens == target
        assert fillings[target].score == pytest.approx(by_chain_rule(blank, target))
    beginnings = {target[:place] for target in targets for place in range(len(blank.columns))}
    assert sum(asked) == len(beginnings)


def test_targets_of_several_lengths_are_scored_each_in_its_own_blank() -> None:
    given = [Blank([4, *[3] * masks, 5], [0] * (masks + 2), list(range(1, masks + 1))) for masks in (1, 2, 1)]
    targets = {1: prefixes_of([(4,), (6,)]), 2: prefixes_of([(4, 5), (4, 6), (5, 5)])}
    found = asyncio.run(score_targets(given, targets, ask))
    assert [list(each) for each in found] == [[(4,), (6,)], [(4, 5), (4, 6), (5, 5)], [(4,), (6,)]]
    for blank, fillings in zip(given, found, strict=True):
        for tokens, filling in fillings.items():
            assert filling.score == pytest.approx(by_chain_rule(blank, tokens))


def test_a_probability_of_zero_is_the_worst_and_no_error() -> None:
    async def hopeless(count: int, questions: Iterable[tuple[int, Item]]) -> list[MaskOutput]:
        return [MaskOutput([5, 6], [1.0, 0.0], []) for _ in questions]

    (fillings,) = asyncio.run(beam_search([Blank([3], [0], [0])], 2, set(), hopeless))
    assert [filling.score for filling in fillings] == [1.0, 0.0]


class Read(list[float]):
    """A list that counts how many of its elements have been looked at."""

    looks = 0

    def __iter__(self) -> Iterator[float]:
        for each in super().__iter__():
            Read.looks += 1
            yield each


def test_of_the_candidates_only_those_are_looked_at_that_may_come_into_the_beam() -> None:
    Read.looks = 0
    rows, columns, width, known = 3, 3, 20, 1000

    async def many(count: int, questions: Iterable[tuple[int, Item]]) -> list[MaskOutput]:
        scores = [0.5 / place for place in range(1, known + 1)]
        return [MaskOutput(list(range(known)), Read(scores), []) for _ in questions]  # type: ignore[arg-type]

    blank = Blank([3] * columns, [0] * columns, list(range(columns)))
    assert [len(beam) for beam in asyncio.run(beam_search([blank] * rows, width, {0}, many))] == [width] * rows
    # One look ahead for each filling of the beam, one for each way taken, and the special token.
    assert Read.looks <= rows * columns * 3 * (width + 1)


class Cut(tuple[int, ...]):
    """A target that counts how often its beginning is taken."""

    cuts = 0

    def __getitem__(self, key: object) -> object:  # type: ignore[override]
        Cut.cuts += 1
        return super().__getitem__(key)  # type: ignore[call-overload]


def test_the_work_for_targets_grows_with_their_number_and_not_with_its_square() -> None:
    Cut.cuts = 0
    targets = [Cut((first, second)) for first in range(100) for second in range(10)]
    places = prefixes_of(targets)
    assert [len(place) for place in places] == [1, 100]
    assert Cut.cuts == 2 * len(targets)


@pytest.mark.parametrize("kind", ["beam", "targets"])
def test_others_get_their_turn_after_every_blank(kind: str) -> None:
    given, turns = [Blank([3, 3], [0, 0], [0, 1])] * 50, 0

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async def main() -> None:
        running = asyncio.create_task(others())
        if kind == "beam":
            await beam_search(given, 4, {0}, ask)
        else:
            await score_targets(given, {2: prefixes_of([(4, 5), (5, 5)])}, ask)
        running.cancel()

    asyncio.run(main())
    assert turns >= 2 * len(given)  # each of them has two columns


@pytest.mark.parametrize("kind", ["beam", "targets"])
def test_too_many_questions_are_refused_before_one_is_made(kind: str) -> None:
    class Refused(Exception):
        pass

    class Watched(Blank):
        def asking(self, filled: Tokens, targets: Sequence[int] = ()) -> Item:
            raise AssertionError("a question was made")

    async def refuse(count: int, questions: Iterable[tuple[int, Item]]) -> list[MaskOutput]:
        raise Refused(count)

    given = [Watched([3, 3], [0, 0], [0, 1])] * 50
    targets = {2: prefixes_of([(4, 5)])}
    asking = beam_search(given, 4, {0}, refuse) if kind == "beam" else score_targets(given, targets, refuse)
    with pytest.raises(Refused, match="50"):
        asyncio.run(asking)  # type: ignore[arg-type]


def test_tokens_are_written_as_people_write_them() -> None:
    assert joined(["北", "京"]) == "北京"
    assert joined(["new", "york", "##er"]) == "new yorker"
    assert joined(["第", "3", "章"]) == "第3章"


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
        self.tokenizer = NativeTokenizer(bundle.vocab_path, bundle.manifest.tokenizer)
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
        ({"text": "[MASK]", "targets": ["好", "好" * 9]}, 422, "targets[1] has 9 tokens; at most 8 are allowed."),
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
