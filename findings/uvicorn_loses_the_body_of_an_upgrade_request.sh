#!/bin/sh
# uvicorn with httptools gives the application an empty body if a POST asks for an upgrade to HTTP/2.
#
# A server may ignore `Upgrade: h2c` and answer over HTTP/1.1 (RFC 9110, 7.8). uvicorn logs "Unsupported upgrade request."
# and answers, but with httptools the body is lost. A JSON endpoint then answers 400 or 422. With h11 the body arrives.
#
# PYTHON names the interpreter (default: python3). Exit status: 0 as recorded, 1 changed, 2 could not run.
folder=$(mktemp -d) || exit 2
trap 'rm -rf "$folder"' EXIT
{ "${PYTHON:-python3}" -m venv "$folder" && "$folder/bin/pip" install --quiet --disable-pip-version-check \
    'uvicorn==0.54.0' 'httptools==0.9.0' 'h11==0.16.0'; } || { echo 'could not run: the packages cannot be installed'; exit 2; }
cat >"$folder/finding.py" <<'PYTHON'
import os
import sys

sys.excepthook = lambda kind, error, trace: (print(f"could not run: {error!r}", flush=True), os._exit(2))

import asyncio
import threading
from http.client import HTTPConnection
from socket import create_server

import uvicorn

EXPECTED = {"httptools": 5, "httptools, upgrade": 5, "h11": 5, "h11, upgrade": 5}
RECORDED = {"httptools": 5, "httptools, upgrade": 0, "h11": 5, "h11, upgrade": 5}
UPGRADE = {"Connection": "Upgrade, HTTP2-Settings", "Upgrade": "h2c", "HTTP2-Settings": "AAMAAABkAAQAoAAAAAIAAAAA"}


async def app(scope, receive, send):  # type: ignore[no-untyped-def]
    body, more = b"", True
    while more:
        message = await receive()
        body, more = body + message["body"], message["more_body"]
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"1")]})
    await send({"type": "http.response.body", "body": b"%d" % len(body)})


def main() -> dict[str, int]:
    print(f"uvicorn {uvicorn.__version__}")
    found = {}
    for http in ("httptools", "h11"):
        listener = create_server(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(app, http=http, lifespan="off", log_level="error"))
        thread = threading.Thread(target=lambda server=server, on=listener: asyncio.run(server.serve([on])))
        thread.start()
        for name, headers in ((http, {}), (f"{http}, upgrade", UPGRADE)):
            client = HTTPConnection("127.0.0.1", listener.getsockname()[1], timeout=10)
            client.request("POST", "/", b"hello", headers)
            found[name] = int(client.getresponse().read())
            client.close()
        server.should_exit = True
        thread.join()
    return found


if __name__ == "__main__":
    found = main()
    print(f"expected: {EXPECTED}\nseen:     {found}")
    if found != RECORDED:
        sys.exit(f"changed:  {RECORDED} was recorded")
PYTHON
cd "$folder" && "$folder/bin/python" finding.py
