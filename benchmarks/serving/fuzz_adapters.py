"""Sends the same requests to the service's two adapters and compares the answers: a differential fuzz.

    python -m benchmarks.serving.fuzz_adapters --requests 3000

One adapter is the connection, as `ernie-serve` runs it; the other is the ASGI application in plain uvicorn
(benchmarks/serving/plain_adapter.py), with the same settings and the same engines. Heads and bodies are valid and
invalid: methods, paths, content types, lengths, chunks, encodings, API keys, origins, request ids, broken JSON, unknown
fields, all fields of the endpoints. There are two groups of settings: the defaults, and `guarded` with API keys, an
allowed origin and small limits.

Compared are status, headers and body. Allowed to differ are: `Date`, the values of `Server-Timing`, a request id that
the service has generated, the headers `Connection` and `Keep-Alive`, scores by 1e-6, and `Content-Length` where scores
differ by that. And where the head of a request alone is refused (401, 413, 422 or 429), the connection answers before
it reads a body that is not HTTP; plain uvicorn, which reads both first, answers 400. A difference must occur twice in a
row. Requests with a deadline that one adapter missed are skipped.
After the last request, the counters in COUNTERS are compared as well. Every difference is printed; the command ends
with status 1 if there is one. `--only NUMBER` repeats one request.
"""

from __future__ import annotations

import collections
import functools
import gzip
import http.client
import json
import random
import re
import socket
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from benchmarks.arguments import parser_of
from benchmarks.rounds import progress
from benchmarks.serving import fuzz_bodies
from benchmarks.serving.metrics import Metrics
from benchmarks.serving.plain_adapter import serving_plain
from benchmarks.serving.service import serving
from benchmarks.serving.texts import TEXTS, masked

KEY, ORIGIN = "good-key", "https://allowed.example"
SETTINGS: dict[str, dict[str, str]] = {
    "default": {"ERNIE_BODY_SECONDS": "1"},
    "guarded": {
        "ERNIE_BODY_SECONDS": "1", "ERNIE_API_KEYS": f"{KEY},another-key", "ERNIE_CORS_ORIGINS": ORIGIN,
        "ERNIE_MAX_BODY_BYTES": "20000", "ERNIE_MAX_INPUTS": "4", "ERNIE_MAX_MASKS": "3", "ERNIE_PAGE": "false",
    },
}  # fmt: skip
TOLERANCE = 1e-6
ANSWER_SECONDS = 30.0
COUNTERS = (
    "ernie_requests_total", "ernie_request_failures_total", "ernie_request_duration_seconds_count",
    "ernie_tokenize_seconds_count", "ernie_queue_seconds_count", "ernie_truncated_total",
)  # fmt: skip
ALLOWED = frozenset({"date", "connection", "keep-alive", "content-length"})
GENERATED_ID = re.compile(r"\b[0-9a-f]{32}\b")

ENDPOINTS = ("/classify", "/fill-mask", "/v2/models/sentiment/infer", "/v2/models/masked-lm/infer")
OTHER_PATHS = (
    "/v2/models/absent/infer", "/v2", "/v2/health/ready", "/v2/models/sentiment", "/models", "/models/sentiment",
    "/models/absent", "/health/live", "/health/ready", "/docs", "/openapi.json", "/", "/page/page.css", "/absent",
    "/classify/", "//classify", "/%63lassify", "/classify?model=absent", "/fill-mask?x=%ff", "/admin/reload",
    "/classify%00", "/../classify", "http://host.example/classify", "*",
)  # fmt: skip
METHODS = ("GET", "HEAD", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "post", "QUERY", "CONNECT")
JSON_TYPES = ("application/json", "application/json; charset=utf-8", 'application/json;charset="UTF-8"')
TYPES = (
    *JSON_TYPES, "application/json; charset=gbk", "application/json;", "APPLICATION/JSON", "application/problem+json",
    "application/vnd.api+json", "text/plain", "text/json", "application/x-www-form-urlencoded", "json", "", "/", "*/*",
    "multipart/form-data; boundary=x", "application/octet-stream", "application/json, text/plain", "application/jsonx",
)  # fmt: skip
EXTRA_HEADERS = (
    "Expect: 100-continue", "Expect: 200-maybe", f"Origin: {ORIGIN}", "Origin: https://other.example", "Origin: null",
    "Accept: text/html", "Accept-Encoding: gzip, br", "Cookie: a=b", "Connection: close", "Connection: keep-alive",
    "traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "X-Forwarded-For: 10.0.0.1",
    "Access-Control-Request-Method: POST", "Access-Control-Request-Headers: content-type", "Content-Language: zh",
    "Upgrade: websocket", "Authorization: Bearer wrong", "Content-Type: text/plain", "Content-Type: application/json",
    "X-Empty:", "Range: bytes=0-1",
)  # fmt: skip
KEYS = (
    f"Bearer {KEY}",
    "Bearer another-key",
    f"bearer {KEY}",
    "Bearer wrong",
    f"Basic {KEY}",
    "Bearer",
    "",
    f"  {KEY}",
)
IDS = ("abc-1", "x" * 128, "x" * 129, "two words", "", "é", "a\tb", '"quoted"', "~!@#$%^&*()")


@dataclass(frozen=True)
class Request:
    """The bytes of one request over a new connection."""

    method: str
    head: bytes
    body: bytes
    ends: bool = False
    """Whether the client ends its side of the connection, because the request is incomplete."""


@dataclass(frozen=True)
class Answer:
    """An answer without what may differ; status 0 where there is none."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes


def some_request(rng: random.Random) -> Request:
    """Mostly a POST to an endpoint with a few unusual parts."""
    path = rng.choice(ENDPOINTS if rng.random() < 0.85 else OTHER_PATHS)
    method = "POST" if rng.random() < (0.95 if path in ENDPOINTS else 0.3) else rng.choice(METHODS)
    headers = ["Host: fuzz.example"] if rng.random() < 0.98 else []
    body = some_body(rng, path)
    if rng.random() < 0.97:
        headers += [f"Content-Type: {rng.choice(JSON_TYPES if rng.random() < 0.8 else TYPES)}"]
    if rng.random() < 0.9:
        headers += [f"Authorization: {rng.choice(KEYS) if rng.random() < 0.2 else KEYS[0]}"]
    headers += [f"X-Request-ID: {rng.choice(IDS)}" for _ in range(rng.choice((0, 0, 1, 1, 2)))]
    headers += [rng.choice(EXTRA_HEADERS) for _ in range(rng.choice((0, 0, 0, 1, 2)))]
    if rng.random() < 0.05:
        encoding, body = encoded(rng, body)
        headers += [f"Content-Encoding: {encoding}"]
    framing, sent, ends = framed(rng, body)
    headers += framing
    rng.shuffle(headers)
    if rng.random() < 0.1:
        headers = [rng.choice((str.lower, str.upper))(name) + rest for name, rest in map(named, headers)]
    version = "1.1" if rng.random() < 0.97 else rng.choice(("1.0", "1.2", "2.0"))
    head = "\r\n".join([f"{method} {path} HTTP/{version}", *headers, "", ""]).encode("utf-8", "surrogatepass")
    return Request(method, head, sent, ends)


def named(header: str) -> tuple[str, str]:
    """The name and the rest of a header."""
    name, colon, rest = header.partition(":")
    return name, colon + rest


def encoded(rng: random.Random, body: bytes) -> tuple[str, bytes]:
    """A content encoding, and the body in it or in another."""
    ways: dict[str, Callable[[bytes], bytes]] = {
        "gzip": functools.partial(gzip.compress, mtime=0), "deflate": zlib.compress, "identity": bytes, "br": bytes
    }  # fmt: skip
    return rng.choice(list(ways)), rng.choice(list(ways.values()))(body)


def framed(rng: random.Random, body: bytes) -> tuple[list[str], bytes, bool]:
    """Headers about the length, the sent bytes, and whether the client ends its side; mostly right."""
    length, kind = f"Content-Length: {len(body)}", rng.random()
    if kind < 0.75:
        return [length], body, False
    if kind < 0.9:
        return ["Transfer-Encoding: chunked"], chunked(rng, body), False
    wrong: list[tuple[list[str], bytes, bool]] = [
        ([], body, False),
        ([length, length], body, False),
        ([length, "Transfer-Encoding: chunked"], chunked(rng, body), False),
        ([f"Content-Length: {len(body) + 5}"], body, True),
        ([f"Content-Length: {len(body) // 2}"], body[: len(body) // 2], False),
        (["Transfer-Encoding: chunked"], b"zz\r\n" + body, True),
        (["Transfer-Encoding: gzip, chunked"], chunked(rng, body), False),
        *(([f"Content-Length: {value}"], body, False) for value in ("abc", "-1", "+5", "0", "1e3", "9" * 30)),
    ]
    # A body that stays incomplete until the service loses patience takes a second.
    return rng.choice(wrong) if rng.random() < 0.98 else ([f"Content-Length: {len(body) + 5}"], body, False)


def chunked(rng: random.Random, body: bytes) -> bytes:
    """The body in chunks of random sizes, sometimes with an extension or a trailer."""
    found, position = b"", 0
    while position < len(body):
        chunk = body[position : position + rng.choice((1, 10, 100, 5000))]
        extension = b";name=value" if rng.random() < 0.05 else b""
        found += f"{len(chunk):x}".encode() + extension + b"\r\n" + chunk + b"\r\n"
        position += len(chunk)
    return found + b"0\r\n" + rng.choice((b"", b"", b"", b"X-Trailer: 1\r\n")) + b"\r\n"


def some_body(rng: random.Random, path: str) -> bytes:
    """A valid request with all kinds of fields, or a body of `fuzz_bodies`."""
    if rng.random() < 0.45:
        return json.dumps(valid(rng, path), ensure_ascii=rng.random() < 0.5).encode()
    kinds = {name: kind for name, kind in fuzz_bodies.KINDS.items() if name != "deep nesting" or rng.random() < 0.1}
    (make,) = rng.choices([make for _, make in kinds.values()], [weight for weight, _ in kinds.values()])
    return make(rng, path)


def valid(rng: random.Random, path: str) -> dict[str, Any]:
    """A request with a random choice of the fields of its endpoint, each mostly with a value that is allowed."""
    fill = "fill" in path or "masked-lm" in path
    texts = [masked(text) if fill else text for text in rng.choices(TEXTS, k=rng.randint(1, 3))]
    if path.startswith("/v2"):
        found: dict[str, Any] = {
            "inputs": [{"name": "text", "datatype": "BYTES", "shape": [len(texts)], "data": texts}]
        }
        choices: dict[str, tuple[Any, ...]] = {
            "id": ("one", "", 1), "parameters": ({}, {"top_k": 1}, {"truncation": "error"}, {"other": True}),
            "outputs": ([], [{"name": "label"}], [{"name": "absent"}]),
        }  # fmt: skip
    else:
        pair = {"text": texts[0], "text_pair": rng.choice(TEXTS)}
        found = {"inputs": rng.choice((texts, texts[0], pair, [pair, texts[0]]))}
        if rng.random() < 0.15:
            found = rng.choice(({"text": texts[0]}, pair))
        choices = {
            "model": ("masked-lm" if fill else "sentiment", "masked-lm", "absent", None),
            "top_k": (1, 2, 5, 100, 0, -1, 1000, "1", None), "truncation": ("error", "truncate", "window", "no", None),
            "priority": ("batch", "interactive", "high", None), "timeout_ms": (60_000, 0, -5, "x", None),
            "unknown": (1,),
        }  # fmt: skip
        if fill or rng.random() < 0.05:
            choices |= {
                "targets": (["好", "坏"], [], ["不在词表里"], "好", None), "strategy": ("independent", "joint", "no"),
                "span": (1, 2, 0, 99, None),
            }  # fmt: skip
    for name in rng.sample(list(choices), rng.choice((0, 0, 1, 2, 3))):
        values = choices[name]
        found[name] = values[0] if rng.random() < 0.6 else rng.choice(values)
    return found


def ask(url: str, request: Request) -> Answer:
    """Sends the request over a new connection and reads one answer."""
    address = urlsplit(url)
    with socket.create_connection((address.hostname or "localhost", address.port or 80), ANSWER_SECONDS) as connection:
        try:
            connection.sendall(request.head + request.body)
            if request.ends:
                connection.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # the service may answer and close before it has read all of it
        response = http.client.HTTPResponse(connection, method=request.method)
        try:
            response.begin()
            body = response.read()
        except (OSError, http.client.HTTPException):
            return Answer(0, (), b"")
        return compared(response.status, response.getheaders(), body, request.head.decode("utf-8", "replace"))


def compared(status: int, headers: list[tuple[str, str]], body: bytes, sent: str) -> Answer:
    """The answer without what may differ."""

    def without_id(value: str) -> str:
        return GENERATED_ID.sub(lambda found: found[0] if found[0] in sent else "GENERATED", value)

    kept = []
    for name, value in headers:
        if name.lower() == "server-timing":
            value = re.sub(r"dur=[\d.]+", "dur", value)
        if name.lower() not in ALLOWED:
            kept.append((name.lower(), without_id(value)))
    return Answer(status, tuple(sorted(kept)), without_id(body.decode("latin-1")).encode("latin-1"))


def differences(one: Answer, other: Answer) -> list[str]:
    """A sentence for each difference."""
    found = []
    if one.status != other.status:
        found.append(f"status {one.status} and {other.status}")
    left, right = (collections.Counter(each.headers) for each in (one, other))
    if left != right:
        found.append(f"headers {sorted((left - right).elements())} and {sorted((right - left).elements())}")
    if not equal(parsed(one.body), parsed(other.body)):
        found.append(f"bodies {one.body[:400]!r} and {other.body[:400]!r}")
    return found


def refused_early(connection: Answer, application: Answer) -> bool:
    """Whether the connection refused a head, and uvicorn the body behind it, which is not HTTP."""
    return connection.status in (401, 413, 422, 429) and application.body == b"Invalid HTTP request received."


def parsed(body: bytes) -> Any:
    """Its JSON, or the bytes where it is not JSON."""
    try:
        return json.loads(body)
    except ValueError:
        return body


def equal(one: Any, other: Any) -> bool:
    """Equal values, or numbers that differ by TOLERANCE at most; keys of objects in the same order."""
    if isinstance(one, dict) and isinstance(other, dict):
        return list(one) == list(other) and all(equal(one[name], other[name]) for name in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(equal, one, other))
    if isinstance(one, float) and isinstance(other, float):
        return abs(one - other) <= TOLERANCE
    return type(one) is type(other) and bool(one == other)


def fuzz(urls: tuple[str, str], name: str, numbers: Mapping[int, Request]) -> tuple[collections.Counter[int], int, int]:
    """Prints every difference; returns the answers by status, and the numbers of differences and of early refusals."""
    statuses: collections.Counter[int] = collections.Counter()
    different = early = 0
    for number, request in progress(numbers.items(), unit="request"):
        answers: list[Answer] = []
        for _ in range(2):
            answers = [ask(url, request) for url in urls]
            found = differences(answers[0], answers[1])
            if refused_early(*answers):
                early += 1
                break
            if not found or (504 in (each.status for each in answers) and b"timeout" in request.body):
                break
        else:
            different += 1
            print(f"request {number} of {name}: {request.head[:600]!r}, body {request.body[:300]!r}")
            for sentence in found:
                print(f"  connection and application: {sentence}", flush=True)
        statuses[answers[0].status] += 1
    return statuses, different, early


def miscounted(urls: tuple[str, str]) -> list[str]:
    """A sentence for each counter that differs; both have counted all requests since they were started."""
    found = []
    one, other = (Metrics.of(url) for url in urls)
    for name in COUNTERS:
        left, right = one.series(name), other.series(name)
        if not left:
            found.append(f"{name} does not exist")
        for labels in sorted(left.keys() | right.keys()):
            pair = left.get(labels, 0.0), right.get(labels, 0.0)
            if pair[0] != pair[1]:
                found.append(f"{name} {labels}: {pair[0]:.0f} and {pair[1]:.0f}")
    return found


def main() -> int:
    """Runs both groups of settings; 1 where there is a difference."""
    parser = parser_of(__doc__, models=True, seed=True)
    parser.add_argument("--requests", type=int, default=3000, help="of each group of settings (default: 3000)")
    parser.add_argument("--settings", nargs="+", choices=SETTINGS, default=list(SETTINGS), help="(default: both)")
    parser.add_argument("--only", type=int, metavar="NUMBER", help="send only this request")
    parser.add_argument("--http", choices=("httptools", "h11"), default="httptools", help="parser of plain uvicorn")
    arguments = parser.parse_args()
    numbers = range(arguments.requests) if arguments.only is None else [arguments.only]
    total = 0
    for name in arguments.settings:
        requests = {number: some_request(random.Random(f"{arguments.seed} {name} {number}")) for number in numbers}
        with (
            serving(arguments.models, settings=SETTINGS[name]) as service,
            serving_plain(service, SETTINGS[name], arguments.http) as plain,
        ):
            statuses, different, early = fuzz((service.url, plain), name, requests)
            counters = miscounted((service.url, plain))
        total += different + len(counters)
        for sentence in counters:
            print(f"{name}, connection and application: {sentence}")
        shown = ", ".join(f"{status or 'none'} {count}" for status, count in sorted(statuses.items()))
        print(f"{name}: {different} of {len(requests)} requests were answered differently, {early} refused early")
        print(f"{name}: statuses {shown}")
    return 1 if total else 0


if __name__ == "__main__":
    raise SystemExit(main())
