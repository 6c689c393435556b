"""The client of one connection reads whole answers, and reports all others."""

import socket
import threading
from collections.abc import Iterator

import pytest

from benchmarks.serving.one_connection import Client

HEAD = b"HTTP/1.1 %d Any\r\ncontent-length: 6\r\n\r\n"


class Server:
    """Answers each request with the given pieces, one send each."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.answers: list[list[bytes]] = []
        self.asked = 0
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        connection, _ = self._listener.accept()
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with connection:
            while self.answers and connection.recv(1 << 16):
                self.asked += 1
                for piece in self.answers.pop(0):
                    connection.sendall(piece)

    def close(self) -> None:
        self._listener.close()


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    yield made
    made.close()


def test_an_answer_in_pieces_is_read_to_its_end(server: Server) -> None:
    whole = HEAD % 200 + b"abcdef"
    server.answers = [[whole[:cut], whole[cut:]] for cut in range(1, len(whole))] + [[whole]]
    client = Client(server.url, "/classify")
    for number in range(1, len(whole) + 1):
        client.ask(b"{}")  # an unread piece would become the beginning of the next answer
        assert server.asked == number


@pytest.mark.parametrize(
    ("pieces", "sentence"),
    [([HEAD % 404 + b"abcdef"], "the service answered"), ([HEAD % 200 + b"abc"], "closed the connection")],
)
def test_anything_but_a_whole_answer_of_status_200_is_an_error(
    server: Server, pieces: list[bytes], sentence: str
) -> None:
    server.answers = [pieces]
    with pytest.raises(RuntimeError, match=sentence):
        Client(server.url, "/classify").ask(b"{}")
