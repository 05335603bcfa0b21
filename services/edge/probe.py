"""Ask the edge on this machine whether it takes requests: `python -m services.edge.probe`, a container's health check.

The exit status is 0 when it does.
"""

from http.client import HTTPConnection, HTTPException

from services.common.settings import read
from services.edge.settings import EdgeSettings

_TIMEOUT_S = 2.0


def main() -> None:
    """Ask once."""
    settings = read(EdgeSettings)
    host = "127.0.0.1" if settings.host == "0.0.0.0" else settings.host  # noqa: S104
    connection = HTTPConnection(host, settings.port, timeout=_TIMEOUT_S)
    try:
        connection.request("GET", "/ready")
        status = connection.getresponse().status
    except (OSError, HTTPException) as error:
        raise SystemExit(f"{host}:{settings.port} does not answer: {error}") from None
    raise SystemExit(None if status == 200 else f"{host}:{settings.port} answers {status}")


if __name__ == "__main__":
    main()
