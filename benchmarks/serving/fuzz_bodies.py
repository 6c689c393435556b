"""Sends bodies with every kind of error to a running service, and counts the statuses of its answers.

    python -m benchmarks.serving.fuzz_bodies --bodies 100000

Ends with status 1 where an answer is a server error, an answer is missing, or a process of the service was replaced.
504 is right for a deadline of a few milliseconds; 503 is an error, because no engine may fail.
"""

from __future__ import annotations

import asyncio
import collections
import json
import random
import time
from collections.abc import Callable
from typing import Any

from benchmarks.arguments import parser_of
from benchmarks.rounds import progress
from benchmarks.serving.connection import HttpConnection, post
from benchmarks.serving.service import Service, serving

PATHS = ("/classify", "/fill-mask", "/v2/models/sentiment/infer", "/v2/models/masked-lm/infer", "/admin/reload")
FIELDS = (
    "inputs", "text", "text_pair", "model", "top_k", "truncation", "priority", "timeout_ms", "targets", "strategy",
    "span", "name", "datatype", "shape", "data", "parameters", "outputs", "id", "unknown", "", "__proto__",
)  # fmt: skip
TEXTS = (
    "房间很干净，服务也很周到。", "他在大[MASK]里教书。", "[MASK]", "[MASK][MASK]+", "", " ", "\t\n", "\x00", "\ufeff",
    "a" * 3000, "好" * 700, "́" * 50, "👨‍👩‍👧‍👦🏳️‍🌈", "\u202e\u2066x", "[CLS][SEP][PAD][UNK]", "##", "Ⱥ", "Ⱦ", "\ud800",
    "￿", "İıſﬀ", "window", "joint", "batch", "sentiment", "masked-lm", "BYTES",
)  # fmt: skip
NUMBERS = (0, 1, -1, 5, 2**31, 2**63, 2**64, -(2**70), 10**400, 0.5, 1e308, -0.0)
WORDS = ("NaN", "Infinity", "-Infinity", "1e999", "nul", "True", "'x'", "[1,]", "{,}", '"\\u12"', "//x", "01")


def text(rng: random.Random) -> str:
    """A known text, or random characters of all planes, surrogates included."""
    if rng.random() < 0.6:
        return rng.choice(TEXTS)
    most = rng.choice((0x7F, 0x2FF, 0xFFFF, 0x10FFFF))
    return "".join(chr(rng.randint(0, most)) for _ in range(rng.randint(0, 40)))


def value(rng: random.Random, depth: int = 0) -> Any:
    """Any JSON value."""
    kind = rng.randrange(8 if depth < 4 else 5)
    if kind < 2:
        return text(rng)
    if kind == 2:
        return rng.choice(NUMBERS)
    if kind < 5:
        return rng.choice((None, True, False, [], {}))
    if kind < 7:
        return [value(rng, depth + 1) for _ in range(rng.randint(0, 4))]
    return {rng.choice(FIELDS): value(rng, depth + 1) for _ in range(rng.randint(0, 4))}


def nearly_right(rng: random.Random, path: str) -> Any:
    """A valid request with up to two fields replaced."""
    if path.startswith("/v2"):
        tensor = {"name": "text", "datatype": "BYTES", "shape": [1], "data": [text(rng)]}
        for _ in range(rng.randrange(2)):
            tensor[rng.choice(list(tensor))] = value(rng)
        body: dict[str, Any] = {"inputs": [tensor], "parameters": {rng.choice(FIELDS): value(rng)}}
    else:
        body = {"inputs": rng.choice(([text(rng) for _ in range(rng.randint(1, 4))], text(rng)))}
    for _ in range(rng.choices((0, 1, 2), (5, 3, 2))[0]):
        body[rng.choice(FIELDS)] = value(rng)
    return body


def encoded(rng: random.Random, body: Any) -> bytes:
    """JSON in UTF-8; lone surrogates as escapes, or as bytes that UTF-8 does not allow."""
    written = json.dumps(body, ensure_ascii=rng.random() < 0.3)
    return written.encode("utf-8", "surrogatepass")


def broken(rng: random.Random, path: str) -> bytes:
    """JSON with bytes cut, changed, repeated or inserted."""
    body = bytearray(encoded(rng, nearly_right(rng, path)))
    for _ in range(rng.randint(1, 4)):
        at = rng.randint(0, len(body))
        action = rng.randrange(4)
        if action == 0:
            del body[at:]
        elif action == 1:
            body[at : at + 1] = bytes([rng.randrange(256)])
        elif action == 2:
            body[at:at] = body[: rng.randint(0, 20)]
        else:
            body[at:at] = rng.choice(WORDS).encode()
    return bytes(body)


def deep(rng: random.Random, path: str) -> bytes:
    """Nested very deeply, closed or not."""
    levels = rng.choice((50, 500, 5_000, 100_000))
    opening, closing = rng.choice((("[", "]"), ('{"inputs":', "}"), ('{"inputs":[', "]}")))
    return (opening * levels + "1" + closing * (levels if rng.random() < 0.5 else 0)).encode()


def numbers(rng: random.Random, path: str) -> bytes:
    """Numbers that overflow, with more digits than an integer may have."""
    digits = rng.choice((20, 400, 5_000)) * "9"
    number = rng.choice((digits, f"-{digits}", f"0.{digits}", f"1e{digits[:6]}"))
    return f'{{"inputs": "好[MASK]", "{rng.choice(FIELDS)}": {number}}}'.encode()


KINDS: dict[str, tuple[int, Callable[[random.Random, str], bytes]]] = {
    "wrong shape": (25, lambda rng, path: encoded(rng, value(rng))),
    "nearly right": (40, lambda rng, path: encoded(rng, nearly_right(rng, path))),
    "broken JSON": (20, broken),
    "random bytes": (5, lambda rng, path: rng.randbytes(rng.randint(0, 300))),
    "deep nesting": (3, deep),
    "huge numbers": (7, numbers),
}


async def fuzz(service: Service, bodies: int, connections: int, seed: int) -> tuple[dict[str, Any], list[str]]:
    """Answers by kind and status, and a sentence for each error."""
    counts: dict[str, collections.Counter[int]] = {kind: collections.Counter() for kind in KINDS}
    wrong: list[str] = []
    before = {name: [each.pid for each in processes] for name, processes in service.children().items()}
    numbers_left = iter(progress(range(bodies), unit="body"))

    async def send() -> None:
        connection = HttpConnection(service.url)
        for number in numbers_left:
            rng = random.Random(f"{seed} {number}")
            path = rng.choices(PATHS, (40, 40, 10, 9, 1))[0]
            kind = rng.choices(list(KINDS), [weight for weight, _ in KINDS.values()])[0]
            body = KINDS[kind][1](rng, path)
            try:
                answer = await asyncio.wait_for(connection.ask(post(service.url, path, body)), 60)
            except (OSError, asyncio.IncompleteReadError, asyncio.TimeoutError) as error:
                wrong.append(f"body {number} to {path} was not answered: {type(error).__name__} {error}")
                continue
            counts[kind][answer.status] += 1
            if answer.status >= 500 and not (answer.status == 504 and b"timeout" in body):
                wrong.append(f"body {number} to {path} was answered {answer.status}: {answer.body[:200]!r}")
        connection.close()

    await asyncio.gather(*(send() for _ in range(connections)))
    after = {name: [each.pid for each in processes] for name, processes in service.children().items()}
    if before != after:
        wrong.append(f"processes were {before} and are {after}")
    return counts, wrong


def main() -> int:
    """Prints the table."""
    parser = parser_of(__doc__, models=True, seed=True)
    parser.add_argument("--bodies", type=int, default=100_000, help="number of bodies (default: 100000)")
    parser.add_argument("--connections", type=int, default=8, help="requests in flight (default: 8)")
    arguments = parser.parse_args()
    with serving(arguments.models, "--request-timeout-ms", "60000", settings={"ERNIE_ADMIN": "true"}) as service:
        begun = time.monotonic()
        counts, wrong = asyncio.run(fuzz(service, arguments.bodies, arguments.connections, arguments.seed))
        seconds = time.monotonic() - begun
    statuses = sorted({status for counter in counts.values() for status in counter})
    print(f"{'':14}" + "".join(f"{status:>9}" for status in statuses))
    for kind, counter in counts.items():
        print(f"{kind:14}" + "".join(f"{counter[status]:>9}" for status in statuses))
    answered = sum(sum(counter.values()) for counter in counts.values())
    print(f"{answered} of {arguments.bodies} bodies answered in {seconds:.0f} s; {len(wrong)} wrong.")
    for sentence in wrong[:20]:
        print(f"  {sentence}")
    return 1 if wrong or answered != arguments.bodies else 0


if __name__ == "__main__":
    raise SystemExit(main())
