"""What the head of a request may say: every POST takes the same road, and a target that is not a path is refused."""

from pathlib import Path

import pytest

from tests.service.api.connection.sockets import BODY, connected, request, told
from tests.service.api.connection.test_answers import raw, served

CHUNKED = b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n" % (len(BODY), BODY)
LENGTH = b"Content-Length: %d\r\n\r\n%s" % (len(BODY), BODY)
JSON = b"Content-Type: application/json\r\n"
VARIANTS = {
    "charset": (b"Content-Type: application/json; charset=utf-8\r\n" + LENGTH, 200),
    "another json": (b"Content-Type: Application/Problem+JSON\r\n" + LENGTH, 200),
    "chunked": (JSON + CHUNKED, 200),
    "two types, JSON first": (JSON + b"Content-Type: text/plain\r\n" + LENGTH, 200),
    "two types, JSON last": (b"Content-Type: text/plain\r\n" + JSON + LENGTH, 422),
    "no type": (LENGTH, 422),
    "compressed": (JSON + b"Content-Encoding: gzip\r\n" + LENGTH, 415),
    "not compressed": (JSON + b"Content-Encoding: Identity\r\n" + LENGTH, 200),
    "from a page": (JSON + b"Origin: https://shop.example\r\n" + LENGTH, 200),
    "from another page": (JSON + b"Origin: https://other.example\r\n" + LENGTH, 200),
    "wrong key": (JSON + b"Authorization: Bearer bad\r\n" + LENGTH, 401),
}


@pytest.mark.parametrize("otel", [False, True])
@pytest.mark.parametrize("name", VARIANTS)
async def test_every_post_takes_the_same_road_whatever_its_head_says(tmp_path: Path, name: str, otel: bool) -> None:
    sent, status = VARIANTS[name]
    answers = []
    more = {"api_keys": "good", "cors_origins": "https://shop.example", "otel": otel}
    key = b"" if b"Authorization" in sent else b"Authorization: Bearer good\r\n"
    for plain in (False, True):
        async with served(tmp_path / str(plain), plain=plain, **more) as service:
            others = service.app.middleware_stack
            if not plain:
                service.without_application()
            bytes_ = b"POST /classify HTTP/1.1\r\nHost: service\r\nX-Request-ID: abc\r\n" + key + sent
            answers.append(await raw(service.port, bytes_))
            service.app.middleware_stack = others
            metrics = await service.metrics()
            model = "" if status != 200 else "reviews"
            assert f'ernie_requests_total{{code="{status}",endpoint="/classify",model="{model}"}} 1.0' in metrics
    assert answers[0] == answers[1]
    assert int(answers[0].split()[1]) == status
    assert b"\r\nvary: Origin\r\n" in answers[0]
    allowed = b"access-control-allow-origin: https://shop.example\r\n" in answers[0]
    assert allowed is (name == "from a page")


@pytest.mark.parametrize("plain", [False, True])
async def test_a_path_with_a_line_break_is_not_that_of_an_endpoint(tmp_path: Path, plain: bool) -> None:
    async with served(tmp_path, plain=plain) as service, connected(service.port) as streams:
        for path in ("/classify%0A", "/v2/models/reviews/infer%0A"):
            assert [each.status for each in await told(streams, request(path))] == [404]


@pytest.mark.parametrize("target", ["http://service", "/\u00e9"])
async def test_a_target_that_is_not_a_path_is_the_clients_fault(
    tmp_path: Path, target: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with served(tmp_path) as service, connected(service.port) as streams:
        (answer,) = await told(streams, request(target), 2)
    assert answer.status == 400
    assert not [record for record in caplog.records if record.exc_info]
