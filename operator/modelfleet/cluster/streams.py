"""Following children and nodes through the Kubernetes client's watch, from where their list ended, and without end.

Nine of ten events are about these, and of each only what it is about matters: no handler, no memory, no logger of its
own, which kopf has for every object (``docs/adr/0015-children-past-kopf.md``). What was missed while a stream could
not be resumed is listed, and the audit (``sync.py``) takes out what is not in that list any more.
"""

import asyncio
import contextlib
import itertools
import json
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from typing import Any, Final

from modelfleet.cluster.connection import Connection
from modelfleet.cluster.errors import ApiError
from modelfleet.cluster.kinds import KINDS, label_selector
from modelfleet.plan.outcome import RawObject

Sink = Callable[[str | None, RawObject], None]
"""Takes the type of an event (``None``: from a list) and its object, on the operator's loop."""

GONE: Final = 410
"""The HTTP status for a resourceVersion that is too old."""

TURN: Final = 50
"""Events of a stream after which the loop's other tasks have their turn: in a burst, too, the Lease must be renewed."""

logger = logging.getLogger(__name__)


class Patience:
    """Seconds between attempts, without end: a stream that is given up is a cluster that nobody watches."""

    def __iter__(self) -> Iterator[float]:
        yield from (1.0, 1.0, 2.0, 3.0)
        while True:
            yield 5.0


class Streams:
    """The watch streams of kinds that somebody else lists."""

    def __init__(self, connection: Connection, list_again: Callable[[str], Awaitable[str]], sink: Sink) -> None:
        self._connection = connection
        self._list_again = list_again
        self._sink = sink

    async def follow(self, kind: str, version: str) -> None:
        """Hand over what becomes of the objects of a kind after this resourceVersion, until cancelled.

        Where that cannot be known any more ``list_again`` is called, which takes in what there is now by itself.
        """
        patience, told = iter(Patience()), ""
        while True:
            problem = "it ended before anything came"
            try:
                if not version:
                    version = await self._list_again(kind)
                async with contextlib.aclosing(self._events(kind, version)) as events:
                    async for event in events:
                        version = event["object"]["metadata"]["resourceVersion"]
                        if event["type"] != "BOOKMARK":
                            hand_over(self._sink, event["type"], event["object"])
                        if told:
                            logger.info("The watch stream of %s brings news again", kind)
                        patience, told, problem = iter(Patience()), "", ""
            except TimeoutError:
                # No fault by itself: etcd may tell the API server so rarely how far it is that there is nothing to say
                # of a kind of which nothing changes. Whether it is one, the audit finds.
                problem = told
                logger.debug("The watch stream of %s is silent; taken up anew", kind)
            except ApiError as error:
                problem = str(error)
                if error.code == GONE:
                    version = ""
            except Exception as error:
                # Whatever came, a line too long to be one included: the others are followed, and this one tried again.
                problem = repr(error)
            if problem and problem != told:
                logger.warning("The watch stream of %s: %s; tried again", kind, problem)
            told = problem
            await asyncio.sleep(next(patience))

    async def _events(self, kind: str, version: str) -> AsyncGenerator[Any]:
        """Until the server ends the stream, as it does every now and then."""
        query = {
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": version,
            "labelSelector": label_selector(kind),
        }
        stream = await self._connection.stream(KINDS[kind].path(), kind=kind, query=query)
        try:
            for number in itertools.count(1):
                line = await stream.content.readline()
                if not line:
                    return
                event = json.loads(line)
                if event["type"] == "ERROR":
                    status = event["object"]
                    raise ApiError(status["code"], status.get("reason", ""), status.get("message", ""))
                yield event
                if number % TURN == 0:
                    await asyncio.sleep(0)
        finally:
            stream.close()


def hand_over(sink: Sink, type_: str | None, obj: RawObject) -> None:
    """Have the sink take an event in; one that it cannot take in holds up no other.

    It may be of an object that an older contract let in. The slow resync comes back to it.
    """
    try:
        sink(type_, obj)
    except Exception:
        metadata = obj.get("metadata") or {}
        name = f"{metadata.get('namespace', '')}/{metadata.get('name')}"
        logger.exception("An event of %s %s could not be taken in", obj.get("kind"), name)
