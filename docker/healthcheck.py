"""The `HEALTHCHECK` of the images, which have no curl: exits with 0 if the service is ready, otherwise with 1.

It connects to ERNIE_HOST and ERNIE_PORT. On Linux, a connection to 0.0.0.0 reaches the local machine.
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
