"""How the app is served: this machine only, nothing from outside, nothing recorded.

In: an address and credentials. Out: options of `Blocks.launch`. Knows nothing of tabs or runs.
"""

from __future__ import annotations

import functools
import gzip
import ipaddress
import os
import socket
import sys
from importlib.resources import files
from pathlib import Path
from typing import Any

from starlette.datastructures import MutableHeaders
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

ASSETS = Path(__file__).parent.parent / "assets"
WEB = ASSETS / "web"
PLOTLY = Path(str(files("plotly") / "package_data" / "plotly.min.js"))
DEFAULT_PORT = 7860
PORTS_TRIED = 100
LOCAL_HOSTS = ("127.0.0.1", "localhost")

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"

CONTENT_POLICY = "; ".join(
    (
        "default-src 'self'",
        "script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:",  # Gradio's templates need both
        "style-src 'self' 'unsafe-inline'",
        "img-src 'self' data: blob:",
        "font-src 'self' data:",
        "connect-src 'self' data: blob:",
        "worker-src 'self' blob:",
        "object-src 'none'",
        "base-uri 'self'",
        "frame-ancestors 'self'",
    )
)
"""The browser itself refuses every request to another machine."""

LAUNCH_OPTIONS: dict[str, Any] = {
    "share": False,
    "pwa": True,
    "mcp_server": False,
    "ssr_mode": False,
    "run_history": False,  # would keep every field's content in the browser, in clear
    "enable_monitoring": False,
    "footer_links": [],
    "show_error": True,
    "quiet": True,
    "max_file_size": "500mb",
    "state_session_capacity": 200,
    "strict_cors": True,
    "allowed_paths": [],  # downloads go through Gradio's own cache
    "blocked_paths": [],
    "css_paths": [
        ASSETS / f"{name}.css" for name in ("style", "advisor", "build", "compare", "learn")
    ],
    "favicon_path": ASSETS / "logo.svg",
}


def credentials(auth: tuple[str, str] | str | None) -> tuple[str, str] | None:
    """Read `user:password` or a pair; raises `ValueError` where one half is missing."""
    if not auth:
        return None
    user, password = auth if isinstance(auth, tuple) else auth.partition(":")[::2]
    if not user or not password:
        raise ValueError(
            "--auth has no user or no password, so nobody could log in.\n"
            "Write it as user:password, for example --auth me:a-long-password."
        )
    return user, password


def refuse_open_door(host: str, auth: tuple[str, str] | None) -> None:
    """Raise `ValueError` for an address that others can reach while there is no login."""
    if auth is None and not is_local(host):
        raise ValueError(
            f"--host {host} can be reached from other machines, and anyone there could start and "
            "delete runs.\nAdd --auth user:password, or leave --host at 127.0.0.1."
        )


def is_local(host: str) -> bool:
    """Whether only this machine can reach `host`."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def free_port(host: str, first: int) -> int:
    """Find the first free port from `first` on; raises `OSError` after a hundred."""
    for port in range(first, min(first + PORTS_TRIED, 65536)):
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, port))
            except OSError:
                continue
            return port
    raise OSError(
        f"No free port from {first} to {first + PORTS_TRIED - 1} on {host}.\n"
        "Give another one with --port, or close a program that listens there."
    )


def app_options(host: str, auth: tuple[str, str] | None) -> dict[str, Any]:
    """Options of the web application: hosts it answers to, headers, and its own static files.

    Without a login only this machine's names are answered: a foreign page cannot reach the app by
    pointing its own name at 127.0.0.1.
    """
    hosts = ["*"] if auth and not is_local(host) else sorted({*LOCAL_HOSTS, host})
    return {
        "middleware": [
            Middleware(TrustedHostMiddleware, allowed_hosts=hosts),
            Middleware(SafeHeaders),
        ],
        "routes": [
            Route("/studio/plotly.min.js", plotly_script),
            Mount("/studio", StaticFiles(directory=WEB)),
        ],
        "docs_url": None,
        "redoc_url": None,
    }


class SafeHeaders:
    """Adds the content policy and its companions to every answer."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on; add headers to the start of the answer."""

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers["Content-Security-Policy"] = CONTENT_POLICY
                headers["X-Content-Type-Options"] = "nosniff"
                headers["Referrer-Policy"] = "no-referrer"
            await send(message)

        await self.app(scope, receive, send_with_headers)


def script_tag(name: str) -> str:
    """A `<script>` of our own or Plotly's; its address changes with its content."""
    file = PLOTLY if name == PLOTLY.name else WEB / name
    stamp = f"{file.stat().st_size:x}-{file.stat().st_mtime_ns:x}"
    return f'<script src="studio/{name}?v={stamp}"></script>'


def plotly_script(request: Request) -> Response:
    """Serve the plotly package's own script: packed once, then kept by the browser."""
    headers = {"Cache-Control": "public, max-age=604800, immutable", "Vary": "Accept-Encoding"}
    if "gzip" not in request.headers.get("accept-encoding", ""):
        return Response(PLOTLY.read_bytes(), media_type="text/javascript", headers=headers)
    headers["Content-Encoding"] = "gzip"  # a large answer without it is packed anew every time
    return Response(_packed(PLOTLY), media_type="text/javascript", headers=headers)


@functools.cache
def _packed(file: Path) -> bytes:
    return gzip.compress(file.read_bytes(), compresslevel=6)


def announce(url: str, *, asked: int | None, got: int) -> None:
    """Say where the app is, on the terminal."""
    moved = f" (port {asked} is taken)" if asked and asked != got else ""
    sys.stderr.write(f"Distill Studio is at {url}{moved}. Ctrl+C closes the app; runs go on.\n")
