"""HAProxy in front of replicas; rolling_update.py describes its kinds."""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks.serving.replica import Manifest, Replica
from benchmarks.serving.service import free_port

PROXIES = ("haproxy", "haproxy-checks", "tcp")
# Most replicas behind a proxy at a time.
SLOTS = 8
RETRIED = re.compile(r"retries=\+?[1-9]")


class HAProxy:
    """HAProxy as a separate process, with a log of its requests. Replicas are put into its slots while it runs."""

    def __init__(self, kind: str, manifest: Manifest, retries: bool, folder: Path) -> None:
        port, probe = free_port(), manifest.readiness
        self.url = f"http://127.0.0.1:{port}"
        self._port = port
        self._log = folder / "proxy.log"
        self._admin = folder / "admin"
        self._by_checks = kind == "haproxy-checks"
        self._slots: dict[str, Replica] = {}
        checked = f" check inter {probe.period}s fall {probe.failures} rise 1" if self._by_checks else ""
        http = f"""
            log-format "id=%[capture.req.hdr(0)] status=%ST state=%ts retries=%rc server=%s ms=%Ta"
            http-reuse always
            {"retry-on conn-failure empty-response" if retries else ""}"""
        tcp = 'log-format "state=%ts retries=%rc server=%s ms=%Tt"'
        configuration = f"""
        global
            log stdout format raw local0
            stats socket {folder}/admin level admin
        defaults
            log global
            mode {"tcp" if kind == "tcp" else "http"}
            timeout connect 2s
            timeout client 60s
            timeout server 60s
            timeout check {probe.timeout}s
            retries {3 if retries else 0}
            {"" if retries else "no "}option redispatch
            {tcp if kind == "tcp" else http}
        frontend clients
            bind 127.0.0.1:{port}
            {"" if kind == "tcp" else "http-request capture req.hdr(x-request-id) len 64"}
            default_backend replicas
        backend replicas
            balance roundrobin
            {f"option httpchk GET {probe.path}" if checked else ""}
            server-template slot 1-{SLOTS} 127.0.0.1:1{checked} disabled
        """
        (folder / "haproxy.cfg").write_text(f"{configuration}\n")
        with self._log.open("w") as log:
            self.process = subprocess.Popen(["haproxy", "-db", "-f", "haproxy.cfg"], stdout=log, stderr=log, cwd=folder)

    def wait_listening(self) -> None:
        """Raises SystemExit where it ends instead."""
        while self.process.poll() is None:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self._port)):
                return
            time.sleep(0.05)
        raise SystemExit("the proxy has stopped:\n" + "\n".join(self.lines()))

    def lines(self) -> list[str]:
        """Its log."""
        return self._log.read_text(encoding="utf-8", errors="replace").splitlines()

    def retried(self) -> int:
        """Requests that it has sent more than once."""
        return sum(bool(RETRIED.search(line)) for line in self.lines())

    async def route(self, replicas: Sequence[Replica]) -> None:
        """Sends new requests to these replicas only. With health checks a replica stays until it has stopped."""
        for slot, replica in list(self._slots.items()):
            if replica not in replicas and not (self._by_checks and replica.terminating):
                await self._say(f"set server replicas/{slot} state drain")
                del self._slots[slot]
        for replica in replicas:
            if replica not in self._slots.values():
                slot = next(name for number in range(SLOTS) if (name := f"slot{number + 1}") not in self._slots)
                self._slots[slot] = replica
                host, port = replica.url.removeprefix("http://").split(":")
                await self._say(f"set server replicas/{slot} state maint")
                await self._say(f"set server replicas/{slot} addr {host} port {port}")
                await self._say(f"set server replicas/{slot} state ready")

    async def _say(self, command: str) -> None:
        reader, writer = await asyncio.open_unix_connection(str(self._admin))
        writer.write(f"{command}\n".encode())
        answer = (await reader.read()).decode().strip()
        writer.close()
        if answer and "changed from" not in answer and "no need to change" not in answer:
            raise SystemExit(f"HAProxy answered to {command!r}: {answer}")


@contextlib.contextmanager
def proxying(kind: str, manifest: Manifest, retries: bool, folder: Path) -> Iterator[HAProxy]:
    """The proxy, until the end of the block."""
    proxy = HAProxy(kind, manifest, retries, folder)
    try:
        proxy.wait_listening()
        yield proxy
    finally:
        proxy.process.terminate()
        proxy.process.wait()
