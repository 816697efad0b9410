"""A real HTTP server for the tests of what runs in pods: files, ranges, and the ways in which stores misbehave."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from e2e import http_server


@dataclass
class Behaviour:
    """What the server does; changed by a test between requests."""

    files: dict[str, bytes] = field(default_factory=dict)
    statuses: list[int] = field(default_factory=list)
    """Answers of the next requests, before files are served."""
    put_statuses: list[int] = field(default_factory=list)
    """The same, for what is written."""
    cut_after: list[int] = field(default_factory=list)
    """The next answers end after so many bytes of the body, with the connection, a moment later."""
    ranges: bool = True
    tells_length: bool = True
    token: str | None = None
    requests: list[tuple[str, str | None]] = field(default_factory=list)
    """Path and Range header of every request."""
    address: str = ""

    def url(self, name: str) -> str:
        """The URL of a file."""
        return f"{self.address}/{name}"


@contextmanager
def serving() -> Iterator[Behaviour]:
    """Serve until the block ends."""
    behaviour = Behaviour()

    class Handler(http_server.Handler):
        def get(self) -> None:
            path = self.path.partition("?")[0]
            wanted = self.headers.get("Range")
            behaviour.requests.append((path, wanted))
            if behaviour.statuses:
                return self.answer(behaviour.statuses.pop(0))
            if behaviour.token and self.headers.get("Authorization") != f"Bearer {behaviour.token}":
                return self.answer(401)
            content = behaviour.files.get(path[1:])
            if content is None:
                return self.answer(404)
            start = int(wanted.removeprefix("bytes=").removesuffix("-")) if wanted and behaviour.ranges else 0
            if start and start >= len(content):
                return self.answer(416)
            self.send_response(206 if start else 200)
            body = content[start:]
            if behaviour.tells_length:
                self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            cut = False
            if behaviour.cut_after:
                body = body[: behaviour.cut_after.pop(0)]
                cut = True
            try:
                self.wfile.write(body)
            except ConnectionError:
                return None
            if cut:
                # Links break while nothing comes. A client is rid of what it has not yet read when one does.
                time.sleep(0.1)
            self.close_connection = True
            return None

        def put(self) -> None:
            content = self.body()
            if behaviour.put_statuses:
                return self.answer(behaviour.put_statuses.pop(0))
            behaviour.files[self.path[1:]] = content
            self.send_response(201)
            self.end_headers()
            return None

    with http_server.answering(Handler) as behaviour.address:
        yield behaviour
