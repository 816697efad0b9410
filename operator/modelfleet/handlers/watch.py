"""Kopf's watch streams of what users write, in a thread and an event loop of their own.

Each event is handed to the operator's loop. Children and nodes are not here, but in ``cluster/streams.py``.

A thread, because kopf takes every task of its event loop for its own and cancels it when it stops, and because a
burst of events must not keep the Lease from being renewed. Only ``on.event`` handlers: no annotations, no finalizers,
no Events. Kopf's CRD observer is off (``scanning.disabled``): the operator waits for its CRDs before it starts this.
"""

import asyncio
import ssl
import threading
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

import kopf

from modelfleet import event_loop
from modelfleet.cluster.connection import load_configuration
from modelfleet.cluster.kinds import KINDS, OWN_KINDS, SELECTED_KINDS, label_selector
from modelfleet.cluster.streams import Patience, Sink, hand_over
from modelfleet.plan.outcome import RawObject

GATHER_SECONDS: Final = 0.02
"""For how long events are gathered for the operator's loop: to wake it costs more than an event does."""


class WatchThread:
    """The watch streams of some kinds; the API server must serve them."""

    def __init__(self, sink: Sink, kinds: Sequence[str] = OWN_KINDS) -> None:
        self._loop: asyncio.AbstractEventLoop = asyncio.get_running_loop()
        self._sink = sink
        self._kinds = tuple(kinds)
        self._arrived: deque[tuple[str | None, RawObject]] = deque()
        self._told = False
        """Whether the operator's loop knows that something has arrived."""
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)
        self.ended: asyncio.Future[None] = self._loop.create_future()
        """Done when the streams ended; with their error where they failed."""

    def start(self) -> None:
        """Begin to list and watch."""
        self._thread.start()

    async def stop(self) -> None:
        """End the streams and wait for it."""
        self._stop.set()
        await asyncio.wait([self.ended], timeout=10)

    def _run(self) -> None:
        try:
            event_loop.run(
                kopf.operator(
                    registry=self._registry(),
                    settings=_settings(self._kinds),
                    clusterwide=True,
                    standalone=True,
                    stop_flag=self._stop,
                )
            )
        except BaseException as error:
            self._call(_fail, self.ended, error)
        else:
            self._call(_finish, self.ended)

    def _registry(self) -> kopf.OperatorRegistry:
        registry = kopf.OperatorRegistry()
        kopf.on.login(registry=registry)(_login)
        for name in self._kinds:
            kind = KINDS[name]
            group, _, version = kind.api_version.rpartition("/")
            kopf.on.event(group, version, kind.plural, id="observe", registry=registry)(self._observe)
        return registry

    async def _observe(self, event: Any, **_unused: Any) -> None:
        self._arrived.append((event["type"], event["object"]))
        if not self._told:
            self._told = True
            asyncio.get_running_loop().call_later(GATHER_SECONDS, self._call, self._hand_over)

    def _hand_over(self) -> None:
        """On the operator's loop: all that has arrived, in its order."""
        self._told = False
        while self._arrived:
            hand_over(self._sink, *self._arrived.popleft())

    def _call(self, function: Callable[..., None], *arguments: Any) -> None:
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(function, *arguments)


class _Credentials(kopf.ConnectionInfo):
    """Credentials whose TLS is as strict as that of the operator's own requests (see ``cluster/connection.py``)."""

    def as_ssl_context(self) -> ssl.SSLContext:
        """Verifies chain and host name, and not the form of the certificates."""
        context = super().as_ssl_context()
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT
        return context


async def _login(**_unused: Any) -> kopf.ConnectionInfo:
    """The same credentials that the operator's own requests use; asked again when they are refused."""
    configuration = await load_configuration()
    token = await configuration.get_api_key_with_prefix("BearerToken")
    scheme, _, secret = str(token or "").rpartition(" ")
    return _Credentials(
        server=configuration.host,
        ca_path=configuration.ssl_ca_cert,
        insecure=not configuration.verify_ssl,
        scheme=scheme.capitalize() or None,
        token=secret or None,
        certificate_path=configuration.cert_file,
        private_key_path=configuration.key_file,
        proxy_url=configuration.proxy,
    )


class _NoComparison(kopf.AnnotationsDiffBaseStorage):
    """Kopf copies each object to see what changed since its handlers ran: dear, and nothing here asks for it."""

    def fetch(self, *, body: kopf.Body) -> kopf.BodyEssence | None:
        """Nothing was stored."""
        return None

    def build(self, *, body: kopf.Body, extra_fields: object = None) -> kopf.BodyEssence:
        """Nothing is compared."""
        return kopf.BodyEssence()


class _NoProgress(kopf.ProgressStorage):
    """Kopf looks in each object for how far its handlers came: ours are through with an event at once."""

    def fetch(self, *, key: kopf.HandlerId, body: kopf.Body) -> None:
        """Nothing was stored."""

    def store(self, *, key: kopf.HandlerId, record: object, body: kopf.Body, patch: kopf.Patch) -> None:
        """Nothing is."""

    def purge(self, *, key: kopf.HandlerId, body: kopf.Body, patch: kopf.Patch) -> None:
        """There is nothing to take out."""

    def touch(self, *, body: kopf.Body, patch: kopf.Patch, value: str | None) -> None:
        """Nothing is to wake anything."""

    def clear(self, *, essence: kopf.BodyEssence) -> kopf.BodyEssence:
        """There is nothing to leave out."""
        return essence


def _settings(kinds: Iterable[str]) -> kopf.OperatorSettings:
    settings = kopf.OperatorSettings()
    settings.posting.enabled = False
    settings.scanning.disabled = True
    settings.persistence.diffbase_storage = _NoComparison()
    settings.persistence.progress_storage = _NoProgress()
    settings.watching.chunk_size = 500
    settings.watching.connect_timeout = 10
    # Kopf's default gives a stream up for good after a minute of 5xx or 403.
    settings.networking.error_backoffs = Patience()
    for name in SELECTED_KINDS.intersection(kinds):
        kind = KINDS[name]
        group, _, version = kind.api_version.rpartition("/")
        settings.watching.label_selectors[group, version, kind.plural] = label_selector(name)
    return settings


def _finish(ended: asyncio.Future[None]) -> None:
    if not ended.done():
        ended.set_result(None)


def _fail(ended: asyncio.Future[None], error: BaseException) -> None:
    if not ended.done():
        ended.set_exception(error if isinstance(error, Exception) else RuntimeError(repr(error)))
