"""Latency of good requests while hostile clients hold connections: clients that read slowly, send slowly, or are idle.

    python -m benchmarks.serving.hostile_clients --connections 1000 --seconds 120 --rate 200

Good requests arrive at random moments (Poisson), whether or not earlier ones are answered, and their latency runs from
the moment they were due. They are measured without and then with the hostile clients, for each kind. A hostile client
whose connection the service closes opens another one.

| kind | what each client does |
|---|---|
| slow-readers | asks for the OpenAPI document many times in one piece, and reads a kilobyte a second |
| slow-senders | sends the head of a request, and one byte of its body a second |
| idle | sends nothing |

The service may keep more connections than by default (--max-connections), so that the hostile clients stay connected.
Memory is the growth of the proportional set size (PSS) of the API processes, divided by the number of connections.
Ends with status 1 if p99 with hostile clients exceeds --ratio times p99 without, or if a good request was not answered
with status 200.
"""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import resource
import socket
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.sharedctypes import SynchronizedArray
from urllib.parse import urlsplit

from benchmarks.arguments import parser_of
from benchmarks.rounds import number, percentile, table
from benchmarks.serving.closed_loop import Load
from benchmarks.serving.open_loop import CLIENT_CONNECTIONS, CONNECTIONS, SETTLING_SECONDS, Offered, open_loop
from benchmarks.serving.service import WORKER, Service, serving
from benchmarks.serving.texts import SHORT_CHARACTERS, TEXTS, bodies_of

CONNECT_SECONDS = 60.0
"""Time for all hostile clients to connect."""
OTHER_FILES = 500
"""Open files of a process that are not connections; a generous estimate."""
DOCUMENTS = 4
"""Together about 137 kB: more than the system buffers for a client that does not read, and little work to make."""
READ_BYTES = 1024
RECEIVE_BUFFER = 4096
BODY_BYTES = 4096
OPENING_AT_ONCE = 50
QUICK_SECONDS, QUICK_IN_A_ROW = 0.1, 5
"""The service has settled when it answers a probe of its readiness this fast, this often."""

Counts = SynchronizedArray  # of the connections that are open, were opened, were closed by the service
OPEN, OPENED, CLOSED = range(3)
Behaviour = Callable[[asyncio.StreamReader, asyncio.StreamWriter, str], Awaitable[None]]


async def read_slowly(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, host: str) -> None:
    """Returns when the service has closed the connection, like the other two."""
    writer.write(f"GET /openapi.json HTTP/1.1\r\nHost: {host}\r\n\r\n".encode() * DOCUMENTS)
    while await reader.read(READ_BYTES):
        await asyncio.sleep(1)


async def send_slowly(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, host: str) -> None:
    """A body that takes more than an hour."""
    head = f"POST /classify HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n"
    writer.write(f"{head}Content-Length: {BODY_BYTES}\r\n\r\n".encode())
    ended = asyncio.ensure_future(reader.read())
    while not ended.done():
        writer.write(b" ")
        await asyncio.wait({ended}, timeout=1)
    ended.result()


async def be_idle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, host: str) -> None:
    """Sends nothing."""
    await reader.read()


KINDS: dict[str, Behaviour] = {"slow-readers": read_slowly, "slow-senders": send_slowly, "idle": be_idle}


def hold(kind: str, url: str, connections: int, counts: Counts[int]) -> None:
    """Keeps hostile clients connected until the process is killed."""
    asyncio.run(_hold(KINDS[kind], url, connections, counts))


async def _hold(behaviour: Behaviour, url: str, connections: int, counts: Counts[int]) -> None:
    address, opening = urlsplit(url), asyncio.Semaphore(OPENING_AT_ONCE)

    async def client() -> None:
        while True:
            made = socket.socket()
            made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
            made.setblocking(False)
            try:
                async with opening:
                    where = address.hostname or "", address.port or 80
                    await asyncio.get_running_loop().sock_connect(made, where)
                    reader, writer = await asyncio.open_connection(sock=made, limit=RECEIVE_BUFFER)
            except OSError:
                made.close()
                await asyncio.sleep(1)
                continue
            counts[OPEN] += 1
            counts[OPENED] += 1
            with contextlib.suppress(OSError):
                await behaviour(reader, writer, address.netloc)
            writer.close()
            counts[OPEN] -= 1
            counts[CLOSED] += 1

    await asyncio.gather(*(client() for _ in range(connections)))


@contextlib.contextmanager
def hostile(kind: str, url: str, connections: int) -> Iterator[Counts[int]]:
    """Hostile clients in a separate process, connected when the block begins."""
    context = multiprocessing.get_context("spawn")
    counts = context.Array("q", 3)
    process = context.Process(target=hold, args=(kind, url, connections, counts), daemon=True)
    process.start()
    try:
        deadline = time.monotonic() + CONNECT_SECONDS
        while counts[OPEN] < connections and time.monotonic() < deadline:
            time.sleep(0.05)
        yield counts
    finally:
        process.kill()
        process.join()


@dataclass(frozen=True)
class Measured:
    """Good requests without and with hostile clients of one kind."""

    kind: str
    without: Offered
    with_them: Offered
    memory_per_connection: float
    """Bytes."""
    held: int
    """Hostile connections that were open at the end."""
    closed: int
    """Hostile connections that the service closed."""
    files: int
    """Most open files of an API process."""

    @property
    def ratio(self) -> float:
        """p99 with hostile clients over p99 without; 0 without a measurement."""
        before = percentile(self.without.served, 99)
        return percentile(self.with_them.served, 99) / before if before else 0.0

    def row(self) -> list[str]:
        """A row of the table."""
        latencies = [
            percentile(each.served, percent) for percent in (50, 99) for each in (self.without, self.with_them)
        ]
        figures = [*map(number, latencies), f"{self.ratio:.2f}", f"{self.memory_per_connection / 1000:.1f}"]
        return [self.kind, *figures, str(self.held), str(self.closed), str(self.files)]

    def wrong(self, most: float) -> list[str]:
        """A sentence for everything that must not be."""
        found = []
        if self.ratio > most:
            found.append(f"{self.kind}: p99 is {self.ratio:.2f} times that without hostile clients, more than {most:g}")
        for name, offered in (("without", self.without), ("with", self.with_them)):
            if lost := sum(offered.lost.values()):
                found.append(f"{self.kind}: {lost} good requests {name} hostile clients got no answer")
            if refused := offered.answered - offered.answers[200]:
                found.append(f"{self.kind}: {refused} good requests {name} hostile clients were not answered with 200")
            if not offered.kept_up:
                found.append(f"{self.kind}: the client did not keep up {name} hostile clients; use a lower --rate")
        return found


def measure(service: Service, kind: str, connections: int, rate: float, seconds: float, settling: float) -> Measured:
    """Without, then with hostile clients."""
    load = Load(service.url, "/classify", bodies_of("/classify", [text[:SHORT_CHARACTERS] for text in TEXTS]))
    without = open_loop(load, rate, seconds, 1, settling)
    before = proportional_bytes(service)
    with hostile(kind, service.url, connections) as counts:
        settle(service)
        with_them = open_loop(load, rate, seconds, 1, settling)
        held, closed = counts[OPEN], counts[CLOSED]
        grown = proportional_bytes(service) - before
        files = max(each.num_fds() for each in service.children()[WORKER])
    return Measured(kind, without, with_them, grown / max(1, held), held, closed, files)


def settle(service: Service) -> None:
    """Waits, for a limited time, until the service has handled the first requests of the hostile clients."""
    deadline, quick = time.monotonic() + CONNECT_SECONDS, 0
    while quick < QUICK_IN_A_ROW and time.monotonic() < deadline:
        begun = time.monotonic()
        quick = quick + 1 if service.is_ready() and time.monotonic() - begun < QUICK_SECONDS else 0
        time.sleep(QUICK_SECONDS)


def proportional_bytes(service: Service) -> int:
    """The PSS of all API processes."""
    return sum(each.memory_full_info().pss for each in service.children()[WORKER])


def allow_open_files(needed: int) -> None:
    """Raises the limit of this process, which its children inherit; raises SystemExit if the system forbids it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < needed:
        raise SystemExit(f"{needed} open files are needed and {hard} are allowed; raise the limit with ulimit -Hn.")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, needed), hard))


def report(found: Sequence[Measured], most: float) -> list[str]:
    """Prints the table; returns what is wrong."""
    head = ("kind", "p50 ms without", "with", "p99 ms without", "with", "ratio", "kB per connection", "held", "closed")
    print(table((*head, "open files"), [each.row() for each in found]))
    wrong = [sentence for each in found for sentence in each.wrong(most)]
    for sentence in wrong:
        print(sentence)
    return wrong


def main() -> int:
    """Runs it and prints the table."""
    parser = parser_of(__doc__, models=True, seconds=120)
    parser.add_argument("--kind", nargs="+", choices=tuple(KINDS), default=list(KINDS), help="default: all")
    parser.add_argument("--connections", type=int, default=1000, help="hostile connections (default: 1000)")
    parser.add_argument("--rate", type=float, default=200.0, help="good requests a second (default: 200)")
    parser.add_argument("--ratio", type=float, default=2.0, help="limit of the ratio of p99 (default: 2)")
    parser.add_argument("--settling", type=float, default=SETTLING_SECONDS, help="seconds before (default: 3)")
    parser.add_argument("--api-workers", type=int, default=1, help="API processes (default: 1)")
    arguments = parser.parse_args()
    allow_open_files(arguments.connections + CLIENT_CONNECTIONS + OTHER_FILES)
    flags = ("--max-connections", str(CONNECTIONS), "--api-workers", str(arguments.api_workers))
    with serving(arguments.models, *flags) as service:
        found = [
            measure(service, kind, arguments.connections, arguments.rate, arguments.seconds, arguments.settling)
            for kind in arguments.kind
        ]
    return 1 if report(found, arguments.ratio) else 0


if __name__ == "__main__":
    raise SystemExit(main())
