"""What is begun beside the first tests because a later one needs it, and it takes minutes."""

import threading
from collections.abc import Callable

import pytest

from e2e.cluster import control_plane, programs


@pytest.fixture(scope="session", autouse=True)
def kueue_built_beside(request: pytest.FixtureRequest, say: Callable[[str], None]) -> None:
    """Begin to build Kueue, minutes the first time, as soon as what all tests wait for is built."""
    asked = {name for item in request.session.items for name in getattr(item, "fixturenames", ())}
    if "queues" in asked:
        needed = (*control_plane.PARTS, "kubectl", "kueue")
        threading.Thread(target=programs.provide, args=(needed, say), daemon=True).start()
