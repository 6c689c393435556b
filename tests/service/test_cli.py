"""`ernie-serve`: its listening socket, and settings it cannot follow."""

import importlib.util
import socket

import pytest

from service.settings import Settings
from service.start import listen, serve


def test_an_accepted_connection_sends_each_part_of_an_answer_at_once() -> None:
    with listen(Settings(port=0)) as listener, socket.create_connection(listener.getsockname()[:2]):
        accepted, _ = listener.accept()
        with accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1


def test_a_port_in_use_is_one_sentence() -> None:
    with listen(Settings(port=0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(OSError, match=f"^cannot listen on 127.0.0.1:{port}: .*in use.*\\.$"):
            listen(Settings(port=port))


@pytest.mark.skipif(
    importlib.util.find_spec("opentelemetry.exporter.otlp.proto.http") is not None
    if importlib.util.find_spec("opentelemetry.exporter")
    else False,
    reason="the packages of the extra otel are here, so nothing is refused; run it in an environment without them",
)
def test_spans_that_could_not_be_sent_anywhere_are_refused_at_the_start(capsys: pytest.CaptureFixture[str]) -> None:
    assert serve(["--otel"]) == 2
    assert capsys.readouterr().err == (
        "ernie-serve: --otel (ERNIE_OTEL) needs packages that are missing; install ernie-zh[otel].\n"
    )


def test_a_tokenizer_that_is_not_installed_is_refused_at_the_start(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert serve(["--tokenizer", "fast_tokenizer"]) == 2
    assert capsys.readouterr().err == (
        "ernie-serve: --tokenizer fast_tokenizer (ERNIE_TOKENIZER) needs fast-tokenizer-python, which is not installed "
        "and has no wheels for Python 3.11 and later; use native.\n"
    )
