"""What is taken as plainly good is what pydantic takes, read as the same; and what is usual is taken."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from service.plain import PlainClassify, PlainText, plain_classify, plain_fill_mask
from service.problems import Problem
from service.schemas import MAX_INPUTS, MAX_TARGET_CHARACTERS, ClassifyRequest, FillMaskRequest

READERS: dict[str, tuple[Any, type[BaseModel]]] = {
    "classify": (plain_classify, ClassifyRequest),
    "fill-mask": (plain_fill_mask, FillMaskRequest),
}

texts = st.one_of(
    st.text(max_size=6),
    st.sampled_from(["今天", "[MASK]", "", " ", "\u3000\t", "\ud800", "a\udc00b", "\x00", "\u0085", "\u200b"]),
)
values: st.SearchStrategy[Any] = st.one_of(
    texts, st.none(), st.booleans(), st.integers(-2, 3), st.sampled_from([600_000, 600_001, 2**70, 1.0, 1.5, -0.0])
)
pairs = st.dictionaries(st.sampled_from(["text", "text_pair", "more"]), values, max_size=3)
lists = st.lists(st.one_of(texts, pairs, values), max_size=3)
valid: dict[str, Any] = {
    "inputs": ["今[MASK]", ["a", {"text": "b"}], {"text": "a", "text_pair": "b"}],
    "text": ["[MASK]"],
    "text_pair": ["b", None],
    "model": ["reviews", None],
    "top_k": [1, None],
    "timeout_ms": [600_000, None],
    "targets": [["今"], None],
    "strategy": ["independent", "joint"],
    "span": [1, None],
}
fields: dict[str, st.SearchStrategy[Any]] = {
    "inputs": st.one_of(texts, pairs, lists, values),
    "text": values,
    "text_pair": values,
    "model": values,
    "top_k": values,
    "timeout_ms": values,
    "truncation": st.one_of(values, st.sampled_from(["error", "truncate", "window", "Window"])),
    "priority": st.one_of(values, st.sampled_from(["interactive", "batch", "low"])),
    "targets": st.one_of(values, st.lists(st.one_of(texts, values), max_size=2)),
    "strategy": st.one_of(values, st.sampled_from(["independent", "joint"])),
    "span": values,
    "unknown": values,
}
# As pairs, so that a field may come twice.
any_member = st.sampled_from(sorted(fields)).flatmap(lambda name: st.tuples(st.just(name), fields[name]))
good_member = st.sampled_from(sorted(valid)).flatmap(
    lambda name: st.tuples(st.just(name), st.sampled_from(valid[name]))
)
members = st.one_of(st.lists(any_member), st.lists(good_member, max_size=3))
good = st.fixed_dictionaries(
    {"inputs": st.one_of(st.just("今[MASK]"), st.just({"text": "a", "text_pair": "b"}), st.just(["a", {"text": "b"}]))}
)


def written(pairs: list[tuple[str, Any]], escaped: bool) -> bytes:
    """JSON of the members, twice where they come twice; lone surrogates can only be written escaped."""
    inside = ", ".join(f"{json.dumps(name)}: {json.dumps(value, ensure_ascii=escaped)}" for name, value in pairs)
    return f"{{{inside}}}".encode("utf-8", "surrogatepass")


def by_pydantic(model: type[BaseModel], body: bytes) -> BaseModel | None:
    """As FastAPI reads it."""
    try:
        return model.model_validate(json.loads(body))
    except (ValidationError, Problem, ValueError):
        return None


def told(read: Any) -> dict[str, Any]:
    """What the endpoints look at."""
    names = ["model", "top_k", "truncation", "priority", "timeout_ms"]
    names += [name for name in ("targets", "strategy", "span") if hasattr(read, name)]
    inputs = [(each.text, each.text_pair) for each in read.inputs]
    return {"inputs": inputs, **{name: (type(getattr(read, name)), getattr(read, name)) for name in names}}


@pytest.mark.parametrize("kind", READERS)
@settings(max_examples=1500, deadline=None)
@given(first=good, rest=members, escaped=st.booleans(), begin=st.booleans())
def test_what_is_plain_is_what_pydantic_takes_and_reads(
    kind: str, first: dict[str, Any], rest: list[tuple[str, Any]], escaped: bool, begin: bool
) -> None:
    reader, model = READERS[kind]
    body = written([*(first.items() if begin else ()), *rest], escaped)
    if (plain := reader(body)) is not None:
        full = by_pydantic(model, body)
        assert full is not None, body
        assert told(plain) == told(full), body


@pytest.mark.parametrize(
    "body",
    [
        b'{"inputs": "a", "text": "b"}', b'{"inputs": "a", "text_pair": "b"}', b'{"text_pair": "b"}', b"{}",
        b'{"text": "[MASK]", "targets": ["a"], "strategy": "joint"}', b'{"text": "[MASK]", "span": 1}',
        b"", b"[]", b"1", b"nul", b'{"inputs": "a"', b'{"inputs": "a"} x', b'{"inputs": "\xff"}',
        b'\xef\xbb\xbf{"inputs": "a"}',
        b'{"inputs": ["a", 1]}', b'{"inputs": NaN}', b'{"inputs": []}', b'{"inputs": {}}',
        b"[" * 100_000, b'{"a":' * 100_000,
        json.dumps({"inputs": ["a"] * (MAX_INPUTS + 1)}).encode(),
        json.dumps({"inputs": "[MASK]", "targets": ["a" * (MAX_TARGET_CHARACTERS + 1)]}).encode(),
        json.dumps({"inputs": "[MASK]", "targets": ["a"] * 1001}).encode(),
        json.dumps({"inputs": "[MASK]", "targets": []}).encode(),
        '{"inputs": "今天"}'.encode("utf-16"),
    ],
)  # fmt: skip
def test_what_is_not_is_left_to_pydantic(body: bytes) -> None:
    assert [reader(body) for reader, _ in READERS.values()] == [None, None]


def test_what_is_usual_is_plain() -> None:
    for body in (
        {"inputs": "今天"},
        {"inputs": ["今天"] * MAX_INPUTS, "top_k": 2, "truncation": "truncate", "model": "reviews"},
        {"inputs": {"text": "a", "text_pair": "b"}, "priority": "batch", "timeout_ms": 600_000},
        {"text": "a"},
        {"text": "a", "text_pair": None},
    ):
        for reader, model in READERS.values():
            sent = json.dumps(body).encode()
            assert told(reader(sent)) == told(by_pydantic(model, sent))
    for more in ({"targets": ["今"]}, {"strategy": "joint", "span": 3}):
        sent = json.dumps({"inputs": "[MASK]", **more}).encode()
        assert told(plain_fill_mask(sent)) == told(by_pydantic(FillMaskRequest, sent))
    assert plain_classify(b'{"text": "a"}') == PlainClassify(
        [PlainText("a")], None, None, "window", "interactive", None
    )
