"""A local web server with configurable faults, which records its requests."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

Behaviour = Callable[["Handler"], None]


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, Behaviour] = {}
        self.requests: list[tuple[str, dict[str, str]]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, request: object, client_address: object) -> None:
        """Ignore clients that close the connection, as some tests do."""


class Handler(BaseHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.server.requests.append((self.path, dict(self.headers)))
        self.server.files.get(self.path, status(404))(self)

    def log_message(self, *args: object) -> None:
        """Discard log messages."""

    def head(self, code: int, **headers: object) -> None:
        self.send_response(code)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()

    def hang_up(self) -> None:
        self.wfile.flush()
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)

    @property
    def offset(self) -> int:
        """Return the first byte that the Range header requests."""
        value = self.headers.get("Range", "bytes=0-")
        return int(value.removeprefix("bytes=").split("-")[0])


def whole_body(body: bytes, **headers: object) -> Behaviour:
    """Send the body; support Range, and If-Range if `headers` has an ETag."""

    def answer(handler: Handler) -> None:
        start = handler.offset
        if_range = handler.headers.get("If-Range")
        if start and if_range in (None, headers.get("ETag")):
            rest = body[start:]
            handler.head(
                206,
                Content_Length=len(rest),
                Content_Range=f"bytes {start}-{len(body) - 1}/{len(body)}",
                **headers,
            )
            handler.wfile.write(rest)
        else:
            handler.head(200, Content_Length=len(body), **headers)
            handler.wfile.write(body)

    return answer


def status(code: int, **headers: object) -> Behaviour:
    """Respond with a status code and headers."""

    def answer(handler: Handler) -> None:
        handler.head(code, Content_Length=0, **headers)

    return answer


def truncated_body(body: bytes, after: int, **headers: object) -> Behaviour:
    """Announce the whole requested range, but close the connection after `after` bytes."""

    def answer(handler: Handler) -> None:
        start = handler.offset
        rest = body[start:]
        if start:
            span = f"bytes {start}-{len(body) - 1}/{len(body)}"
            handler.head(206, Content_Length=len(rest), Content_Range=span, **headers)
        else:
            handler.head(200, Content_Length=len(rest), **headers)
        handler.wfile.write(rest[:after])
        handler.hang_up()

    return answer


def body_without_length(body: bytes) -> Behaviour:
    """Send a body without a Content-Length, which ends when the connection is closed."""

    def answer(handler: Handler) -> None:
        handler.head(200, Connection="close")
        handler.wfile.write(body)
        handler.close_connection = True

    return answer


def in_turn(*behaviours: Behaviour) -> Behaviour:
    """Use one behaviour per request, and the last for all further requests."""
    rest = list(behaviours)

    def answer(handler: Handler) -> None:
        (rest.pop(0) if len(rest) > 1 else rest[0])(handler)

    return answer


def no_answer(release: threading.Event) -> Behaviour:
    """Accept the request, but do not respond until `release` is set."""

    def answer(handler: Handler) -> None:
        release.wait(10)
        handler.close_connection = True

    return answer


@contextmanager
def run_server() -> Iterator[Server]:
    """Run a server in a thread."""
    server = Server()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
