"""Importing this has what the Kubernetes package would import besides, and nobody uses, wait until it is used.

``import kubernetes.aio`` runs ``kubernetes/__init__.py`` first, which imports every part of the synchronous client, and
with them Requests, OAuthlib, Google's credentials and a WebSocket client: three hundred modules, an eighth of the
memory of an operator that has just started. They are loaded when something in them is looked up, as ever
(``importlib.util.LazyLoader``; PEP 810 makes it a part of the language).
"""

import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import LazyLoader
from types import ModuleType
from typing import Final

UNUSED: Final = frozenset(
    {
        *(
            f"kubernetes.{part}"
            for part in ("config", "dynamic", "informer", "leaderelection", "stream", "utils", "watch")
        ),
        *(f"kubernetes.aio.{part}" for part in ("dynamic", "leaderelection", "stream", "watch")),
    }
)


class LazyFinder(MetaPathFinder):
    """Finds the unused modules, to be loaded when something in them is looked up; the others it leaves to Python."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """As Python's own, with another loader."""
        spec = PathFinder.find_spec(fullname, path, target) if fullname in UNUSED else None
        if spec is not None and spec.loader is not None:
            spec.loader = LazyLoader(spec.loader)
        return spec


sys.meta_path.insert(0, LazyFinder())
