"""The CRDs of other projects, as these publish them: files in Go modules, put into a cluster.

The versions are those that a ``go.mod`` below ``go/`` names, so what is built from there fits them.
"""

import json
from collections.abc import Iterable
from pathlib import Path

from e2e.cluster import programs, toolchain
from e2e.cluster.commands import Report, run, wait_until
from e2e.kubectl import Kubectl, KubectlError


def istio(report: Report = lambda _: None) -> list[Path]:
    """The file with all CRDs of Istio."""
    return [module("istio", "istio.io/api", report) / "kubernetes" / "customresourcedefinitions.gen.yaml"]


def gateway_api(report: Report = lambda _: None) -> list[Path]:
    """The files with the CRDs of the Gateway API's standard channel, one a kind.

    The admission policy that lies beside them is left out: it only guards against mixing the channels.
    """
    folder = module("istio", "sigs.k8s.io/gateway-api", report) / "config" / "crd" / "standard"
    return sorted(each for each in folder.glob("gateway.networking.k8s.io_*.yaml") if "_vap_" not in each.name)


def kueue(report: Report = lambda _: None) -> list[Path]:
    """The files with the CRDs of Kueue, one a kind."""
    return sorted((module("kueue", "sigs.k8s.io/kueue", report) / "config" / "components" / "crd" / "bases").iterdir())


def install(kubectl: Kubectl, files: Iterable[Path]) -> None:
    """Apply the CRDs in these files and wait until the API server serves them; any number of times."""
    words = [f"--filename={file}" for file in files]
    # Some are larger than what client-side apply can note on an object.
    kubectl("apply", "--server-side", "--force-conflicts", *words)

    def are_served() -> bool:
        try:
            kubectl("wait", "--for=condition=Established", "--timeout=60s", *words)
        except KubectlError as error:
            # One that was made this very moment has no conditions yet, which kubectl takes for an error.
            if "accessor error" not in str(error):
                raise
            return False
        return True

    wait_until(are_served, "the CRDs to be served", 60)


def module(folder: str, path: str, report: Report) -> Path:
    """Where a module of ``go/<folder>`` lies in Go's cache, downloaded and checked against go.sum first if need be."""
    command = (toolchain.go(report), "mod", "download", "-json", path)
    directory: str = json.loads(run(*command, folder=programs.SOURCES / folder))["Dir"]
    return Path(directory)
