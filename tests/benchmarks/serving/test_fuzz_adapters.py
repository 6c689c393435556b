"""Which differences between two answers count, and what is sent."""

import json
import random
import socket
import threading

import pytest

from benchmarks.serving.fuzz_adapters import Answer, Request, ask, chunked, compared, differences, some_request

ID = "0123456789abcdef" * 2
OTHER_ID = "f" * 32


def answer(status: int = 200, body: object = None, sent: str = "", **headers: str) -> Answer:
    found = [(name.replace("_", "-"), value) for name, value in headers.items()]
    return compared(status, found, json.dumps(body).encode(), sent)


def test_generated_ids_times_and_connections_may_differ() -> None:
    one = answer(body={"request_id": ID}, X_Request_ID=ID, Server_Timing="total;dur=1.5", Connection="close", Date="a")
    other = answer(body={"request_id": OTHER_ID}, x_request_id=OTHER_ID, Server_Timing="total;dur=2", Date="b")
    assert not differences(one, other)


def test_an_id_that_was_sent_may_not_differ() -> None:
    assert differences(*(answer(sent=ID, X_Request_ID=each) for each in (ID, OTHER_ID)))


@pytest.mark.parametrize(("score", "count"), [(0.5 + 9e-7, 0), (0.5 + 2e-6, 1), (1, 1)])
def test_scores_may_differ_by_a_millionth(score: float, count: int) -> None:
    assert len(differences(answer(body=[{"score": 0.5}]), answer(body=[{"score": score}]))) == count


def test_status_headers_and_bodies_are_compared() -> None:
    found = differences(answer(200, {"a": 1, "b": 2}, Vary="Origin"), answer(422, {"b": 2, "a": 1}))
    assert [each.split()[0] for each in found] == ["status", "headers", "bodies"]
    assert differences(answer(200, Server_Timing="queue;dur=1"), answer(200, Server_Timing="total;dur=1"))


def test_chunks_hold_the_whole_body() -> None:
    body, rng = bytes(range(256)) * 40, random.Random(1)
    rest, found = chunked(rng, body), b""
    while size := int(rest.split(b"\r\n", 1)[0].split(b";")[0], 16):
        rest = rest.split(b"\r\n", 1)[1]
        found, rest = found + rest[:size], rest[size + 2 :]
    assert found == body


def test_the_same_number_is_the_same_request_and_many_kinds_occur() -> None:
    requests = [some_request(random.Random(number)) for number in range(400)]
    assert requests == [some_request(random.Random(number)) for number in range(400)]
    heads = b"".join(each.head for each in requests).lower()
    parts = (
        "transfer-encoding: chunked", "charset=utf-8", "expect:", "origin:", "authorization: bearer wrong",
        "content-encoding: gzip", "x-request-id:", "get /", "/v2/models/", "content-type: text/plain",
    )  # fmt: skip
    for part in map(str.encode, parts):
        assert part in heads, part


def test_no_answer_is_status_zero() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=lambda: listener.accept()[0].close(), daemon=True).start()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        assert ask(url, Request("POST", b"POST / HTTP/1.1\r\n\r\n", b"")).status == 0
