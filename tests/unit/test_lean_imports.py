"""The operator's program loads nothing of Kubernetes' package that it does not use; what is asked for is there."""

import subprocess
import sys

import pytest

UNWANTED = ("requests", "oauthlib", "google.auth", "websocket")


def _run(code: str) -> str:
    """What a fresh interpreter prints: this one has long imported everything."""
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout


def test_the_program_starts_without_what_it_does_not_use() -> None:
    code = f"import sys, modelfleet.__main__; print([each for each in {UNWANTED} if each in sys.modules])"
    assert _run(code) == "[]\n"


def test_without_it_they_are_loaded() -> None:
    """Else ``lean_imports.py`` has had its day."""
    code = f"import sys, kubernetes.aio; print([each for each in {UNWANTED} if each in sys.modules])"
    assert _run(code) == f"{list(UNWANTED)}\n"


@pytest.mark.parametrize(
    "what",
    ["kubernetes.config.load_kube_config", "kubernetes.aio.watch.Watch", "kubernetes.dynamic.DynamicClient"],
)
def test_what_is_asked_for_is_there(what: str) -> None:
    assert what.rpartition(".")[2] in _run(f"import modelfleet.__main__, kubernetes; print({what}.__name__)")
