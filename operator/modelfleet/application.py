"""The operator put together: what is built, in which order it starts, and in which order it stops.

Every replica watches and answers probes; the one that holds the Lease reconciles and sweeps. Losing the Lease ends
the reconciling, not the process: the view stays warm, and the replica stands by again.
"""

import asyncio
import logging
import time
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Final, get_args

from modelfleet import __version__, settings
from modelfleet.api import crd, names, progress
from modelfleet.api.wire import FailureReason
from modelfleet.cluster.client import Cluster
from modelfleet.cluster.connection import Connection, load_configuration
from modelfleet.cluster.data_plane import DataPlane
from modelfleet.cluster.errors import ApiError, ClusterError
from modelfleet.cluster.kinds import FOLLOWED_KINDS, KINDS, OWN_KINDS
from modelfleet.cluster.lease import Lease, Timing
from modelfleet.cluster.prometheus import Prometheus
from modelfleet.cluster.streams import Streams
from modelfleet.cluster.sync import Synchronizer
from modelfleet.cluster.tokens import Tokens
from modelfleet.cluster.view import View
from modelfleet.handlers.progress import ProgressServer
from modelfleet.handlers.progress_service import ProgressService
from modelfleet.handlers.routing_watch import RoutingWatch
from modelfleet.handlers.watch import WatchThread
from modelfleet.plan import installation
from modelfleet.plan.outcome import Note, RawObject
from modelfleet.probes import ProbeServer
from modelfleet.reconcile import routing, sweep
from modelfleet.reconcile.confirmations import Confirmations
from modelfleet.reconcile.context import Context, Reconcile
from modelfleet.reconcile.controller import Controller
from modelfleet.reconcile.execute import Executor
from modelfleet.reconcile.key import Key
from modelfleet.reconcile.measurements import Measurements
from modelfleet.reconcile.metrics import Metrics
from modelfleet.reconcile.queue import Queue
from modelfleet.reconcile.reports import Reports
from modelfleet.reconcile.schedule import Pace

SCHEMA_CHECK_SECONDS: Final = 30.0
RETRY_SECONDS: Final = 2.0
STOP_SECONDS: Final = 20.0
"""How long a running reconcile may take to finish when the operator stops or lost the Lease."""

_FAILURE_REASONS: Final = get_args(FailureReason)

logger = logging.getLogger(__name__)


class Application:
    """One replica of the operator; :meth:`run` is its life."""

    def __init__(self, chosen: settings.Settings, reconcilers: Mapping[str, Reconcile], configuration: object) -> None:
        self._settings = chosen
        self._view = View()
        self._queue: Queue | None = None
        self.port = 0
        """Where probes and metrics are answered, once it runs."""
        self._fill_problem = ""
        self._schema_problem = "the CustomResourceDefinitions were not looked at yet"
        self._metrics = Metrics(self._view, lambda: self._queue.depth() if self._queue else 0)
        agent = f"modelfleet-operator/{__version__}"
        self._connection = Connection(configuration, agent, self._metrics.count_request)
        lease, identity = chosen.lease, settings.identity()
        timing = Timing(lease.duration_seconds, lease.renew_deadline_seconds, lease.retry_period_seconds)
        self._lease = Lease(self._connection, chosen.namespace, lease.name, identity, timing)
        self._metrics.leader.set_function(lambda: float(self._lease.held))
        self._cluster = Cluster(self._connection, self._view, self._lease)
        self._sync = Synchronizer(
            self._cluster, self._view, chosen.audit_seconds, lambda kind: self._metrics.repairs.labels(kind).inc()
        )
        self._prometheus = Prometheus()
        self._measurements = Measurements(self._prometheus.query, self._wake, _utc_now, self._count_query)
        self._reports = Reports(self._wake)
        self._confirmations = Confirmations(DataPlane().ask, self._wake, _utc_now)
        executor = Executor(self._cluster, self._view, time.monotonic, self._count_note)
        context = Context(
            self._view,
            self._cluster,
            chosen.installation(),
            self._measurements,
            self._confirmations,
            self._reports,
            _utc_now,
            refused_labels=executor.refused_labels,
        )
        self._controller = Controller(reconcilers, context, executor, self._metrics)
        server = ProgressServer(
            self._view,
            Tokens(self._connection, progress.AUDIENCE),
            self._reports,
            leads=lambda: self._lease.held and self._queue is not None,
            now=_utc_now,
            observe=lambda code: self._metrics.progress_reports.labels(str(code)).inc(),
        )
        self.progress = ProgressService(
            chosen.progress, chosen.namespace, self._cluster, server, self._announce, _utc_now
        )
        self._view.listen(self._changed)
        self._watch = WatchThread(self._observed)
        self._streams = Streams(self._connection, self._sync.list_again, self._observed)
        self._routing = RoutingWatch(
            self._connection, self._view, self._sync, self._observed, chosen.traffic.kinds(), self._routing_changed
        )
        self._probes = ProbeServer(
            chosen.http_host, chosen.http_port, self._unhealthy, self._unready, self._metrics.registry
        )

    async def run(self, stop: asyncio.Event) -> None:
        """Work until ``stop`` is set; raises what made working on impossible."""
        self.port = await self._probes.start()
        logger.info("modelfleet %s, probes and metrics on port %d", __version__, self.port)
        work = asyncio.create_task(self._work())
        stopped = asyncio.create_task(stop.wait())
        try:
            ends: list[asyncio.Future[Any]] = [work, stopped, self._watch.ended]
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        finally:
            ended_early = not stop.is_set()
            stopped.cancel()
            work.cancel()
            await asyncio.wait([work])
            await self._lease.release()
            await self.progress.stop()
            await self._watch.stop()
            await self._probes.stop()
            await self._measurements.close()
            await self._prometheus.close()
            await self._confirmations.close()
            await self._connection.close()
        for task in (work, self._watch.ended):
            if task.done() and not task.cancelled() and task.exception() is not None:
                raise task.exception() or RuntimeError
        if ended_early:
            raise RuntimeError("the watch streams ended by themselves")

    async def _work(self) -> None:
        await self._wait_for_kinds()
        self._watch.start()
        async with asyncio.TaskGroup() as group:
            group.create_task(self._check_schemas())
            await self._fill()
            for kind in FOLLOWED_KINDS:
                group.create_task(self._streams.follow(kind, self._sync.versions[kind]))
            await self._routing.look()
            group.create_task(self._routing.run())
            group.create_task(self._sync.run())
            group.create_task(self._lead())

    async def _wait_for_kinds(self) -> None:
        """Return once the API server serves our kinds: kopf looks for them once, when it starts."""
        told = ""
        while problem := await self._missing_kinds():
            self._schema_problem = problem
            if problem != told:
                logger.warning("Waiting: %s", problem)
                told = problem
            await asyncio.sleep(RETRY_SECONDS)

    async def _missing_kinds(self) -> str:
        """What is not served yet; empty when all is.

        The list of groups is asked too: it follows a moment after the group itself, and is where kopf looks.
        """
        wanted = {KINDS[kind].plural for kind in OWN_KINDS}
        try:
            groups = await self._connection.request("GET", "/apis", kind="APIGroupList")
            if names.GROUP not in {group["name"] for group in groups["groups"]}:
                return f"the API server does not list the group {names.GROUP}: apply the chart's CRDs"
            served = await self._connection.request("GET", f"/apis/{names.API_VERSION}", kind="APIResourceList")
        except ApiError as error:
            return f"the API server does not serve {names.API_VERSION} yet: {error}"
        missing = wanted - {resource["name"] for resource in served["resources"]}
        return f"the CustomResourceDefinitions of {', '.join(sorted(missing))} are missing" if missing else ""

    async def _fill(self) -> None:
        while not self._sync.filled.is_set():
            try:
                await self._sync.fill()
            except ClusterError as error:
                if str(error) != self._fill_problem:
                    logger.warning("Listing: %s; tried again", error)
                self._fill_problem = str(error)
                await asyncio.sleep(RETRY_SECONDS)
        logger.info("The view is filled")

    async def _check_schemas(self) -> None:
        """Keep knowing whether the CRDs in the cluster are those that this program was built with."""
        hashes = crd.schema_hashes()
        while True:
            problems = []
            for name, wanted in hashes.items():
                try:
                    found = await self._cluster.read("CustomResourceDefinition", "", name)
                except ClusterError as error:
                    problems.append(f"{name}: {error}")
                    continue
                annotations = (found or {}).get("metadata", {}).get("annotations") or {}
                if annotations.get(names.SCHEMA_HASH_ANNOTATION) != wanted:
                    problems.append(f"{name} is not of this version: apply the chart's CRDs")
            self._schema_problem = "; ".join(problems)
            await asyncio.sleep(SCHEMA_CHECK_SECONDS if not problems else RETRY_SECONDS)

    async def _lead(self) -> None:
        """Stand by, lead, and stand by again."""
        while True:
            await self._lease.acquire()
            await self._term()

    async def _term(self) -> None:
        """Reconcile and sweep while the Lease is ours."""
        self._reports.clear()
        pace = Pace(resync=self._settings.resync_seconds)
        queue = self._queue = Queue(self._controller.process, pace, self._settings.workers)
        for kind in OWN_KINDS:
            for obj in self._view.list(kind):
                queue.add(Key(kind, obj["metadata"]["namespace"], obj["metadata"]["name"]))
        working = asyncio.create_task(self._work_off(queue))
        sweeping = asyncio.create_task(
            sweep.run(self._cluster, self._settings.installation_name, self._settings.sweep_interval_seconds)
        )
        serving = asyncio.create_task(self.progress.run())
        keeping = asyncio.create_task(self._lease.keep())
        tasks: list[asyncio.Task[None]] = [working, sweeping, serving, keeping]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            sweeping.cancel()
            serving.cancel()
            queue.stop()
            await asyncio.wait([working], timeout=STOP_SECONDS)
            self._queue = None
            working.cancel()
            keeping.cancel()
            await asyncio.wait(tasks)
        for task in tasks:
            if not task.cancelled() and (error := task.exception()) is not None:
                raise error

    async def _work_off(self, queue: Queue) -> None:
        # The pods of a Job are told where to report when it is made, or never.
        await self.progress.tried()
        await queue.run()

    def _observed(self, type_: str | None, obj: RawObject) -> None:
        """An event of a watch stream."""
        if type_ is not None:
            self._sync.heard(obj["kind"])
        if type_ == "DELETED":
            self._view.forget(obj["kind"], obj["metadata"])
            return
        self._view.observe(obj)
        if type_ is None:
            self._sync.listed_again(obj["kind"])

    def _changed(self, before: RawObject | None, after: RawObject | None, own: bool) -> None:
        if self._queue is not None:
            for key in routing.keys(self._view, before, after, own=own):
                self._queue.add(key, calm=routing.is_calm(key, before, after))

    def _routing_changed(self) -> None:
        if self._queue is not None:
            for key in routing.routed(self._view):
                self._queue.add(key)

    def _wake(self, key: Key) -> None:
        """What a reconcile asked for, or a pod told, has come in."""
        if self._queue is not None:
            self._queue.add(key)

    def _announce(self, server: installation.ProgressServer) -> None:
        self._controller.inform(replace(self._settings.installation(), progress=server))

    def _count_query(self, result: str) -> None:
        self._metrics.analysis_queries.labels(result).inc()

    def _count_note(self, kind: str, note: Note) -> None:
        if note.type == "Warning" and note.reason in _FAILURE_REASONS:
            self._metrics.verification_failures.labels(note.reason).inc()

    def _unhealthy(self) -> str:
        if self._watch.ended.done():
            return "the watch streams ended"
        dead = self._sync.dead_streams()
        return f"the watch streams of {', '.join(dead)} bring no news" if dead else ""

    def _unready(self) -> str:
        if not self._sync.filled.is_set():
            return f"the view is not filled yet; {self._fill_problem or self._schema_problem}"
        return self._schema_problem


def _utc_now() -> datetime:
    return datetime.now(UTC)


async def build(chosen: settings.Settings, reconcilers: Mapping[str, Reconcile]) -> Application:
    """A replica that talks to the cluster of ``KUBECONFIG`` or of the pod it runs in."""
    return Application(chosen, reconcilers, await load_configuration())
