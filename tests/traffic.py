"""Requests that never stop, as a plant's clients send them: with the canary's header and without, through the ingress.

Every one is noted with its answer, so that a test can say of any span of time what was answered, and by which version.
"""

import asyncio
import json
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Self

import aiohttp

HEADER, VALUE = "x-version", "v2"


@dataclass(frozen=True)
class Answer:
    """One request, from its first byte to the whole answer."""

    began: float
    """By ``time.monotonic``, as is ``ended``."""
    ended: float
    header: bool
    """Whether it carried the canary's header."""
    status: int
    """0 when there was no answer at all."""
    version: str
    """Who answered, as ``x-model-version`` says."""
    text: str
    """What a failed request was answered."""


@dataclass
class Stream:
    """Clients that ask on and on, each at most ``rate`` times a second."""

    url: str
    host: str
    values: list[float] = field(default_factory=lambda: [9.0, 8.0, 7.0])
    clients: int = 2
    """As many with the header as without."""
    rate: float = 20.0
    answers: list[Answer] = field(default_factory=list)
    _stopping: threading.Event = field(default_factory=threading.Event)

    @contextmanager
    def running(self) -> Iterator[Self]:
        """Ask for as long as the body runs."""
        thread = threading.Thread(target=lambda: asyncio.run(self._ask_on()))
        thread.start()
        try:
            yield self
        finally:
            self._stopping.set()
            thread.join()

    def failed(self) -> list[Answer]:
        """The requests that were not answered with 200."""
        return [each for each in self.answers if each.status != 200]

    def versions(self, *, header: bool, since: float = 0.0, until: float = float("inf")) -> Counter[str]:
        """Which versions answered the requests that lie whole within a span of time."""
        return Counter(
            each.version
            for each in list(self.answers)
            if each.header is header and each.began >= since and each.ended <= until and each.status == 200
        )

    def wait_for(self, requests: int, *, header: bool, timeout: float = 60.0) -> Counter[str]:
        """The versions that answer that many requests from now on."""
        since, deadline = time.monotonic(), time.monotonic() + timeout
        while (found := self.versions(header=header, since=since)).total() < requests:
            assert time.monotonic() < deadline, f"only {found} were answered in {timeout:.0f} s: {self.failed()[-3:]}"
            time.sleep(0.1)
        return found

    async def _ask_on(self) -> None:
        timeout = aiohttp.ClientTimeout(total=30)
        async with aiohttp.ClientSession(timeout=timeout) as session:
            asking = [self._client(session, header=header) for header in (True, False) for _ in range(self.clients)]
            await asyncio.gather(*asking)

    async def _client(self, session: aiohttp.ClientSession, *, header: bool) -> None:
        tensor = {"name": "x", "shape": [len(self.values)], "datatype": "FP32", "data": self.values}
        body = json.dumps({"inputs": [tensor]})
        headers = {"Host": self.host, "Content-Type": "application/json"} | ({HEADER: VALUE} if header else {})
        while not self._stopping.is_set():
            began, status, version, text = time.monotonic(), 0, "", ""
            try:
                async with session.post(f"{self.url}/v2/models/m/infer", data=body, headers=headers) as response:
                    answered = await response.text()
                    status, version = response.status, response.headers.get("x-model-version", "")
                    text = "" if status == 200 else answered[:300]
            except (aiohttp.ClientError, TimeoutError) as error:
                text = repr(error)
            ended = time.monotonic()
            self.answers.append(Answer(began, ended, header, status, version, text))
            await asyncio.sleep(max(0.0, 1 / self.rate - (ended - began)))
