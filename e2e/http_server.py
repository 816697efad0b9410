"""A small real HTTP server for as long as a block of code runs; what it answers is the caller's."""

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Handler(BaseHTTPRequestHandler):
    """Says nothing of its requests; a caller states what it answers to the methods that it knows."""

    def get(self) -> None:
        """Answer a GET."""
        self.answer(405)

    def post(self) -> None:
        """Answer a POST."""
        self.answer(405)

    def put(self) -> None:
        """Answer a PUT."""
        self.answer(405)

    def do_GET(self) -> None:
        """As http.server names it."""
        self.get()

    def do_POST(self) -> None:
        """As http.server names it."""
        self.post()

    def do_PUT(self) -> None:
        """As http.server names it."""
        self.put()

    def answer(self, status: int, body: bytes = b"", headers: Mapping[str, str] | None = None) -> None:
        """A whole answer."""
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def body(self) -> bytes:
        """What came with the request."""
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: the tests look at what was asked themselves."""


@contextmanager
def answering(handler: type[Handler], host: str = "127.0.0.1") -> Iterator[str]:
    """Serve at a free port until the block ends; the address, ``http://host:port``."""
    server = ThreadingHTTPServer((host, 0), handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield f"http://{host}:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
