"""The operator as a whole in a thread of the test's process: stopped and started at any time, and what it wrote."""

import asyncio
import json
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from modelfleet import application
from modelfleet.reconcile.context import Reconcile
from modelfleet.settings import ProgressSetting, Settings
from tests.objects import RawObject
from tests.replicas import QUICK

PROGRESS = "modelfleet-progress"
POD_ADDRESS = "10.11.12.13"


def progress(namespace: str) -> list[RawObject]:
    """The Service and the Secret by which training pods find and trust the leader, as the chart brings them."""
    metadata = {"name": PROGRESS, "namespace": namespace}
    ports = [{"name": "progress", "port": 8443, "protocol": "TCP"}]
    return [
        {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": {"ports": ports}},
        {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "type": "Opaque"},
    ]


def told() -> ProgressSetting:
    """Settings that go with :func:`progress`."""
    return ProgressSetting(service=PROGRESS, secret=PROGRESS, host="127.0.0.1", port=0, address=POD_ADDRESS)


def settings(name: str, namespace: str) -> Settings:
    """Settings of an installation of this name, whose Lease is in this namespace."""
    return Settings(
        installation_name=name,
        namespace=namespace,
        runtime_image="modelfleet/runtime:none",
        http_host="127.0.0.1",
        http_port=0,
        lease=QUICK,
    )


@dataclass
class Operator:
    """The operator, on the cluster that KUBECONFIG names when it starts."""

    settings: Settings
    reconcilers: Mapping[str, Reconcile]
    audit_log: Path
    loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.new_event_loop)
    stopping: asyncio.Event = field(default_factory=asyncio.Event)
    thread: threading.Thread | None = None
    problem: BaseException | None = None

    def start(self) -> None:
        self.loop, self.stopping = asyncio.new_event_loop(), asyncio.Event()
        self.thread = threading.Thread(target=self._run)
        self.thread.start()

    def stop(self) -> None:
        if self.thread is not None:
            self.loop.call_soon_threadsafe(self.stopping.set)
            self.thread.join()
            self.thread = None
        assert self.problem is None, self.problem

    def writes(self) -> list[RawObject]:
        """Its write requests so far, its Lease's apart, from the audit log."""
        lines = self.audit_log.read_text().splitlines()
        requests = [json.loads(line) for line in lines if "modelfleet-operator/" in line and "/leases" not in line]
        return [each for each in requests if each["verb"] not in ("get", "list", "watch")]

    def _run(self) -> None:
        async def operate() -> None:
            replica = await application.build(self.settings, self.reconcilers)
            await replica.run(self.stopping)

        try:
            self.loop.run_until_complete(operate())
        except Exception as error:
            self.problem = error
        finally:
            self.loop.close()
