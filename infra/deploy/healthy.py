"""Exit status 0 if the server of this container says that it is alive: Docker's health check.

Alive, not ready: a process whose storage is away waits for it, and to restart it would help nobody. The certificate is
not checked, since it names the service and not this loopback address.
"""

import os
import ssl
import sys
import urllib.request

SECONDS = 5


def alive(port: str, *, https: bool) -> bool:
    """Whether /healthz answers with success."""
    unchecked = ssl.create_default_context()
    unchecked.check_hostname = False
    unchecked.verify_mode = ssl.CERT_NONE
    url = f"{'https' if https else 'http'}://127.0.0.1:{port}/healthz"
    opener = urllib.request.build_opener(
        urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=unchecked)
    )
    try:
        with opener.open(url, timeout=SECONDS) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


if __name__ == "__main__":
    port = os.environ.get("RUNFEED_PORT") or "8765"
    sys.exit(not alive(port, https=bool(os.environ.get("RUNFEED_TLS_CERTIFICATE"))))
