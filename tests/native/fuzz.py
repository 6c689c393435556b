"""Fuzzer: calls the native module with arbitrary input. `make fuzz-native` builds it with AddressSanitizer and UBSan.

    make fuzz-native SECONDS=60
    python tests/native/fuzz.py --seconds 60 [--module build/sanitize/module/native/_core.so] [--target NAME]

A target takes a random generator and makes one call with unusual arguments, or a few related calls. The call may raise
an exception of REFUSALS. Any other exception, a failed check or a report of a sanitizer ends the run. To repeat a
failure, give the target and the seed that were printed. To add a target, write a function and add it to TARGETS.
"""

from __future__ import annotations

import argparse
import importlib.util
import itertools
import pickle
import random
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

REFUSALS = (ValueError, TypeError, IndexError, OverflowError)
SPECIALS = ["[PAD]", "[CLS]", "[SEP]", "[MASK]", "[UNK]"]
PIECES = [*SPECIALS, "##", "#", "[", "]", "今", "##天", "a", "##b", "é", "\u0301", " "]


def any_text(rng: random.Random) -> str:
    """A text of one of the three character widths of Python, half of it from PIECES."""
    highest = rng.choice([0x7F, 0xFF, 0x24F, 0xFFFF, 0xFFFF, 0x10FFFF])
    length = rng.choice([0, 1, 2, 5, 5, 20, 20, 99, 101, rng.randint(0, 1200)])
    return "".join(
        rng.choice(PIECES) if rng.random() < 0.5 else chr(rng.randint(0, highest)) * (110 if rng.random() < 0.01 else 1)
        for _ in range(length)
    )


def any_object(rng: random.Random) -> Any:
    """An object, often of the wrong type."""
    return rng.choice(
        [
            None, True, -1, 0, 3, 2**31, 2**63, -(2**70), 1.5, float("nan"), b"", b"ab", "", "int64", "longest", "none",
            any_text(rng), [], [None], ["a", 3], ["a"], ("a", "b"), {"a": 1}, {"a"}, object(), str, range(3),
            bytearray(b"a"), iter("ab"),
        ]
    )  # fmt: skip


def any_tokenizer(rng: random.Random) -> Any:
    """A tokenizer with a strange but valid vocabulary."""
    from native import ErnieTokenizer

    tokens = [*SPECIALS, *(any_text(rng)[: rng.randint(1, 8)] or "x" for _ in range(rng.randint(0, 40)))]
    rng.shuffle(tokens)
    settings = {name: rng.random() < 0.5 for name in ("lower_case", "strip_accents", "split_cjk")}
    return ErnieTokenizer(tokens, **settings)


def tokenizer_encodes(rng: random.Random) -> None:
    """Any text: ids are in the vocabulary, offsets in the text, and all ways of encoding agree."""
    tokenizer = any_tokenizer(rng)
    texts = [any_text(rng) for _ in range(rng.randint(0, 4))]
    limits: dict[str, Any] = {
        "max_length": rng.choice([None, 3, 4, 17, 2**40]),
        "truncation": rng.choice(["longest_first", "none"]),
    }
    alone = [tokenizer.encode(text, **limits) for text in texts]
    for text, encoding in zip(texts, alone, strict=True):
        assert all(0 <= token_id < len(tokenizer) for token_id in encoding.ids)
        assert all(0 <= start <= end <= len(text) for start, end in encoding.offsets)
        assert len(encoding.ids) == len(encoding.token_type_ids) == len(encoding.special_tokens_mask) == len(encoding)
        assert encoding.full_length == len(encoding) + encoding.overflow
    batch = tokenizer.encode_batch(texts, **limits, pad_to_multiple_of=rng.choice([None, 1, 8]))
    for row, length, encoding in zip(batch.input_ids, batch.lengths, alone, strict=True):
        assert row[:length].tolist() == encoding.ids
        assert (row[length:] == tokenizer.pad_id).all()
    ids, splits, starts = tokenizer.encode_flat(texts, special_tokens=True)
    whole = [tokenizer.encode(text, add_special_tokens=False) for text in texts]
    assert [ids[begin:end].tolist() for begin, end in itertools.pairwise(splits)] == [e.ids for e in whole]
    assert starts.tolist() == [start for encoding in whole for start, _ in encoding.offsets]


def tokenizer_gets_any_arguments(rng: random.Random) -> None:
    """Calls a method with arguments of any type."""
    tokenizer = any_tokenizer(rng)
    name = rng.choice(["encode", "encode_batch", "encode_flat", "token_to_id", "id_to_token"])
    keywords = ("max_length", "truncation", "padding", "pad_to_multiple_of", "dtype", "special_tokens", "lower_case")
    given = {keyword: any_object(rng) for keyword in keywords if rng.random() < 0.15}
    getattr(tokenizer, name)(*(any_object(rng) for _ in range(rng.randint(0, 2))), **given)


def tokenizer_has_any_vocabulary(rng: random.Random) -> None:
    """Makes tokenizers of any vocabulary, and pickles and unpickles them."""
    from native import ErnieTokenizer

    tokens = rng.choice([any_object(rng), [*SPECIALS, any_object(rng)], [any_text(rng) for _ in range(9)]])
    made = ErnieTokenizer(tokens, lower_case=any_object(rng) if rng.random() < 0.2 else True)
    assert pickle.loads(pickle.dumps(made)).tokens == list(tokens)


TARGETS: list[Callable[[random.Random], None]] = [
    tokenizer_encodes,
    tokenizer_gets_any_arguments,
    tokenizer_has_any_vocabulary,
]


def use(module: Path) -> None:
    """Makes the package `native` use the extension in `module`."""
    spec = importlib.util.spec_from_file_location("native._core", module)
    assert spec is not None
    assert spec.loader is not None
    sys.modules["native._core"] = loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)


def main() -> None:
    """Runs the targets in turn for the given time."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=60.0, help="length of the run (default: 60)")
    parser.add_argument("--module", type=Path, help="extension to use instead of the installed one")
    parser.add_argument(
        "--target", action="append", help="run only this target; may be given several times (default: all)"
    )
    parser.add_argument(
        "--seed", type=int, default=time.time_ns() % 2**32, help="seed of the first call (default: from the clock)"
    )
    arguments = parser.parse_args()
    if arguments.module:
        use(arguments.module)
    # This imports the extension, so it must come after `use`.
    from fuzz_samples import TARGETS as array_targets

    known = {target.__name__: target for target in [*TARGETS, *array_targets]}
    names = arguments.target or list(known)
    if unknown := set(names) - set(known):
        parser.error(f"there is no target {min(unknown)}; give one of {', '.join(known)}.")
    chosen = [known[name] for name in names]
    calls, refused = dict.fromkeys(names, 0), dict.fromkeys(names, 0)
    print(f"seed {arguments.seed}", flush=True)
    seed, over = arguments.seed, time.monotonic() + arguments.seconds
    while time.monotonic() < over:
        for target in chosen:
            calls[target.__name__] += 1
            try:
                target(random.Random(seed))
            except REFUSALS:
                refused[target.__name__] += 1
            except BaseException:
                print(f"failed: --target {target.__name__} --seed {seed}", flush=True)
                raise
        seed += 1
    for target in chosen:
        print(f"{target.__name__}: {calls[target.__name__]:,} calls, {refused[target.__name__]:,} refused")


if __name__ == "__main__":
    main()
