"""An API server with our CRDs and nobody who acts on them: what it says to a document is all that counts here."""

import hashlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from e2e.kubectl import Kubectl
from tests.plane import control_plane_without_nodes

CRDS = Path(__file__).parents[3] / "crds"


@pytest.fixture(scope="package")
def dry_run(say: Callable[[str], None]) -> Iterator[Kubectl]:
    """For calls that leave nothing behind, and so need no namespace of their own."""
    with control_plane_without_nodes(f"api-{os.getpid()}") as plane:
        plane.kubectl("apply", "-f", str(CRDS))
        plane.kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=180s")
        say("ran on: an API server with our CRDs")
        yield plane.kubectl.within("default")


@pytest.fixture
def kubectl(dry_run: Kubectl, request: pytest.FixtureRequest) -> Iterator[Kubectl]:
    """For calls that leave objects behind: in a namespace of the test's own."""
    name = f"api-{hashlib.sha256(request.node.nodeid.encode()).hexdigest()[:8]}"
    dry_run("create", "namespace", name)
    yield dry_run.within(name)
    dry_run("delete", "namespace", name, "--wait=false")
