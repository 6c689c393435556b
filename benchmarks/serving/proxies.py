"""HAProxy and nginx in front of replicas; rolling_update.py describes how each behaves."""

from __future__ import annotations

import asyncio
import contextlib
import re
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks.serving.open_loop import CONNECTIONS
from benchmarks.serving.replica import Manifest, Replica
from benchmarks.serving.service import free_port

PROXIES = ("haproxy", "haproxy-checks", "nginx", "tcp")
# Most replicas behind a proxy at a time.
SLOTS = 8


class Proxy:
    """HAProxy or nginx as a separate process, with a log of its requests."""

    def __init__(self, command: Sequence[str], folder: Path, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self._port = port
        self._log = folder / "proxy.log"
        with self._log.open("w") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, cwd=folder)

    async def route(self, replicas: Sequence[Replica]) -> None:
        """Sends new requests to these replicas and no others."""
        raise NotImplementedError

    def wait_listening(self) -> None:
        """Raises SystemExit where it ends instead."""
        while self.process.poll() is None:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self._port)):
                return
            time.sleep(0.05)
        raise SystemExit("the proxy has ended:\n" + "\n".join(self.lines()))

    def lines(self) -> list[str]:
        """Its log."""
        return self._log.read_text(encoding="utf-8", errors="replace").splitlines()

    def retried(self) -> int:
        """Requests that it has tried more than once."""
        return sum(map(tried_again, self.lines()))


class HAProxy(Proxy):
    """Servers are slots that get an address while HAProxy runs."""

    def __init__(self, kind: str, manifest: Manifest, retries: bool, folder: Path) -> None:
        port, probe = free_port(), manifest.readiness
        checked = f" check inter {probe.period}s fall {probe.failures} rise 1" if kind == "haproxy-checks" else ""
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
        super().__init__(["haproxy", "-db", "-f", "haproxy.cfg"], folder, port)
        self._admin = folder / "admin"
        self._by_checks = bool(checked)
        self._slots: dict[str, Replica] = {}

    async def route(self, replicas: Sequence[Replica]) -> None:
        """See Proxy. With health checks a replica stays until it has ended."""
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
        said = (await reader.read()).decode().strip()
        writer.close()
        if said and "changed from" not in said and "no need to change" not in said:
            raise SystemExit(f"HAProxy answered to {command!r}: {said}")


class Nginx(Proxy):
    """Reloaded with a new configuration at each change."""

    def __init__(self, retries: bool, folder: Path) -> None:
        self._folder, port = folder, free_port()
        self._again = "error timeout non_idempotent" if retries else "off"
        self._port = port
        self._write(["127.0.0.1:1"])
        super().__init__(["nginx", "-p", str(folder), "-c", "nginx.conf", "-e", "stderr"], folder, port)

    async def route(self, replicas: Sequence[Replica]) -> None:
        """See Proxy."""
        self._write([replica.url.removeprefix("http://") for replica in replicas])
        self.process.send_signal(signal.SIGHUP)

    def _write(self, addresses: Sequence[str]) -> None:
        servers = "\n".join(f"server {address} max_fails=0;" for address in addresses)
        paths = "\n".join(
            f"{name}_temp_path {self._folder}/{name};" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        (self._folder / "nginx.conf").write_text(f"""
        daemon off;
        worker_processes 1;
        worker_rlimit_nofile {4 * CONNECTIONS};
        pid {self._folder}/nginx.pid;
        events {{ worker_connections {2 * CONNECTIONS}; }}
        http {{
            {paths}
            log_format own "id=$http_x_request_id status=$status upstreams=$upstream_addr answered=$upstream_status";
            access_log /dev/stdout own;
            keepalive_timeout 60s;
            keepalive_requests 1000000;
            upstream replicas {{ {servers} keepalive 64; }}
            server {{
                listen 127.0.0.1:{self._port};
                location / {{
                    proxy_pass http://replicas;
                    proxy_http_version 1.1;
                    proxy_set_header Connection "";
                    proxy_next_upstream {self._again};
                }}
            }}
        }}
        """)


def tried_again(line: str) -> bool:
    """Whether a line of the log of either proxy is of a request that it has tried more than once."""
    return bool(re.search(r"retries=\+?[1-9]|upstreams=[^ ]*,", line))


@contextlib.contextmanager
def proxying(kind: str, manifest: Manifest, retries: bool, folder: Path) -> Iterator[Proxy]:
    """The proxy, until the end of the block."""
    proxy = Nginx(retries, folder) if kind == "nginx" else HAProxy(kind, manifest, retries, folder)
    try:
        proxy.wait_listening()
        yield proxy
    finally:
        proxy.process.terminate()
        proxy.process.wait()
