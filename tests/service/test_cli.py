"""The listening socket of `ernie-serve`."""

import socket

import pytest

from service.cli import listen
from service.settings import Settings


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
