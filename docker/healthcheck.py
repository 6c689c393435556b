"""Exit status 0 while the service is ready; for `HEALTHCHECK`, in an image that has no curl."""

import os
import sys
import urllib.error
import urllib.request

try:
    urllib.request.urlopen(f"http://127.0.0.1:{os.environ.get('ERNIE_PORT', '8000')}/health/ready", timeout=4)
except (urllib.error.URLError, TimeoutError) as error:
    sys.exit(f"not ready: {error}")
