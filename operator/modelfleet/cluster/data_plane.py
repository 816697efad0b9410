"""Requests to the data plane, as clients make them: who answers. What that means is ``plan/traffic/probe.py``'s.

The address was written by a user and allowed by the administrator: nothing but that address is asked. Redirects are not
followed, proxies of the environment are not used, no credentials are sent, and of an answer one header is read.
"""

import re
from typing import Final

import aiohttp

from modelfleet.plan.traffic.probe import TRIES, Ask, Question, Reply

TIMEOUT_SECONDS: Final = 5.0
REVISION_HEADER: Final = "x-model-revision"
ERROR_LENGTH: Final = 100
_REVISION: Final = re.compile(r"[a-z0-9]{1,63}")


class DataPlane:
    """Asks. Each request has a connection of its own, so there is nothing to close."""

    def __init__(self, timeout_seconds: float = TIMEOUT_SECONDS) -> None:
        self._timeout = aiohttp.ClientTimeout(total=timeout_seconds)

    async def ask(self, question: Question) -> list[Reply]:
        """The replies to all requests of a question; the first without an answer ends it."""
        replies: list[Reply] = []
        connector = aiohttp.TCPConnector(force_close=True)
        async with aiohttp.ClientSession(
            trust_env=False, cookie_jar=aiohttp.DummyCookieJar(), connector=connector, timeout=self._timeout
        ) as session:
            for ask in question.asks * TRIES:
                replies.append(await self._one(session, question, ask))
                if replies[-1].error:
                    break
        return replies

    async def _one(self, session: aiohttp.ClientSession, question: Question, ask: Ask) -> Reply:
        headers = {"User-Agent": "modelfleet-operator"}
        if question.host:
            headers["Host"] = question.host
        if ask.header is not None:
            headers[ask.header[0]] = ask.header[1]
        try:
            async with session.get(question.url, headers=headers, allow_redirects=False) as answer:
                said = answer.headers.get(REVISION_HEADER, "")
        except TimeoutError:
            return Reply(ask, error=f"{question.url} gives no answer in time")
        except (aiohttp.ClientError, OSError, ValueError) as error:
            return Reply(ask, error=f"{question.url}: {str(error)[:ERROR_LENGTH]}")
        return Reply(ask, revision=said if _REVISION.fullmatch(said) else "")
