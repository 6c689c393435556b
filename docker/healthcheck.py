"""Ends with status 0 while the service is ready, else with 1 and a sentence: `HEALTHCHECK` of an image without curl.

It asks the host and port of the environment; ERNIE_HOST=0.0.0.0 reaches this machine on Linux.
"""

import http.client
import os
import sys

host, port = os.environ.get("ERNIE_HOST", "127.0.0.1"), int(os.environ.get("ERNIE_PORT", "8000"))
try:
    connection = http.client.HTTPConnection(host, port, timeout=4)
    connection.request("GET", "/health/ready")
    status = connection.getresponse().status
except (OSError, http.client.HTTPException) as error:
    sys.exit(f"no answer from {host}:{port}: {error}")
if status != http.HTTPStatus.OK:
    sys.exit(f"not ready: status {status}")
