"""Which connections are ended when clients do not read."""

from service.api.unsent import Sender, Unsent


class Client:
    """A connection with unsent bytes."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.aborted = False

    def unsent_bytes(self) -> int:
        return 0 if self.aborted else self.size

    def abort(self) -> None:
        self.aborted = True


def test_above_the_limit_those_longest_without_progress_are_ended() -> None:
    unsent = Unsent(max_bytes=45, seconds=30)
    clients: list[Client] = [Client(20) for _ in range(4)]
    senders: list[Sender] = []
    ended = []
    for client in clients:
        senders.append(client)
        unsent.paused(client, senders)
        ended.append([each.aborted for each in clients])
    assert ended == [[False] * 4] * 2 + [[True, False, False, False], [True, True, False, False]]


def test_a_connection_with_progress_is_ended_after_those_without() -> None:
    unsent = Unsent(max_bytes=45, seconds=30)
    first, second, third = Client(20), Client(20), Client(20)
    unsent.paused(first, [first])
    unsent.paused(second, [first, second])
    unsent.progressed(first)
    unsent.paused(third, [first, second, third])
    assert (first.aborted, second.aborted, third.aborted) == (False, True, False)
